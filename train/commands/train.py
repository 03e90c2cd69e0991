"""`plastic train`."""

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
from train.runs.run_folder import RunFolder
from train.supervised.config import TrainConfig
from train.wording import counted, say


@dataclass(frozen=True)
class Command:
    """Meta-train a network on a memory or few-shot task, by supervised learning."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)
    out: Path | None = None
    """Folder of the run; runs/TASK-RULE-CELL-HIDDEN-seedN if not given."""
    resume: Path | None = None
    """Go on with the run in this folder, with its settings; --steps gives it more steps."""
    json: bool = False
    """Print the last metrics as a JSON line."""


def command(words: Sequence[str]) -> Callable[..., None]:
    """Return `run` with the options of the task and the parts of a network that words choose.

    Raises:
        ValueError: If there are no such parts.
    """
    return for_parts(run, Command, TrainConfig(), words)


def run(command: Command) -> None:
    """Meta-train a network on a memory or few-shot task, by supervised learning.

    torchrun --no-python plastic train … does so over several processes.
    """
    from train.supervised.distributed import joined
    from train.supervised.training import train_network

    warn_without_kernel()
    config = with_home(command.config, "encoder_run")
    if command.resume is not None:
        folder = folder_to_resume(command.resume, RunFolder, "train-rl")
        config = as_asked(folder.config(), config)
    else:
        folder = RunFolder(command.out or Path("runs") / config.name)
    with to_go_on("train", folder), joined() as processes:
        record = train_network(
            config,
            folder,
            resume=command.resume is not None,
            progress=sys.stderr.isatty(),
            processes=processes,
        )
    if not processes.is_first:
        return
    if command.json:
        print_json({"run": str(folder.path), **record})
    else:
        chance = config.task_for("validation").chance_score
        say(
            f"{folder.path}: validation score {record['val_score']:.4f}, loss "
            f"{record['val_loss']:.4f} after {counted(record['step'], 'step')} "
            f"(chance {chance:.4f})"
        )
