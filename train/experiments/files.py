"""Reading what lies in a folder of experiments, which anybody may have made.

Each function returns what it promises, or raises a `ValueError` that names the file.
"""

import json
import math
import re
from pathlib import Path
from typing import Any, NoReturn

from plastic_envs.checks import shown
from train.runs.run_folder import Record
from train.wording import printable

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
_SAID = 2_000  # bytes of what a run said of its end


def read_object(path: Path) -> Record:
    """Read a JSON object."""
    content = _parsed(path, path.read_bytes(), "it")
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold an object, got {shown(content)}")
    return content


def read_series(path: Path, *names: str) -> list[Record]:
    """Read JSON lines, a record for each validation with `step` and other numbers.

    A last line that was cut off is left out; without the file there are none.
    """
    if not path.is_file():
        return []
    records = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        record = _parsed(path, line, f"line {number}")
        if not isinstance(record, dict):
            raise ValueError(f"{path}, line {number}, must be an object, got {shown(record)}")
        step = record.get("step")
        if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step < 2**63:
            raise ValueError(f"{path}, line {number}: step must be a count, got {shown(step)}")
        for name in names:
            check_finite(path, name, record.get(name))
        records.append(record)
    return records


def read_words(path: Path) -> str:
    """Read the beginning of a text as one line; empty without the file."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return plain(file.read(_SAID).decode(errors="replace"))


def plain(value: object, length: int = 500) -> str:
    """Return what somebody wrote as one line of printable characters, shortened."""
    text = " ".join(printable(str(value)).split())
    return text if len(text) <= length else f"{text[:length]}…"


def check_finite(path: Path, name: str, value: object) -> float:
    """Return a number of a file."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            if math.isfinite(value):
                return float(value)
        except OverflowError:
            pass
    raise ValueError(f"{path}: {name} must be a finite number, got {shown(value)}")


def check_name(path: Path, name: str, value: object) -> str:
    """Return what names a folder beside a file, and leads nowhere else."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise ValueError(f"{path}: {name} must be the name of a folder beside it, got {shown(value)}")


def _parsed(path: Path, text: bytes, what: str) -> Any:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no number")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:  # also UnicodeDecodeError
        raise ValueError(f"{path}: {what} is no JSON that can be read: {error}") from error
