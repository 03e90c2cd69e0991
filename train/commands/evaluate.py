"""`plastic evaluate`."""

import logging
import sys
from pathlib import Path

import tyro

from plastic_envs.checks import check_int
from train.commands.shared import print_json, warn_without_kernel
from train.names import CheckpointName, DeviceName
from train.wording import columns, say

logger = logging.getLogger(__name__)


def run(
    run: tyro.conf.Positional[Path],
    checkpoint: CheckpointName = "best",
    episodes: int = 1_000,
    seed: int | None = None,
    threads: int | None = None,
    device: DeviceName | None = None,
    json: bool = False,
) -> None:
    """Score a trained network or agent on test episodes.

    A network is scored by acting and on whole sequences, which must agree.

    Args:
        run: Folder of the run.
        checkpoint: Which checkpoint.
        episodes: Number of test episodes.
        seed: Seed of the episodes; the run's own test seed if not given.
        threads: Threads of torch; its default if not given.
        device: Where to compute; the run's own device, if it is here, if not given.
        json: Print a JSON line.
    """
    import torch

    from train.runs.run_folder import open_run
    from train.scoring.evaluation import evaluate as evaluate_run

    warn_without_kernel()
    if threads is not None:
        torch.set_num_threads(check_int("threads", threads, minimum=1))
    result = evaluate_run(
        open_run(run), checkpoint=checkpoint, num_episodes=episodes, seed=seed, device=device
    )
    if json:
        print_json(result)
    else:
        references = result.pop("references", {})
        told = {**result, **references}.items()
        rows = [(k, f"{v:.6g}" if isinstance(v, float) else str(v)) for k, v in told]
        say(columns(rows))
    if not result.get("agree", True):
        logger.error("acting and whole sequences disagree: this is a fault of the program")
        sys.exit(1)
