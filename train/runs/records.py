"""Lines of JSON that a run writes while it goes on, and that anybody may have made."""

import json
import math
from pathlib import Path
from typing import Any

from plastic_envs.checks import shown

Record = dict[str, Any]


def read_lines(path: Path) -> list[bytes]:
    """Return the lines of a file that are whole; none if there is no file.

    Raises:
        ValueError: If there is something else in its place.
    """
    if not path.exists():
        return []
    if not path.is_file():
        raise ValueError(f"{path} is no file")
    parts = path.read_bytes().split(b"\n")
    return [part + b"\n" for part in parts[:-1]]


def read_records(path: Path, count: int | None = None) -> list[Any]:
    """Read JSON lines; a last line that was cut off is left out.

    Args:
        path: The file; without it there are none.
        count: Read no more than so many.

    Raises:
        ValueError: If a line is no JSON.
    """
    records = []
    for number, line in enumerate(read_lines(path)[:count], start=1):
        try:
            records.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}, line {number}, is no JSON: {error}") from error
    return records


def read_series(
    path: Path, *names: str, count: int | None = None, finite: bool = False
) -> list[Record]:
    """Read JSON lines, a record for each validation with `step` and other numbers.

    Args:
        path: The file; without it there are none.
        *names: Numbers that each record has.
        count: Read no more than so many.
        finite: Whether the numbers must be finite; scores of foreign environments may be none.

    Raises:
        ValueError: If a line is something else.
    """
    records = read_records(path, count)
    for number, record in enumerate(records, start=1):
        if not (
            isinstance(record, dict)
            and _is_number(record.get("step"), int)
            and 0 <= record["step"] < 2**63
            and all(_is_number(record.get(name), int | float) for name in names)
            and not (finite and any(_is_infinite(record[name]) for name in names))
        ):
            wanted = " and ".join(("step", *names))
            raise ValueError(f"{path}, line {number}, is no record with {wanted}: {shown(record)}")
    return records


def _is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _is_infinite(value: float) -> bool:
    try:
        return not math.isfinite(value)
    except OverflowError:  # of an integer
        return True
