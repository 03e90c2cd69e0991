"""Reading what lies in a folder of experiments, which anybody may have made.

Each function returns what it promises, or raises a `ValueError` that names the file.
"""

import json
import math
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, NoReturn

from plastic_envs.checks import shown
from train.experiments.sweep import NAMES, NETWORK_NAMES, Config
from train.runs.run_folder import Record
from train.settings import flat
from train.wording import printable

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
_SAID = 2_000  # bytes of what a run said of its end


def read_object(path: Path) -> Record:
    """Read a JSON object."""
    content = _parsed(path, path.read_bytes(), "it")
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold an object, got {shown(content)}")
    return content


def read_objects(path: Path) -> list[Record]:
    """Read JSON lines, an object each; each line is whole."""
    records = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        record = _parsed(path, line, f"line {number}")
        if not isinstance(record, dict):
            raise ValueError(f"{path}, line {number}, must be an object, got {shown(record)}")
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


def check_named(path: Path, content: Record, declared: Config) -> None:
    """Check that settings are of the seed and of what a run is declared to be of.

    They are told before anything is made of them: names may stand for modules to import.
    """
    ours, theirs = flat(declared), flat(content)
    kinds = [(content.get("kind"), json.loads(declared.to_json()).get("kind"))]
    pairs = [(theirs.get(name), ours[name]) for name in (*NAMES, *NETWORK_NAMES) if name in ours]
    for got, expected in (*kinds, *pairs, (content.get("seed"), declared.seed)):
        if got != expected:
            raise ValueError(f"{path} must be of {shown(expected)}, got {shown(got)}")


def check_scores(path: Path, content: Record, measures: Collection[str]) -> Record:
    """Return what `train.experiments.job.score` returned, as far as it is used."""
    for measure in measures:
        check_finite(path, measure, content.get(measure))
    references = content.get("references")
    if not isinstance(references, dict):
        raise ValueError(f"{path}: references must be an object, got {shown(references)}")
    for name, values in references.items():
        if not isinstance(values, dict) or name != plain(name, 60):
            raise ValueError(f"{path}: references must be scores by name, got {shown(references)}")
        for measure, value in values.items():
            check_finite(path, measure, value)
    if not isinstance(content.get("higher_is_better"), bool):
        raise ValueError(f"{path}: higher_is_better must be true or false")
    for name in ("parameters", "cpu_seconds"):
        if content.get(name) is not None and check_finite(path, name, content[name]) < 0:
            raise ValueError(f"{path}: {name} must be at least 0, got {shown(content[name])}")
    eta = content.setdefault("eta", None)
    if eta is not None:
        if not isinstance(eta, list) or not eta:
            raise ValueError(f"{path}: eta must be a list of rates, got {shown(eta)}")
        for value in eta:
            check_finite(path, "eta", value)
    return content


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
