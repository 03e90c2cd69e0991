"""The `plastic` program, run within this process."""

import contextlib
import io
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from benchmarks.fuzz.case import WrongError

_USAGE = 2  # the status of parsers of command lines


class RefusedError(ValueError):
    """The program refused, with the message that it printed."""


class UsageError(RefusedError):
    """The command line does not parse; the parser says so in its own way."""


def plastic(arguments: Sequence[str | Path], folder: Path, allowed: Sequence[Path] = ()) -> str:
    """Run a command in a folder and return what it printed.

    Args:
        arguments: Behind `plastic`.
        folder: The working directory, which must exist.
        allowed: What may be written besides what is there, and what it says that it wrote.

    Raises:
        RefusedError: If it ends with another status than 0.
        WrongError: If it does so without a word, shows a traceback, or writes anywhere else.
    """
    from train.cli import main

    os.chdir(folder)
    logging.getLogger().handlers.clear()
    out, error = io.StringIO(), io.StringIO()
    before = _listing(folder)
    code: object = 0
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(error),
        mock.patch.object(sys, "argv", ["plastic", *map(str, arguments)]),
        mock.patch.dict(os.environ, HOME=str(folder)),
    ):
        try:
            main()
        except SystemExit as stop:
            code = stop.code
    said = error.getvalue()
    if "Traceback (most recent call last)" in said + out.getvalue():
        raise WrongError(f"a traceback: {said[-300:]}")
    new = {p for p in _listing(folder) - before if not any(p.is_relative_to(a) for a in allowed)}
    new = {p for p in new if json.dumps(p.name)[1:-1] not in json.dumps(out.getvalue())}
    if new:
        raise WrongError(
            f"writes {', '.join(str(path.relative_to(folder.parent)) for path in new)}"
        )
    if not code:
        return out.getvalue()
    complaints = [line for line in said.splitlines() if not line.startswith(("INFO", "WARNING"))]
    if not "".join(complaints).strip():
        raise WrongError(f"ends with {code} without a word")
    raise (UsageError if code == _USAGE else RefusedError)("\n".join(complaints))


def _listing(folder: Path) -> set[Path]:
    """Return what is in a folder, and beside it."""
    return {*folder.rglob("*"), *folder.parent.iterdir()}
