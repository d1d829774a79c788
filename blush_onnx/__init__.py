"""Blush regularisation of cryo-EM maps on NumPy and ONNX Runtime, without PyTorch.

Load a model once, then turn half-maps into references::

    from blush_onnx import Denoiser, regularise

    denoiser = Denoiser.load()
    result = regularise(half_map_1, half_map_2, voxel_size, denoiser=denoiser)
    result.reference_1, result.reference_2, result.cut_off_angstrom

Arrays go in and come out; files are read and written by the command line alone.
"""

from blush_onnx.denoiser import Denoiser
from blush_onnx.errors import (
    BlushError,
    EngineError,
    InputError,
    ModelError,
    OutOfMemoryError,
    OutputError,
)
from blush_onnx.fsc import FscCurves
from blush_onnx.model_config import ModelConfig
from blush_onnx.regularise import regularise, regularise_class, regularise_half
from blush_onnx.results import Denoised, Regularised, RegularisedClass, RegularisedHalf

__version__ = "0.1.0"

__all__ = [
    "BlushError",
    "Denoised",
    "Denoiser",
    "EngineError",
    "FscCurves",
    "InputError",
    "ModelConfig",
    "ModelError",
    "OutOfMemoryError",
    "OutputError",
    "Regularised",
    "RegularisedClass",
    "RegularisedHalf",
    "__version__",
    "regularise",
    "regularise_class",
    "regularise_half",
]
