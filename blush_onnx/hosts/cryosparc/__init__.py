"""cryoSPARC 4.7 and 5, through cryosparc-tools of the same version (docs/cryosparc.md).

Half-maps of a refinement as the inputs of an External job, denoised maps as its outputs, and
rounds of refinements that start from them; ``blush_onnx.cli.cryosparc`` has the commands.
"""

from blush_onnx.hosts.cryosparc.connect import CryosparcError, Session, open_session
from blush_onnx.hosts.cryosparc.external import Done, denoise_job
from blush_onnx.hosts.cryosparc.facts import Access
from blush_onnx.hosts.cryosparc.rounds import Plan, Round, run_rounds
from blush_onnx.hosts.cryosparc.source import Source, choose_source
from blush_onnx.hosts.cryosparc.work import Request

__all__ = [
    "Access",
    "CryosparcError",
    "Done",
    "Plan",
    "Request",
    "Round",
    "Session",
    "Source",
    "choose_source",
    "denoise_job",
    "open_session",
    "run_rounds",
]
