"""The half-maps of a volume into two references, by ``blush-onnx denoise``."""

import json
import shlex
from enum import Enum
from pathlib import Path

from pwem.objects import Transform, Volume, VolumeMask
from pwem.protocols import EMProtocol
from pyworkflow.constants import BETA
from pyworkflow.protocol import params

from .. import Plugin

PROVIDERS = ["auto", "cpu", "openvino", "cuda"]
WITHOUT_CARDS = ("cpu", "openvino")
QUALITIES = ["reference", "balanced", "fast"]
FILES = {
    "outputVolume": "denoised.mrc", "reference1": "denoised_1.mrc",
    "reference2": "denoised_2.mrc", "networkMask": "mask.mrc",
}


class Outputs(Enum):
    """What the protocol makes. None of the volumes carries half-maps."""

    outputVolume = Volume
    reference1 = Volume
    reference2 = Volume
    networkMask = VolumeMask


class ProtBlushOnnxDenoise(EMProtocol):
    """Denoise the two half-maps of a volume by Blush regularisation.

    Each half is denoised on its own and kept up to the resolution where the two agree. The
    results are references for refinement and maps to look at. They are not half-maps: do not
    deposit them as such, and do not take an FSC between them.
    """

    _label = "blush denoise half-maps"
    _devStatus = BETA
    _possibleOutputs = Outputs

    def _defineParams(self, form):
        form.addHidden(
            params.USE_GPU, params.BooleanParam, default=True, label="Use a card?",
            help="No: the CPU, unless a provider is chosen. Yes: a card where there is one.",
        )
        form.addHidden(params.GPU_LIST, params.StringParam, default="0", label="Cards")
        form.addSection(label="Input")
        form.addParam(
            "inputVolume", params.PointerParam, pointerClass="Volume", important=True,
            label="Volume with half-maps",
            help="Its half-maps must be as refinement wrote them: unfiltered, unmasked and "
            "unsharpened.",
        )
        form.addParam(
            "fscMask", params.PointerParam, pointerClass="VolumeMask", allowsNull=True,
            label="Solvent mask for the FSC",
            help="Only the FSC sees it, which is then corrected by phase randomisation, and "
            "decides the cut-off.",
        )
        form.addParam(
            "denoiseMask", params.PointerParam, pointerClass="VolumeMask", allowsNull=True,
            label="Where the network looks", expertLevel=params.LEVEL_ADVANCED,
            help="Replaces the sphere outside which nothing is denoised.",
        )
        form.addParam(
            "particleDiameter", params.FloatParam, allowsNull=True,
            label="Particle diameter (Å)",
            help="Diameter of that sphere. Empty: the largest in the box.",
        )
        form.addParam(
            "quality", params.EnumParam, choices=QUALITIES, default=0, label="Quality",
            help="How densely the patches lie: balanced and fast take fewer.",
        )
        form.addParam(
            "model", params.StringParam, default="", label="Model",
            expertLevel=params.LEVEL_ADVANCED,
            help="A registered name, a folder or an .onnx file. Empty: the default.",
        )
        form.addParam(
            "provider", params.EnumParam, choices=PROVIDERS, default=0, label="Provider",
            expertLevel=params.LEVEL_ADVANCED, help="What evaluates the network.",
        )
        form.addParam(
            "doReport", params.BooleanParam, default=True, label="Write a report?",
            expertLevel=params.LEVEL_ADVANCED,
            help="One page of pictures, curves and settings, which Analyse results opens.",
        )
        form.addParallelSection(threads=4, mpi=0)

    def _insertAllSteps(self):
        self._insertFunctionStep(self.denoiseStep)
        self._insertFunctionStep(self.createOutputStep)

    def denoiseStep(self):
        """Run the command, whose error then stands in the protocol's log."""
        self.runJob(
            shlex.quote(Plugin.getProgram()), shlex.join(self.getArguments()),
            env=Plugin.getEnviron(), numberOfMpi=1, numberOfThreads=1,
        )

    def createOutputStep(self):
        """Register the maps."""
        source = self.inputVolume.get()
        outputs = {}
        for name, file_name in FILES.items():
            volume = Outputs[name].value()
            volume.setFileName(self._getExtraPath(file_name))
            volume.setSamplingRate(source.getSamplingRate())
            if source.hasOrigin():
                origin = Transform()  # each its own, or Scipion cannot store them
                origin.copy(source.getOrigin())
                volume.setOrigin(origin)
            outputs[name] = volume
        self._defineOutputs(**outputs)
        for volume in outputs.values():
            self._defineSourceRelation(self.inputVolume, volume)

    def getArguments(self):
        """Arguments of ``blush-onnx``, as a list."""
        source = self.inputVolume.get()
        provider = self.getEnumText("provider")
        if provider == "auto" and not self.useGpu.get():
            provider = "cpu"
        arguments = [
            "denoise", *halves_of(source), "--out", self._getExtraPath(), "--overwrite",
            "--voxel-size", str(source.getSamplingRate()),
            "--quality", self.getEnumText("quality"), "--provider", provider,
            "--threads", str(self.numberOfThreads.get()),
        ]
        cards = ",".join(map(str, self.getGpuList()))
        if cards and provider not in WITHOUT_CARDS:  # which the program would refuse
            arguments += ["--device", cards]
        for option, mask in (("--mask", self.fscMask), ("--denoise-mask", self.denoiseMask)):
            if mask.get() is not None:
                arguments += [option, path_of(mask.get().getFileName())]
        if self.particleDiameter.hasValue():
            arguments += ["--particle-diameter", str(self.particleDiameter.get())]
        if self.model.get():
            arguments += ["--model", self.model.get()]
        return [*arguments, "--report"] if self.doReport.get() else arguments

    def getRecord(self):
        """The run's report.json; None before there is one."""
        path = Path(self._getExtraPath("report.json"))
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def _validate(self):
        source = self.inputVolume.get()
        if source is not None and len(halves_of(source)) != 2:
            return [
                "The volume has no half-maps. Take one from a refinement, or import it anew and "
                "set both half-maps."
            ]
        return []

    def _summary(self):
        record = self.getRecord()
        if record is None:
            return ["Not finished."]
        cut_off = record["cut_off"]
        kept = f"{cut_off['angstrom']:.2f} Å" if cut_off["spectral_trailing"] else "none"
        return [f"Cut-off: {kept}", f"Model: {record['model']['name']}", record["note"],
                *(f"Warning: {warning}" for warning in record["warnings"])]

    def _methods(self):
        record = self.getRecord()
        if record is None:
            return []
        return [
            f"Half-maps were denoised with blush-onnx {record['versions']['blush-onnx']} and the "
            f"model {record['model']['name']} [Kimanius2024]."
        ]

    def _citations(self):
        return ["Kimanius2024"]


def halves_of(volume):
    """Paths of a volume's half-maps; an empty list where it has none."""
    if not volume.hasHalfMaps():
        return []
    return [path_of(name) for name in volume.getHalfMaps(asList=True)]


def path_of(name):
    """A plain path: Scipion marks volumes in MRC files with ``:mrc``."""
    return name[:-4] if name.endswith(":mrc") else name
