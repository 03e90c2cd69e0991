"""`plastic evaluate`."""

import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from plastic_envs.checks import check_int
from train.commands.shared import print_json, warn_without_kernel
from train.names import CheckpointName, DeviceName
from train.places import typed_path
from train.wording import columns, say

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Command:
    """What is to be scored."""

    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    checkpoint: CheckpointName = "best"
    """Which checkpoint."""
    episodes: int = 1_000
    """Number of test episodes."""
    seed: int | None = None
    """Seed of the episodes; the run's own test seed if not given."""
    threads: int | None = None
    """Threads of torch; its default if not given."""
    device: DeviceName | None = None
    """Where to compute; the run's own device, if it is here, if not given."""
    json: bool = False
    """Print a JSON line."""
    task_settings: tyro.conf.Suppress[dict[str, Any]] = field(default_factory=dict)
    """Settings of the task in which the episodes differ from those of the run."""


def command(words: Sequence[str]) -> Callable[..., None]:
    """Return `run` with the options of the task that the network learned whose folder words name.

    If that cannot be read, `run` says why.
    """
    for word in words:
        with suppress(OSError, ValueError):
            if typed_path(word).is_dir():
                return _of_run(typed_path(word))
    return run


def _of_run(path: Path) -> Callable[..., None]:
    """Return `run` with the options of the task of a network; as it is for an agent.

    Raises:
        OSError: If the folder cannot be read.
        ValueError: If it is no run.
    """
    from train.commands.options import for_task
    from train.runs.run_folder import RLRunFolder, open_run

    folder = open_run(path)
    if isinstance(folder, RLRunFolder):
        return run
    config = folder.config()
    settings = {**config.task_settings, **config.test_settings}
    return for_task(run, Command, config.task_part, settings)


def run(command: Annotated[Command, tyro.conf.arg(name="")]) -> None:
    """Score a trained network or agent on test episodes.

    A network is scored by acting and on whole sequences, which must agree. Options of its task,
    which --help tells beside the folder of a run, ask for other episodes than those it learned on.
    """
    import torch

    from train.runs.run_folder import open_run
    from train.scoring.evaluation import evaluate

    warn_without_kernel()
    if command.threads is not None:
        torch.set_num_threads(check_int("threads", command.threads, minimum=1))
    result = evaluate(
        open_run(command.run),
        checkpoint=command.checkpoint,
        num_episodes=command.episodes,
        seed=command.seed,
        device=command.device,
        test_settings=command.task_settings,
    )
    if command.json:
        print_json(result)
    else:
        references = result.pop("references", {})
        told = {**result, **references}.items()
        rows = [(k, f"{v:.6g}" if isinstance(v, float) else str(v)) for k, v in told]
        say(columns(rows))
    if not result.get("agree", True):
        logger.error("acting and whole sequences disagree: this is a fault of the program")
        sys.exit(1)
