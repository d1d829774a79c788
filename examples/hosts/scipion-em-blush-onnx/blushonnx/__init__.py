"""Plugin of Scipion for blush-onnx: where the program is, and how it gets there."""

import os

import pwem
from pyworkflow import VarTypes
from pyworkflow.utils import Environ

__version__ = "0.1.0"
_references = ["Kimanius2024"]

PROGRAM = "BLUSH_ONNX_PROGRAM"
RUNTIME = "BLUSH_ONNX_RUNTIME"
VERSION = "0.1.0"
PACKAGE = "blushonnx"
"""The program's name for ``installb``, which takes what follows a hyphen for the version."""
COMMAND = "env/bin/blush-onnx"
"""Where it is, in the folder that Scipion makes for a program."""


class Plugin(pwem.Plugin):
    """Variables of Scipion's configuration, and the installation of the program."""

    _url = "https://doi.org/10.1038/s41592-024-02304-8"
    _supportedVersions = [VERSION]
    _pathVars = [PROGRAM]

    @classmethod
    def _defineVariables(cls):
        cls._defineEmVar(
            PROGRAM, f"{PACKAGE}-{VERSION}/{COMMAND}",
            description="The command blush-onnx, in an environment of its own.",
            var_type=VarTypes.PATH,
        )
        cls._defineVar(
            RUNTIME, "cpu",
            description="What evaluates the network, when it is installed: cpu, openvino (fastest "
            "on x86), gpu (CUDA 13) or gpu-cuda12.",
            var_type=VarTypes.STRING,
        )

    @classmethod
    def getProgram(cls):
        """Path of the command ``blush-onnx``."""
        return cls.getVar(PROGRAM)

    @classmethod
    def getEnviron(cls):
        """The environment without what would lead the program to Scipion's packages."""
        environ = Environ(os.environ)
        for name in ("PYTHONPATH", "PYTHONHOME"):
            environ.pop(name, None)
        return environ

    @classmethod
    def defineBinaries(cls, env):
        """One environment, with Python from conda, for Scipion's own may be too old."""
        extras = f"{cls.getVar(RUNTIME)},report"
        activation = cls.getCondaActivationCmd() or ""  # which brings conda into PATH
        command = (
            f"{activation} conda create -y -p env python=3.12 pip && "
            f"env/bin/python -m pip install 'blush-onnx[{extras}]=={VERSION}'"
        )
        env.addPackage(
            PACKAGE, version=VERSION, tar="void.tgz", default=True,
            neededProgs=[] if activation else ["conda"], commands=[(command, COMMAND)],
        )
