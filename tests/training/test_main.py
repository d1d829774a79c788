from __future__ import annotations

import importlib

import click
import pytest

from tests.python_without import run_python


@pytest.mark.parametrize(
    ("missing", "command"),
    [("torch", "train"), ("scipy", "prepare"), ("gemmi", "evaluate"), ("torch", "finetune")],
)
def test_a_missing_package_is_one_line_that_says_what_to_install(
    missing: str, command: str
) -> None:
    done = run_python(
        f"import sys; sys.argv = ['training', '{command}', '--help']\n"
        "from training.__main__ import main; main()",
        without=[missing],
    )
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"Error: python -m training needs {missing}: pip install -e '.[training,cpu]' in the "
        "checkout"
    )


def test_the_overview_needs_neither() -> None:
    done = run_python(
        "import sys; sys.argv = ['training', '--help']\nfrom training.__main__ import main; main()",
        without=["torch", "scipy", "gemmi", "matplotlib"],
    )
    assert done.returncode == 0, done.stderr
    assert "finetune" in done.stdout


@pytest.mark.parametrize("command", ["prepare", "evaluate"])
def test_every_option_says_what_it_is(command: str) -> None:
    module = pytest.importorskip(f"training.{command}.command")
    options = [p for p in getattr(module, command).params if isinstance(p, click.Option)]
    assert len(options) > 8
    assert [option.name for option in options if not option.help] == []


def test_a_model_may_be_left_away_where_help_says_so() -> None:
    evaluate = pytest.importorskip("training.evaluate.command").evaluate
    with click.Context(evaluate, info_name="evaluate") as context:
        assert evaluate.get_usage(context).endswith("[OPTIONS] [MODEL]...")


def test_export_has_the_short_help_too(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    main = importlib.import_module("export.__main__").main
    main.main(["-h"], standalone_mode=False)
    assert "Export a CHECKPOINT" in capsys.readouterr().out
