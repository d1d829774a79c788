"""The command ``blush`` in ChimeraX: its words, its models, its colours."""

from __future__ import annotations

import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from chimerax.core.commands import (
    BoolArg,
    Bounded,
    CmdDesc,
    EnumOf,
    FileNameArg,
    IntArg,
    PositiveFloatArg,
    SaveFolderNameArg,
    StringArg,
    register,
    run,
)
from chimerax.core.errors import UserError
from chimerax.core.triggerset import DEREGISTER
from chimerax.map import MapArg, MapsArg

from . import denoising

POLL_SECONDS = 0.5


def blush(
    session, maps, *, mask=None, denoise_mask=None, particle_diameter=None, cut_off=None,
    quality=None, rotations=None, model=None, output_folder=None, report=True, wait=None,
):
    """Denoise two half-maps, or one map, and open what comes out.

    Parameters
    ----------
    session : chimerax.core.session.Session
    maps : list of chimerax.map.Volume
        Two unfiltered half-maps; or one map, treated as a 3-D class.
    mask, denoise_mask : chimerax.map.Volume, optional
        Solvent mask for the FSC; where the network looks.
    particle_diameter, cut_off : float, optional
        Å.
    quality, rotations, model : optional
        As for ``blush-onnx denoise``.
    output_folder : str, optional
        Where the results go; None: a temporary folder.
    report : bool
        Write a page to look at, and open it.
    wait : bool, optional
        Return when all is done. None: where there are no windows.
    """
    if find_spec("blush_onnx") is None:
        raise UserError("blush needs blush-onnx: pip install blush-onnx[cpu,report]")
    if len(maps) not in (1, 2):
        raise UserError(f"blush takes two half-maps, or one map; {len(maps)} are given")
    if output_folder is None:
        output_folder = tempfile.mkdtemp(prefix="blush-onnx-")
    try:
        running = denoising.start(
            _python(),
            [_grid(volume) for volume in maps],
            {
                name: None if volume is None else _grid(volume)
                for name, volume in (("mask", mask), ("denoise_mask", denoise_mask))
            },
            {
                "particle_diameter": particle_diameter, "cut_off": cut_off, "quality": quality,
                "rotations": rotations, "model": model,
            },
            Path(output_folder),
            report=report,
        )
    except denoising.Failure as failure:
        raise UserError(str(failure)) from None
    # Taken now: the maps may be closed before the end.
    place = maps[0].data.origin, maps[0].data.step, maps[0].scene_position
    if wait or (wait is None and not session.ui.is_gui):
        return _wait(session, running, maps, place)
    _watch(session, running, maps, place)
    return []


def _wait(session, running, volumes, place):
    try:
        while (found := denoising.outcome(running)) is None:
            time.sleep(POLL_SECONDS)
    except denoising.Failure as failure:
        raise UserError(str(failure)) from None
    except BaseException:
        denoising.stop(running)
        raise
    return _show(session, found, volumes, place)


def _watch(session, running, volumes, place):
    """Look at every frame whether it is done; ChimeraX stays usable meanwhile."""
    told = 0

    def look(*_):
        nonlocal told
        try:
            found = denoising.outcome(running)
        except denoising.Failure as failure:
            session.logger.error(f"blush: {failure}")
            return DEREGISTER
        if found is not None:
            session.logger.status("")
            _show(session, found, volumes, place)
            return DEREGISTER
        if running.seconds > told:
            told = int(running.seconds) + 1
            session.logger.status(f"blush: denoising, {running.seconds:.0f} s")
        return None

    session.triggers.add_handler("new frame", look)
    session.triggers.add_handler("app quit", lambda *_: denoising.stop(running))


def _show(session, found, volumes, place):
    """Open the maps where the half-maps were, colour the mean, hide the rest, open the report."""
    origin, step, position = place
    models = {}
    for name, path in found.maps.items():
        (models[name],) = run(session, f"open {FileNameArg.unparse(str(path))}", log=False)
        models[name].name = name
        models[name].data.set_origin(origin)
        models[name].data.set_step(step)
        models[name].position = position
    shown = models[denoising.NAMES["denoised.mrc"]]
    for model in (*volumes, *models.values()):
        if not model.deleted:
            model.display = model is shown
    low, high = found.limits
    shown.update_drawings()  # a surface that is not there yet cannot be coloured
    run(
        session,
        f"color sample #{shown.id_string} map #{models[found.colour_by].id_string} "
        f"palette {found.palette} range {low:g},{high:g}",
    )
    session.logger.info(denoising.summary(found), is_html=True)
    if found.report is not None and session.ui.is_gui:
        run(session, f"open {FileNameArg.unparse(str(found.report))}", log=False)
    return list(models.values())


def _grid(volume):
    data = volume.data
    path = data.path if isinstance(data.path, str) else ""
    return denoising.Grid(
        name=volume.name, path=path, file_type=data.file_type, values=volume.full_matrix,
        size=data.size, origin=data.origin, step=data.step, angles=data.cell_angles,
        rotation=data.rotation,
    )


def _python():
    """ChimeraX's own interpreter; a name of it for versions that have no function for it."""
    try:
        from chimerax.core.python_utils import chimerax_python_executable
    except ImportError:
        import sys

        name = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return str(Path(sys.executable).resolve().with_name(name))
    return chimerax_python_executable()


def register_command(command_info, logger):
    """Register ``blush`` with its words."""
    description = CmdDesc(
        required=[("maps", MapsArg)],  # "#1 #2" is one specifier to ChimeraX
        keyword=[
            ("mask", MapArg), ("denoise_mask", MapArg),
            ("particle_diameter", PositiveFloatArg), ("cut_off", PositiveFloatArg),
            ("quality", EnumOf(["reference", "balanced", "fast"])),
            ("rotations", Bounded(IntArg, 1, 48)), ("model", StringArg),
            ("output_folder", SaveFolderNameArg), ("report", BoolArg), ("wait", BoolArg),
        ],
        synopsis=command_info.synopsis,
    )
    register(command_info.name, description, blush, logger=logger)
