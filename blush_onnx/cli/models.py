"""``blush-onnx models``: the registry from the command line."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from pathlib import Path

import click

from blush_onnx.cli.failures import debug_option

_PATH = click.Path(path_type=Path, readable=False)


@click.group(epilog="Example: blush-onnx models fetch v1.0")
def models() -> None:
    """List, fetch, import, check and remove models.

    Models are looked up in your registry ($BLUSH_ONNX_HOME), in shared read-only
    folders ($BLUSH_ONNX_PATH) and among those that come with the package.
    """


@models.command("list", epilog="Example: blush-onnx models list")
@debug_option
def list_models() -> None:
    """List the models that can be named; * marks the one used by default."""
    from blush_onnx import models as registry
    from blush_onnx.errors import ModelError

    try:
        default = registry.find_model()
    except ModelError as error:
        click.echo(f"Warning: no default model: {error}", err=True)
        default = None
    for entry in registry.registered_models():
        mark = "*" if entry.folder == default else " "
        click.echo(f"{mark} {entry.name:<20} {entry.origin:<8} {entry.folder}")
    if default is not None and default not in [m.folder for m in registry.registered_models()]:
        click.echo(f"* {default} ($BLUSH_ONNX_MODEL)")
    click.echo(f"Your registry: {registry.home()}")


@models.command(epilog="Example: blush-onnx models show v1.0")
@click.argument("name", required=False)
@debug_option
def show(name: str | None) -> None:
    """Show a model's description; without a NAME that of the default model."""
    from blush_onnx import models as registry

    model = registry.load_model(name)
    click.echo(json.dumps(dataclasses.asdict(model.config), indent=1, ensure_ascii=False))
    click.echo(f"File: {model.path}")
    card = model.path.parent / "MODEL_CARD.md"
    if card.is_file():
        click.echo(f"Model card: {card}")


@models.command(epilog="""\b
Examples:
  blush-onnx models fetch v1.0
  blush-onnx models fetch v1.0 --from blush_v1.0.ckpt.gz
  blush-onnx models fetch v1.0 --from https://mirror.example.org/blush_v1.0.ckpt.gz
""")
@click.argument("name")
@click.option(
    "--from", "source", metavar="FILE|URL",
    help="A file that was downloaded elsewhere, or a mirror. Default: what RELION already "
    "downloaded, else Zenodo.",
)
@click.option("--overwrite", is_flag=True, help="Replace a registered model of that name.")
@debug_option
def fetch(name: str, source: str | None, overwrite: bool) -> None:
    """Get the official weights NAME (v1.0) and register them."""
    from blush_onnx import fetch as fetching
    from blush_onnx.conversion import summary
    from blush_onnx.models import load_model

    logging.getLogger("pooch").setLevel(logging.WARNING)  # it would tell of its own hashing
    remote = fetching.remote_model(name)
    click.echo(f"{name}: {remote.training}")
    click.echo(f"Licence: {remote.licence}")
    done = fetching.fetch(remote, source, overwrite=overwrite, progressbar=os.isatty(2))
    check = "SHA-256 verified" if done.verified else (
        "not verified: only the compressed file has a published checksum"
    )
    click.echo(f"From {done.source} ({check})")
    click.echo(summary(load_model(done.folder).config))
    click.echo(f"Registered as {name} in {done.folder}")


@models.command("import", epilog="Example: blush-onnx models import my_blush.ckpt --name mine")
@click.argument("checkpoint", type=_PATH)
@click.option("--name", required=True, help="What to register it as.")
@click.option("--licence", default="unknown", show_default=True, help="Of the weights.")
@click.option("--overwrite", is_flag=True, help="Replace a registered model of that name.")
@debug_option
def import_(checkpoint: Path, name: str, licence: str, overwrite: bool) -> None:
    """Register a CHECKPOINT in the official layout, plain or .gz, without PyTorch.

    Nothing in the file is executed. The ONNX graph is compared with the network
    before it is registered.
    """
    from blush_onnx.conversion import import_checkpoint, summary
    from blush_onnx.errors import InputError
    from blush_onnx.fetch import REMOTE_MODELS
    from blush_onnx.models import load_model

    if name in REMOTE_MODELS:
        raise InputError(
            f"{name} is the name of published weights: register them with "
            f"blush-onnx models fetch {name} --from {checkpoint}"
        )
    folder = import_checkpoint(checkpoint, name, licence=licence, overwrite=overwrite)
    click.echo(summary(load_model(folder).config))
    click.echo(f"Registered as {name} in {folder}")


@models.command(epilog="Example: blush-onnx models verify")
@click.argument("name", required=False)
@debug_option
def verify(name: str | None) -> None:
    """Check the checksum of a model, or of all registered ones."""
    from blush_onnx import models as registry
    from blush_onnx.errors import ModelError

    chosen = [name] if name else [str(m.folder) for m in registry.registered_models()]
    failures = []
    for item in chosen:
        try:
            model = registry.load_model(item)
            click.echo(f"good  {model.config.name}  {model.sha256}")
        except ModelError as error:
            failures.append(str(error))
            click.echo(f"bad   {item}")
    if failures:
        raise ModelError("; ".join(failures))


@models.command(epilog="Example: blush-onnx models remove mine")
@click.argument("name")
@debug_option
def remove(name: str) -> None:
    """Delete a model from your registry."""
    from blush_onnx import registry

    click.echo(f"Removed {registry.remove(name)}")
