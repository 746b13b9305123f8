"""Tables: columns for a terminal, and Markdown for a page."""

from __future__ import annotations

from collections.abc import Collection, Sequence

Row = Sequence[str]


def columns(header: Row, rows: Sequence[Row], numbers: Collection[int], runs_on: int | None = None) -> str:
    """For a terminal. Cells of the columns `numbers` end below each other; one in `runs_on` with nothing after it may
    run on over the columns beside it."""
    lines = [header, *rows]
    widths = [
        max(len(line[column]) for line in lines if column != runs_on or any(line[column + 1 :]))
        for column in range(len(header))
    ]
    text = [
        "  ".join(
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([text[0], "-" * (sum(widths) + 2 * len(widths) - 2), *text[1:]])


def markdown(header: Row, rows: Sequence[Row], numbers: Collection[int]) -> str:
    """For a page."""
    rule = ["---:" if column in numbers else "---" for column in range(len(header))]
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *rows))
