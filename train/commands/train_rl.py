"""`plastic train-rl`."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from train.commands.options import for_parts
from train.commands.shared import (
    as_asked,
    folder_to_resume,
    print_json,
    to_go_on,
    warn_without_kernel,
    with_home,
)
from train.reinforcement.config import RLConfig
from train.runs.run_folder import RLRunFolder
from train.wording import counted, say


@dataclass(frozen=True)
class Command:
    """Train an agent by reinforcement learning, on any Gymnasium environment."""

    config: Annotated[RLConfig, tyro.conf.arg(name="")] = field(default_factory=RLConfig)
    out: Path | None = None
    """Folder of the run; runs/ENV-AGENT-seedN if not given."""
    resume: Path | None = None
    """Go on with the run in this folder, with its settings; --steps gives it more steps."""
    json: bool = False
    """Print the last metrics as a JSON line."""


def command(words: Sequence[str]) -> Callable[..., None]:
    """Return `run` with the options of the task and the parts of a network that words choose.

    Raises:
        ValueError: If there are no such parts.
    """
    return for_parts(run, Command, RLConfig(), words)


def run(command: Command) -> None:
    """Train an agent by reinforcement learning, on any Gymnasium environment."""
    import agents.sb3  # noqa: F401 (it says how to get Stable-Baselines3, which is an extra)
    from train.reinforcement.training import train_agent

    warn_without_kernel()
    config = with_home(command.config, "start_from")
    if command.resume is not None:
        folder = folder_to_resume(command.resume, RLRunFolder, "train")
        config = as_asked(folder.config(), config)
    else:
        folder = RLRunFolder(command.out or Path("runs") / config.name)
    with to_go_on("train-rl", folder):
        record = train_agent(
            config, folder, resume=command.resume is not None, progress=sys.stderr.isatty()
        )
    if command.json:
        print_json({"run": str(folder.path), **record})
    else:
        say(
            f"{folder.path}: validation score {record['val_score']:.4f} ± "
            f"{record['val_interval']:.4f} after {counted(record['step'], 'step')}"
        )
