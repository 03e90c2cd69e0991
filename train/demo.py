"""The demonstration: networks with and without plasticity learn to remember, side by side."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from plastic_envs.checks import check_int
from train.experiments.executors import LocalProcesses, available_cores
from train.experiments.job import is_finished
from train.experiments.reproduce import Job, run_missing
from train.figures.runs import plot_runs
from train.network import NetworkConfig
from train.runs.run_folder import Record, RunFolder
from train.scoring.networks import evaluate
from train.supervised.config import TrainConfig

HIDDEN_SIZE = 64
RUNS: tuple[tuple[str, int], ...] = (
    ("gradient", HIDDEN_SIZE),
    ("hebbian", HIDDEN_SIZE),
    ("none", HIDDEN_SIZE * 3 // 2),  # about as many multiplications as with fast weights
)
"""What is trained: rule and hidden size."""


@dataclass(frozen=True)
class DemoConfig:
    """Train gradient, Hebbian and non-plastic RNNs on cue-reward and compare them."""

    out: Path = Path("runs/demo")
    """Folder for the runs and the figure. If it holds this demonstration half done, that goes on;
    if it holds anything else, a new numbered one is made beside it."""
    steps: int = 4_000
    """Training steps of each network."""
    batch_size: int = 64
    """Episodes of a batch."""
    learning_rate: float = 2e-3
    """Step size of AdamW."""
    seed: int = 0
    """Seed of everything."""
    processes: Annotated[
        int, tyro.conf.arg(help_behavior_hint="(default: the cores there are)")
    ] = field(default_factory=available_cores)
    """Networks trained at the same time, a process with one thread each."""


def run_demo(config: DemoConfig, *, progress: bool = True) -> list[Record]:
    """Train the networks and draw `comparison.png`.

    The processes end with this one, however it ends.

    Args:
        config: Settings.
        progress: Show a progress bar.

    Returns:
        For each network, what `train.scoring.networks.evaluate` says, and `seconds` of training.

    Raises:
        RuntimeError: If a network could not be trained.
        ValueError: If a setting is out of range.
    """
    processes = check_int("processes", config.processes, minimum=1)
    executor = LocalProcesses(min(processes, len(RUNS)))
    jobs = _jobs(config)
    failures = run_missing([jobs], executor, progress=progress)
    if failures:
        path, reason = next(iter(failures.items()))
        raise RuntimeError(f"{path} could not be trained: {reason}")
    folders = [folder for folder, _ in jobs]
    plot_runs(folders, folders[0].path.parent / "comparison.png")
    seconds = [round(folder.timing()[-1]["seconds"], 1) for folder in folders]
    return [evaluate(f) | {"seconds": s} for f, s in zip(folders, seconds, strict=True)]


def _jobs(config: DemoConfig) -> list[Job]:
    """Return what is to be trained, and where: the first of `out`, `out-2`, … that is free for it.

    Free is a folder that does not exist, or in which these very runs were begun and not finished.
    """
    settings = [
        TrainConfig(
            task="cue-reward",
            network=NetworkConfig(rule=rule, core_settings={"hidden_size": hidden_size}),
            steps=config.steps,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            eval_every=max(1, config.steps // 20),
            eval_episodes=500,
            seed=config.seed,
            threads=1,
        )
        for rule, hidden_size in RUNS
    ]
    path, number = config.out, 1
    while True:
        folders = [RunFolder(path / rule) for rule, _ in RUNS]
        jobs = list(zip(folders, settings, strict=True))
        if not path.exists() or _half_done(jobs):
            return jobs
        number += 1
        path = config.out.with_name(f"{config.out.name}-{number}")


def _half_done(jobs: list[Job]) -> bool:
    begun = [job for job in jobs if job[0].config_path.exists()]
    return (
        bool(begun)
        and all(folder.config() == config for folder, config in begun)
        and not all(is_finished(*job) for job in jobs)
    )
