"""``blush-onnx doctor``: check the installation."""

from __future__ import annotations

import json
from typing import Any

import click

from blush_onnx.cli.failures import debug_option


@click.command(epilog="Example: blush-onnx doctor --json > doctor.json")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@debug_option
def doctor(as_json: bool) -> None:
    """Check versions, models and providers, and test every provider on one patch.

    Exits with 1 when there is a problem.
    """
    from blush_onnx.diagnostics import examine

    found = examine()
    if as_json:
        click.echo(json.dumps(found, indent=1, ensure_ascii=False))
    else:
        _print(found)
    if found["problems"]:
        raise SystemExit(1)


def _print(found: dict[str, Any]) -> None:
    click.echo("Versions: " + ", ".join(f"{k} {v}" for k, v in found["versions"].items()))
    machine = found["machine"]
    memory = machine["available_memory_bytes"]
    text = "unknown memory" if memory is None else f"{memory / 2**30:.1f} GiB available"
    click.echo(f"Machine: {machine['system']}, {machine['processors']} processors, {text}")
    click.echo("Models:")
    for row in found["models"]:
        mark = "*" if row["name"] == found["default_model"] else " "
        click.echo(f" {mark} {row['name']:<20} {row['origin']:<8} checksum {row['checksum']}")
    click.echo("Providers:")
    for row in found["providers"]:
        detail = ""
        if "convolutions_on" in row:
            detail = f", convolutions on {', '.join(row['convolutions_on'])}"
        if "relative_error" in row:
            detail += f", relative error {row['relative_error']:.1e}"
        click.echo(f"   {row['provider']:<12} self-test {row['self_test']}{detail}")
    cache = found["cache"]
    click.echo(
        f"Compiled graphs: {cache['bytes'] / 2**20:.0f} MiB in {cache['folder']}" if cache["folder"]
        else "Compiled graphs: not kept"
    )
    click.echo(f"relion_python_blush on PATH: {found['relion_python_blush'] or 'none'}")
    for note in found["notes"]:
        click.echo(f"Note: {note}")
    if found["problems"]:
        click.echo("Problems:")
        for problem in found["problems"]:
            click.echo(f" - {problem}")
    else:
        click.echo("No problems found.")
