"""The page beside the other results, whose defects must not cost these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from blush_onnx.cli.output_folder import OutputFolder
from blush_onnx.errors import OutputError

PAGE = "report.html"


def write_page_beside(
    folder: OutputFolder, record: dict[str, Any], warnings: list[str], make: Callable[[], str]
) -> None:
    """Write the page, or say in the record why there is none.

    Parameters
    ----------
    folder : OutputFolder
        With the page among its names.
    record : dict
        Its ``files`` and ``warnings`` are put right where the page fails.
    warnings : list of str
        Where the reason is added.
    make : callable
        Returns the page's text.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    try:
        folder.write_text(PAGE, make())
    except OutputError:
        raise
    except Exception as error:  # whatever the drawing libraries raise
        folder.withdraw(PAGE)
        record["files"] = [name for name in record["files"] if name != PAGE]
        warnings.append(
            f"{PAGE} could not be made ({type(error).__name__}: {error}); the other results are "
            "complete"
        )
        record["warnings"] = list(warnings)
