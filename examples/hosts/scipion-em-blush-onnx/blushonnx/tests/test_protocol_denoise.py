"""The protocol on two small half-maps, with the program that is installed."""

import os
from pathlib import Path

import mrcfile
import numpy as np
from pwem.objects import Volume
from pwem.protocols import ProtImportMask, ProtImportVolumes
from pyworkflow.tests import BaseTest, setupTestProject

from blushonnx.protocols import ProtBlushOnnxDenoise

SIDE, SAMPLING = 40, 2.0
MODEL = os.environ.get("BLUSH_ONNX_TEST_MODEL", "")


def write_map(name, values):
    """A map in the project's folder."""
    with mrcfile.new(name, overwrite=True) as mrc:
        mrc.set_data(values.astype(np.float32))
        mrc.voxel_size = SAMPLING
    return str(Path(name).absolute())


def half_map(seed):
    """A ball in white noise."""
    axis = np.arange(SIDE) - SIDE // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    ball = np.exp(-(z**2 + y**2 + x**2) / 2 / (SIDE / 8) ** 2)
    return ball + np.random.default_rng(seed).normal(0, 0.3, ball.shape)


def errors_of(protocol):
    """What a protocol's programs wrote to stderr."""
    return Path(protocol.getLogPaths()[1]).read_text(encoding="utf-8")


class TestBlushOnnxDenoise(BaseTest):
    """Import a volume with half-maps, denoise them, look at what comes out."""

    @classmethod
    def setUpClass(cls):
        setupTestProject(cls)
        halves = [write_map(f"half{i}.mrc", half_map(i)) for i in (1, 2)]
        whole = write_map("whole.mrc", half_map(1) + half_map(2))
        mask = np.zeros((SIDE,) * 3)
        mask[6:34, 6:34, 6:34] = 1
        cls.mask = write_map("mask.mrc", mask)
        imported = cls.newProtocol(
            ProtImportVolumes, filesPath=whole, samplingRate=SAMPLING, setHalfMaps=True,
            half1map=halves[0], half2map=halves[1],
        )
        cls.launchProtocol(imported)
        cls.volume = imported.outputVolume

    def importMask(self, path):
        """A mask that was imported from a file."""
        protocol = self.newProtocol(ProtImportMask, maskPath=path, samplingRate=SAMPLING)
        self.launchProtocol(protocol)
        return protocol.outputMask

    def test_denoises_the_half_maps_of_a_volume(self):
        protocol = self.newProtocol(
            ProtBlushOnnxDenoise, inputVolume=self.volume, fscMask=self.importMask(self.mask),
            particleDiameter=60, model=MODEL, useGpu=False, gpuList="1", numberOfThreads=1,
        )
        self.launchProtocol(protocol)
        for name in ("outputVolume", "reference1", "reference2", "networkMask"):
            output = getattr(protocol, name)
            self.assertEqual(output.getDim(), (SIDE,) * 3)
            self.assertEqual(output.getSamplingRate(), SAMPLING)
            self.assertFalse(output.hasHalfMaps(), name)
            origins = [v.getOrigin().getShifts() for v in (output, self.volume)]
            self.assertEqual(*origins)
        with mrcfile.open(protocol.reference1.getFileName()) as mrc:
            self.assertAlmostEqual(float(mrc.voxel_size.x), SAMPLING, places=4)
            self.assertFalse(np.array_equal(mrc.data, half_map(1).astype(np.float32)))
        record = protocol.getRecord()
        self.assertIn("solvent_corrected", record["fsc"]["curves"])
        self.assertEqual(record["settings"]["particle_diameter"], 60)
        self.assertEqual(record["engine"]["provider"], "cpu")
        self.assertTrue(any("not half-maps" in line for line in protocol.summary()))
        self.assertTrue(Path(protocol._getExtraPath("report.html")).exists())
        self.assertNotIn("Traceback", errors_of(protocol))

    def test_refuses_a_volume_without_half_maps(self):
        protocol = self.newProtocol(ProtBlushOnnxDenoise, inputVolume=Volume("whole.mrc"))
        self.assertIn("no half-maps", " ".join(protocol.validate()))

    def test_fails_with_the_reason_in_its_log(self):
        small = write_map("small.mrc", np.ones((32,) * 3))
        protocol = self.newProtocol(
            ProtBlushOnnxDenoise, inputVolume=self.volume, model=MODEL,
            fscMask=self.importMask(small), doReport=False,
        )
        self.proj.launchProtocol(protocol, wait=True)
        self.assertTrue(protocol.isFailed())
        self.assertIn("Error: the mask", errors_of(protocol))
        self.assertFalse(hasattr(protocol, "outputVolume"))
