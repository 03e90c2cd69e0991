"""What a case is, and what it counts as."""

import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

Outcome = Literal["worked", "refused", "other"]

_ROOT = Path(__file__).resolve().parents[2]
_LONGEST = 2_000  # characters of an error that somebody is to read


class WrongError(Exception):
    """Nothing complained, but the result is not what it must be."""


@dataclass(frozen=True)
class Case:
    """Something to call.

    Attributes:
        text: What is called, in words or code.
        run: Calls it; raises `WrongError` if what comes back is wrong.
        names: An error must name one of these; with none of them, any clear error will do.
        errors: The errors that may be raised so.
        documented: Errors that may be raised and need name nothing.
    """

    text: str
    run: Callable[[], Any]
    names: tuple[str, ...]
    errors: tuple[type[BaseException], ...] = (ValueError, TypeError)
    documented: tuple[type[BaseException], ...] = ()


class Result(NamedTuple):
    """How a case ended, and what there is to say of it."""

    outcome: Outcome
    detail: str


def judged(case: Case) -> Result:
    """Run a case and say what it counts as."""
    try:
        case.run()
    except WrongError as error:
        return Result("other", f"wrong: {error}")
    except (Exception, SystemExit) as error:  # noqa: BLE001 (any may come: this is what is sought)
        what, place = f"{type(error).__name__}: {_short(error)}", _place(error)
        if isinstance(error, case.documented):
            return Result("refused", what)
        if not isinstance(error, case.errors):
            return Result("other", f"{what} at {place}")
        message = str(error)
        if len(message) > _LONGEST:
            return Result("other", f"an error of {len(message)} characters: {what} at {place}")
        if case.names and not any(_names(message, name) for name in case.names):
            return Result("other", f"names none of {', '.join(case.names)}: {what} at {place}")
        return Result("refused", what)
    return Result("worked", "")


def _names(message: str, name: str) -> bool:
    """Say whether a message has a name as a word of its own; `-` is as good as `_`."""
    pattern = r"[-_]".join(map(re.escape, re.split("[-_]", name)))
    return re.search(rf"(?<!\w){pattern}(?!\w)", message) is not None


def _short(error: BaseException) -> str:
    try:
        return " ".join(str(error).split())[:300]
    except Exception:  # noqa: BLE001 (an odd value may have found its way into the error)
        return "(cannot be shown)"


def _place(error: BaseException) -> str:
    """Return the last line of this repository, outside the fuzzer, that the error came through."""
    frames = [Path(f.filename) for f in traceback.extract_tb(error.__traceback__)]
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__)]
    for path, line in reversed(list(zip(frames, lines, strict=True))):
        if path.is_relative_to(_ROOT) and "benchmarks" not in path.relative_to(_ROOT).parts:
            return f"{path.relative_to(_ROOT)}:{line}"
    return f"{frames[-1].name}:{lines[-1]}"
