"""One run of ``denoise``: what was read, what came out, and what is said about it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blush_onnx.cli.loading import load_denoiser, read_masks, settings_of
from blush_onnx.cli.output_folder import OutputFolder
from blush_onnx.cli.page import PAGE, write_page_beside

if TYPE_CHECKING:
    from blush_onnx import Denoiser, Regularised, RegularisedClass
    from blush_onnx.denoiser import Progress
    from blush_onnx.models import Model
    from blush_onnx.volume_io import MapFile

SPREAD_FILE = "spread.mrc"
REFERENCE_LABEL = "blush-onnx {}: denoised reference, no half-map; not for deposition or FSC"
MASK_LABEL = "blush-onnx {}: solvent mask of the network"
SPREAD_LABEL = "blush-onnx {}: standard deviation over orientations"


class DenoiseRun:
    """One run: what was read, what came out, and how long each part took."""

    def __init__(self, maps: tuple[Path, ...], options: dict[str, Any]) -> None:
        from blush_onnx import half_map_checks, volume_io

        self.options = options
        self.seconds: dict[str, float] = {}
        self.warnings: list[str] = []
        self.result: Regularised | RegularisedClass
        self.denoiser: Denoiser
        self.model: Model
        start = time.perf_counter()
        self.inputs: list[MapFile] = [
            volume_io.read_map(path, options["voxel_size"]) for path in maps
        ]
        if len(maps) == 2:
            half_map_checks.check_halves(*self.inputs)
        self.warnings += filter(None, map(half_map_checks.denoised_already, self.inputs))
        self.masks, self.mask_files = read_masks(options, self.inputs[0])
        self.seconds["read"] = time.perf_counter() - start

    def compute(self, progress: Progress) -> None:
        """Load the model and denoise."""
        from blush_onnx import regularise, regularise_class
        from blush_onnx.half_map_checks import half_map_warnings

        start = time.perf_counter()
        o = self.options
        self.model, self.denoiser = load_denoiser(o)
        self.seconds["load"] = time.perf_counter() - start

        start = time.perf_counter()
        arrays = [source.data for source in self.inputs]
        size = self.inputs[0].voxel_size
        shared: dict[str, Any] = {
            "denoiser": self.denoiser, "stride": o["stride"], "cut_off": o["cut_off"],
            "particle_diameter": o["particle_diameter"], "progress": progress,
            "rotations": o["rotations"],
            "mask": self.masks.get("network"),
        }
        if len(arrays) == 2:
            halves = regularise(
                arrays[0], arrays[1], size, fsc_mask=self.masks.get("fsc"),
                spectral_trailing=not o["no_spectral_trailing"], **shared,
            )
            self.result = halves
            self.warnings += half_map_warnings(
                arrays[0], arrays[1], halves.fsc, cut_off=o["cut_off"]
            )
        else:
            self.result = regularise_class(arrays[0], size, **shared)
        self.warnings += self.result.warnings
        if not self.denoiser.config.has_mask:
            self.warnings.append(
                f"the model {self.model.config.name} sees no solvent mask: mask.mrc is 1 everywhere"
            )
        self.seconds["denoise"] = time.perf_counter() - start

    def write(self, folder: OutputFolder) -> None:
        """Write maps and report to their staged places."""
        from blush_onnx import Regularised, __version__, volume_io
        from blush_onnx.report import record

        start = time.perf_counter()
        result = self.result
        if PAGE in folder.names:
            self.warnings += self._directions()
        maps = {"mask.mrc": result.solvent_mask}
        if isinstance(result, Regularised):
            maps |= {
                "denoised_1.mrc": result.reference_1,
                "denoised_2.mrc": result.reference_2,
                "denoised.mrc": result.average,
            }
        else:
            maps["denoised.mrc"] = result.map
        if result.spread is not None:
            maps[SPREAD_FILE] = result.spread
        for name, data in maps.items():
            label = {"mask.mrc": MASK_LABEL, SPREAD_FILE: SPREAD_LABEL}.get(name, REFERENCE_LABEL)
            like = self.inputs[1 if name == "denoised_2.mrc" else 0]
            volume_io.write_map(folder.path(name), data, like, label.format(__version__))
        self.seconds["write"] = time.perf_counter() - start
        found = record.denoise_record(
            inputs=self.inputs, masks=self.mask_files,
            settings=settings_of(self.options),
            denoiser=self.denoiser, model=self.model, result=result, files=folder.names,
            seconds=self.seconds, warnings=self.warnings,
        )
        if PAGE in folder.names:
            write_page_beside(folder, found, self.warnings, lambda: self._page(found))
        folder.write_text("report.json", record.as_json(found))

    def _directions(self) -> list[str]:
        """A warning where the half-maps' resolution depends on the direction."""
        from blush_onnx.validation.anisotropy import anisotropy_warning, directional_fsc

        if len(self.inputs) == 1:
            return []
        first, second = self.inputs
        warning = anisotropy_warning(
            directional_fsc(
                first.data, second.data, first.voxel_size, self.masks.get("fsc")
            )
        )
        return [] if warning is None else [warning]

    def _page(self, found: dict[str, Any]) -> str:
        """The report that people look at."""
        import numpy as np

        from blush_onnx import Regularised
        from blush_onnx.report.denoising import denoise_content
        from blush_onnx.report.maps import ReportMaps
        from blush_onnx.report.page import write_page

        result = self.result
        first, last = self.inputs[0].data, self.inputs[-1].data
        maps = ReportMaps(
            before=first if first is last else np.float32(0.5) * (first + last),
            after=result.average if isinstance(result, Regularised) else result.map,
            voxel_size=self.inputs[0].voxel_size,
            solvent_mask=result.solvent_mask,
            cut_off_angstrom=result.cut_off_angstrom,
            cut_off_applied=found["cut_off"].get(
                "spectral_trailing", found["cut_off"]["source"] == "option"
            ),
            fsc_mask=self.masks.get("fsc"),
            fsc=result.fsc if isinstance(result, Regularised) else None,
            spread=result.spread,
        )
        return write_page(denoise_content(found, maps))

    def print_table(self, folder: OutputFolder) -> None:
        """A few lines on what was done."""
        from blush_onnx import Regularised
        from blush_onnx.resolution import in_angstrom

        result, engine = self.result, self.denoiser.engine.description
        network = result.network
        rows: list[tuple[str, str]] = []
        count = len(self.inputs)
        if isinstance(result, Regularised):
            kind = "solvent-corrected" if result.fsc.corrected is not None else "unmasked"
            reached = in_angstrom(result.fsc.resolution())
            rows.append(("Resolution before", f"{reached} (FSC 0.143, {kind})"))
        rows += [
            ("Cut-off", self._cut_off_text()),
            ("Patches", f"{count * network.patches} ({count * network.patches_skipped} skipped)"),
            *self._rotations_row(),
            ("Model", f"{self.model.config.name} ({self.model.path.parent})"),
            ("Engine", f"{engine.library}, {engine.provider} ({engine.reason})"),
            ("Seconds", ", ".join(f"{k} {v:.1f}" for k, v in self.seconds.items())),
            ("Files", f"{folder.folder}: {', '.join(folder.names)}"),
        ]
        for name, text in rows:
            click.echo(f"{name:<18} {text}")

    def _rotations_row(self) -> list[tuple[str, str]]:
        count = self.options["rotations"]
        if count == 1:
            return []
        return [("Rotations", f"{count} orientations averaged, {count} times the time of one")]

    def _cut_off_text(self) -> str:
        from blush_onnx import Regularised

        result = self.result
        shell = f"{result.cut_off_angstrom:.2f} Å (shell {result.cut_off})"
        if self.options["cut_off"]:
            return shell
        if not isinstance(result, Regularised):
            if result.cut_off > max(self.inputs[0].data.shape) // 2:
                return "none: the network reaches as far as the map"
            return f"none: the network up to {shell}, the map itself beyond"
        if result.beyond_network:
            return f"none: the halves agree to {shell}, and fill the shells beyond the network"
        if self.options["no_spectral_trailing"]:
            return f"not applied (--no-spectral-trailing); it would be {shell}"
        return shell
