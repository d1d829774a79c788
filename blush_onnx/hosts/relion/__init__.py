"""RELION 3.1 to 5: the jobs of its external reconstruction (docs/numerics.md, section 10).

Reading a job, reconstructing and denoising it, and what RELION needs around that;
``blush_onnx.cli.relion`` has the commands.
"""

from blush_onnx.hosts.relion.job import Job, read_job
from blush_onnx.hosts.relion.reconstruct import Reconstructions, reconstruct
from blush_onnx.hosts.relion.solve import Solution, solve

__all__ = ["Job", "Reconstructions", "Solution", "read_job", "reconstruct", "solve"]
