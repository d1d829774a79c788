from __future__ import annotations

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
