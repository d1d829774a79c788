"""One run of ``validate``: what was read, what was found, and what is said about it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blush_onnx.cli.loading import load_denoiser, read_masks, settings_of
from blush_onnx.cli.output_folder import OutputFolder
from blush_onnx.cli.page import write_page_beside
from blush_onnx.cli.terminal import echo, plot_fsc

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from blush_onnx.denoiser import Denoiser
    from blush_onnx.models import Model
    from blush_onnx.validation.findings import Validation
    from blush_onnx.validation.request import Denoising
    from blush_onnx.validation.validate import Told
    from blush_onnx.volume_io import MapFile

LABELS = {
    "solvent_mask.mrc": "blush-onnx {}: solvent mask made of the network's",
    "local_resolution.mrc": "blush-onnx {}: local resolution in Å",
    "spread.mrc": "blush-onnx {}: standard deviation over orientations",
}


def _maps(found: Validation) -> dict[str, npt.NDArray[np.float32] | None]:
    return {
        "solvent_mask.mrc": None if found.solvent_mask is None else found.solvent_mask.mask,
        "local_resolution.mrc": (
            None if found.local_resolution is None else found.local_resolution.map
        ),
        "spread.mrc": None if found.regularised is None else found.regularised.spread,
    }


class ValidateRun:
    """One run: what was read, what came out, and how long each part took."""

    def __init__(self, maps: tuple[Path, Path], options: dict[str, Any]) -> None:
        from blush_onnx import half_map_checks, volume_io

        self.options = options
        self.denoiser: Denoiser | None = None
        self.model: Model | None = None
        self.found: Validation
        start = time.perf_counter()
        self.inputs: list[MapFile] = [
            volume_io.read_map(path, options["voxel_size"]) for path in maps
        ]
        half_map_checks.check_halves(*self.inputs)
        self.warnings = list(filter(None, map(half_map_checks.denoised_already, self.inputs)))
        self.masks, self.mask_files = read_masks(options, self.inputs[0])
        self.seconds = {"read": time.perf_counter() - start}

    def compute(self, progress: Told) -> None:
        """Load the model, if one is wanted, and look at everything."""
        from blush_onnx.machine import available_cpus
        from blush_onnx.validation.model_map import origin_of
        from blush_onnx.validation.request import Checks
        from blush_onnx.validation.solvent_mask import MaskShape
        from blush_onnx.validation.validate import validate

        o = self.options
        start = time.perf_counter()
        denoising = None if o["no_network"] else self._denoising()
        self.seconds["load"] = time.perf_counter() - start
        start = time.perf_counter()
        first, second = self.inputs
        self.found = validate(
            first.data, second.data, first.voxel_size, mask=self.masks.get("fsc"),
            denoising=denoising,
            checks=Checks(
                o["local_resolution"], o["randomise_beyond"], o["repeats"], o["atomic_model"],
                o["like_relion"],
            ),
            mask_shape=MaskShape(o["mask_threshold"], o["mask_extend"], o["mask_soft_edge"]),
            origin=origin_of(first), workers=o["threads"] or available_cpus(), told=progress,
        )
        self.seconds |= self.found.seconds
        self.seconds["other"] = time.perf_counter() - start - sum(self.found.seconds.values())
        self.warnings += self.found.warnings

    def _denoising(self) -> Denoising:
        from blush_onnx.validation.request import Denoising

        o = self.options
        self.model, self.denoiser = load_denoiser(o)
        return Denoising(
            self.denoiser, self.masks.get("network"), self.masks.get("fsc"),
            o["particle_diameter"], None, not o["no_spectral_trailing"], o["stride"],
            o["rotations"],
        )

    def write(self, folder: OutputFolder) -> None:
        """Write maps, tables and reports to their staged places."""
        from blush_onnx import __version__, volume_io
        from blush_onnx.report import fsc_files, record
        from blush_onnx.report.page import write_page
        from blush_onnx.report.validating import validation_content
        from blush_onnx.report.validation_record import validation_record

        found = self.found
        for name, data in _maps(found).items():
            if data is not None and name in folder.names:
                label = LABELS[name].format(__version__)
                volume_io.write_map(folder.path(name), data, self.inputs[0], label)
            elif name in folder.names:
                folder.withdraw(name)  # no mask could be made: the warning says why
        curves = fsc_files.named_curves(found.fsc, found.model_curve)
        length = found.fsc.box_size * found.fsc.voxel_size
        folder.write_text("fsc.csv", fsc_files.as_csv(*fsc_files.curve_rows(curves, length)))
        folder.write_text("fsc.xml", fsc_files.as_emdb_xml(found.fsc))
        written = validation_record(
            inputs=self.inputs, masks=self.mask_files,
            settings=settings_of(self.options),
            denoiser=self.denoiser, model=self.model, found=found, files=folder.names,
            seconds=self.seconds, warnings=self.warnings,
        )
        halves = self.inputs[0].data, self.inputs[1].data
        write_page_beside(
            folder, written, self.warnings,
            lambda: write_page(validation_content(written, found, halves)),
        )
        folder.write_text("report.json", record.as_json(written))

    def print_table(self, folder: OutputFolder) -> None:
        """The curves as a sketch, and what each test came to."""
        from blush_onnx.report import fsc_files
        from blush_onnx.resolution import in_angstrom

        found = self.found
        plot_fsc(found.fsc, fsc_files.named_curves(found.fsc, found.model_curve))
        mask = {
            "given": "the mask given", "network": "a mask made of the network's", None: "no mask"
        }
        rows = [
            ("Resolution", f"{in_angstrom(found.fsc.resolution())} (FSC 0.143), "
             f"{in_angstrom(found.fsc.resolution(0.5))} (0.5), under {mask[found.mask_source]}"),
        ]
        if found.local_resolution is not None:
            low, middle, high = found.local_resolution.quartiles
            rows.append(("Local resolution", f"{low:.2f}, {middle:.2f}, {high:.2f} Å (quartiles)"))
        rows += [(v.test, f"{v.outcome}: {v.text}") for v in found.verdicts]
        rows.append(("Seconds", ", ".join(f"{k} {v:.1f}" for k, v in self.seconds.items())))
        rows.append(("Files", f"{folder.folder}: {', '.join(folder.names)}"))
        for name, text in rows:
            echo(f"{name:<30} {text}")
