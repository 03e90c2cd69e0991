"""What `plastic train` and `plastic train-rl` share: a run that starts or goes on, and its end."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import tyro

from train.commands.shared import print_json, warn_without_kernel
from train.places import typed_path
from train.reinforcement.config import RLConfig
from train.runs.records import Record
from train.runs.run_folder import RLRunFolder, RunFolder, open_run
from train.supervised.config import TrainConfig
from train.wording import say

Config = TypeVar("Config", TrainConfig, RLConfig)
Folder = TypeVar("Folder", RunFolder, RLRunFolder)

_COMMANDS: dict[type, str] = {RunFolder: "train", RLRunFolder: "train-rl"}
_OTHERS = ("encoder_run", "start_from")  # paths of other runs
_MAY_CHANGE = ("steps", "device")  # of a run that goes on


@dataclass(frozen=True)
class Command(Generic[Config]):
    """What a command line of training asks for."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    out: Path | None = None
    """Folder of the run. If not given it is in runs/, and called after what tells runs apart: what
    is learned, the network, and the seed."""
    resume: Path | None = None
    """Go on with the run in this folder, with its settings; --steps gives it more steps."""
    json: bool = False
    """Print the last metrics as a JSON line."""

    @property
    def progress(self) -> bool:
        """Whether somebody watches."""
        return sys.stderr.isatty()

    def begun(self, kind: type[Folder]) -> tuple[Folder, Config]:
        """Return the folder of the run, which is to be of a kind, and its settings.

        Raises:
            ValueError: If the run to go on with is of another kind, or its settings are not kept.
        """
        warn_without_kernel()
        config = _with_home(self.config)
        if self.resume is None:
            return kind(self.out or Path("runs") / config.name), config
        folder = _folder_to_resume(self.resume, kind)
        given = [name for name in _MAY_CHANGE if name in _options_given()]
        changed = {name: getattr(config, name) for name in given}
        return folder, replace(folder.config(), **changed)  # type: ignore[return-value]  # of a kind

    def tell(self, folder: RunFolder | RLRunFolder, record: Record, text: str) -> None:
        """Say what came of a run: its last metrics, as JSON or in words."""
        if self.json:
            print_json({"run": str(folder.path), **record})
        else:
            say(f"{folder.path}: {text}")


@contextmanager
def to_go_on(folder: RunFolder | RLRunFolder) -> Iterator[None]:
    """Say, where training is stopped, how it goes on."""
    try:
        yield
    except BaseException as stop:
        if folder.config_path.exists():
            path = shlex.quote(str(folder.path))
            stop.add_note(f"plastic {_COMMANDS[type(folder)]} --resume {path} goes on")
        raise


def _folder_to_resume(path: Path, kind: type[Folder]) -> Folder:
    """Open the run that `--resume` names, which stands alone and must be of this command's kind."""
    known = (*_MAY_CHANGE, "resume", "json", "no-json")
    others = [name for name in _options_given() if name not in known]
    if others:
        raise ValueError(
            "--resume goes on with the settings of its run: it cannot be combined with "
            + ", ".join(f"--{name}" for name in others)
        )
    folder = open_run(path)
    if not isinstance(folder, kind):
        raise ValueError(f"{path} goes on with plastic {_COMMANDS[type(folder)]} --resume")
    return folder


def _options_given() -> list[str]:
    """Return the names of the options on the command line."""
    words = [word for word in sys.argv[1:] if word.startswith("--")]
    return [word.split("=")[0].removeprefix("--").replace("_", "-") for word in words]


def _with_home(config: Config) -> Config:
    """Return settings in which `~` of the path of another run is a home directory."""
    paths = {name: getattr(config, name) for name in _OTHERS if getattr(config, name, None)}
    changed: dict[str, Any] = {name: str(typed_path(path)) for name, path in paths.items()}
    return replace(config, **changed)
