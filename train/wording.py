"""What programs print and write: counts, durations and columns, and text that others made."""

import sys
from collections.abc import Sequence


def counted(number: int, noun: str) -> str:
    """Write a number of things: "1 core", "2 cores", "1,000 episodes"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """Write a duration for people: "40 s", "12 min", "3.5 h", "2.1 days"."""
    for limit, unit, name in ((90, 1, "s"), (90 * 60, 60, "min")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def columns(rows: Sequence[Sequence[str]], *, numbers: bool = False) -> str:
    """Write lines of cells below each other, two spaces apart.

    Args:
        rows: The cells; all rows have equally many.
        numbers: All columns but the first are numbers, which end below each other.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        padded = [
            cell.rjust(width) if numbers and number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def say(text: str) -> None:
    """Print what a program has to say.

    Raises:
        OSError: If it cannot be written.
    """
    try:
        sys.stdout.write(f"{printable(text)}\n")
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(f"the output cannot be written: {error.strerror}") from error


def printable(text: str) -> str:
    r"""Return a text whose control characters are written out, as in `\x1b`; lines stay lines.

    Names of files and what files say could otherwise move the cursor of a terminal, or hide.
    """
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text
    )
