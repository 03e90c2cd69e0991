"""What subcommands share."""

import json
import logging
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from agents.plastic.ops.cpu import library
from train.places import expanded
from train.reinforcement.config import RLConfig
from train.runs.run_folder import Record, RLRunFolder, RunFolder, open_run
from train.supervised.config import TrainConfig
from train.wording import say

logger = logging.getLogger(__name__)

Config = TypeVar("Config", TrainConfig, RLConfig)
Folder = TypeVar("Folder", RunFolder, RLRunFolder)

_MAY_CHANGE = ("steps", "device")  # of a run that goes on


def folder_to_resume(path: Path, kind: type[Folder], other_command: str) -> Folder:
    """Open the run that `--resume` names, which stands alone and must be of this command's kind."""
    known = (*_MAY_CHANGE, "resume", "json", "no-json")
    others = [name for name in options_given() if name not in known]
    if others:
        raise ValueError(
            "--resume goes on with the settings of its run: it cannot be combined with "
            + ", ".join(f"--{name}" for name in others)
        )
    folder = open_run(path)
    if not isinstance(folder, kind):
        raise ValueError(f"{path} goes on with plastic {other_command} --resume")
    return folder


def as_asked(config: Config, asked: Config) -> Config:
    """Return the settings of a run to go on with, with what the command line may change of them."""
    given = [name for name in _MAY_CHANGE if name in options_given()]
    return replace(config, **{name: getattr(asked, name) for name in given})


def options_given() -> list[str]:
    """Return the names of the options on the command line."""
    words = [word for word in sys.argv[1:] if word.startswith("--")]
    return [word.split("=")[0].removeprefix("--").replace("_", "-") for word in words]


@contextmanager
def to_go_on(command: str, folder: RunFolder | RLRunFolder) -> Iterator[None]:
    """Say, where training is stopped, how it goes on."""
    try:
        yield
    except BaseException as stop:
        if folder.config_path.exists():
            path = shlex.quote(str(folder.path))
            stop.add_note(f"plastic {command} --resume {path} goes on")
        raise


@contextmanager
def to_go_on_again() -> Iterator[None]:
    """Say, where many runs are stopped, how they go on."""
    try:
        yield
    except BaseException as stop:
        stop.add_note("the same command goes on where it was")
        raise


def with_home(config: Config, name: str) -> Config:
    """Return settings in which `~` of a path is a home directory."""
    path: str | None = getattr(config, name)
    if path is None:
        return config
    return replace(config, **{name: str(expanded(path))})  # type: ignore[arg-type]


def warn_without_kernel() -> None:
    """Say that training will be slow, if it will."""
    if library.load() is None:
        logger.warning(
            "there is no compiled kernel (%s): computing in PyTorch, several times slower. "
            "Reinstalling the package with a C compiler builds it.",
            library.absence(),
        )


def print_json(record: Record) -> None:
    """Print a record as a JSON line."""
    say(json.dumps(record))
