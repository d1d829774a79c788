"""Tables of what was measured on a card."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.cards.settings import Row


def tables(rows: Sequence[Row]) -> Iterator[str]:
    """Lines of markdown: the machine, the patches, the maps, and what failed."""
    for row in rows:
        if row["part"] == "machine":
            yield ", ".join(f"{key} {value}" for key, value in row.items() if key != "part")
    yield from _patches([row for row in rows if "ms_a_patch" in row])
    yield from _maps([row for row in rows if row["part"] == "maps" and "seconds" in row])
    for row in rows:
        if row["part"] == "rescaling":
            yield f"Rescaling {row['box']} voxels there and back: {row['seconds']:.2f} s"
    failed = [row for row in rows if "failed" in row]
    if failed:
        yield from ("", "Not measured:", "")
    for row in failed:
        where = " ".join(str(row[key]) for key in ("part", "name", "box", "batch") if key in row)
        yield f"- {where}: {row['failed']}"


def _patches(rows: Sequence[Row]) -> Iterator[str]:
    if not rows:
        return
    batches = sorted({row["batch"] for row in rows})
    yield from (
        "", "Milliseconds a patch, by patches at a time; the first run is that of the first batch.",
        "", _line("part", "what", *batches, "error", "opening, s", "first run, s"),
        _line(*["---"] * (len(batches) + 5)),
    )
    for part, name in dict.fromkeys((row["part"], row["name"]) for row in rows):
        own = {row["batch"]: row for row in rows if (row["part"], row["name"]) == (part, name)}
        first = next(iter(own.values()))
        times = [f"{own[b]['ms_a_patch']:.3f}" if b in own else "" for b in batches]
        error = max((row["error"] for row in own.values() if "error" in row), default=None)
        yield _line(
            part, name, *times, "" if error is None else f"{error:.1e}",
            f"{first['opening_s']:.2f}", f"{first['first_s']:.2f}",
        )


def _maps(rows: Sequence[Row]) -> Iterator[str]:
    if not rows:
        return
    yield from (
        "", "Whole maps; x is the published program (tf32, one patch at a time) over this; "
        "differences are shares of the correction.", "",
        _line("box", "what", "batch", "seconds", "x", "not the network, s", "card, MB",
              "from published float32", "from ours float32", "patches", "first run, s"),
        _line(*["---"] * 11),
    )
    published = {
        row["box"]: row["seconds"]
        for row in rows if (row["name"], row["batch"]) == ("published tf32", 1)
    }
    for row in sorted(rows, key=lambda row: (row["box"], row["name"], row["batch"])):
        base = published.get(row["box"])
        yield _line(
            row["box"], row["name"], row["batch"], f"{row['seconds']:.3f}",
            "" if base is None else f"{base / row['seconds']:.2f}",
            _number(row, "not_network_s", ".3f"), _number(row, "card_MB", ".0f"),
            _number(row, "from_published", ".1e"), _number(row, "from_ours", ".1e"),
            _number(row, "patches", ".0f"), _number(row, "first_s", ".2f"),
        )


def _number(row: Row, key: str, form: str) -> str:
    return format(row[key], form) if key in row else ""


def _line(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"
