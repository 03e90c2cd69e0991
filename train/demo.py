"""The demonstration: networks with and without plasticity learn to remember, side by side."""

import multiprocessing
import time
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from agents.network import RuleName
from train.config import NetworkConfig, TrainConfig
from train.evaluation import evaluate
from train.plot import plot_runs
from train.run_folder import Record, RunFolder
from train.supervised import train

HIDDEN_SIZE = 64
RUNS: tuple[tuple[RuleName, int], ...] = (
    ("gradient", HIDDEN_SIZE),
    ("hebbian", HIDDEN_SIZE),
    ("none", HIDDEN_SIZE * 3 // 2),  # about as many multiplications as with fast weights
)
"""What is trained: rule and hidden size."""


@dataclass(frozen=True)
class DemoConfig:
    """Train gradient, Hebbian and non-plastic RNNs on cue-reward and compare them."""

    out: Path = Path("runs/demo")
    """Folder for the runs and the figure; a new numbered one is made beside it if it exists."""
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
    ] = field(default_factory=multiprocessing.cpu_count)
    """Networks trained at the same time."""


def run_demo(config: DemoConfig, *, progress: bool = True) -> list[Record]:
    """Train the networks and draw `comparison.png`.

    Args:
        config: Settings.
        progress: Show a progress bar.

    Returns:
        For each network, what `train.evaluation.evaluate` says of it and `seconds` of training.

    Raises:
        ValueError: If a setting is out of range.
    """
    if config.processes < 1:
        raise ValueError(f"processes must be at least 1, got {config.processes}")
    out = _free(config.out)
    folders = [RunFolder(out / rule) for rule, _ in RUNS]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(config.processes, len(RUNS)), mp_context=context) as pool:
        futures = [
            pool.submit(_train_one, config, folder, rule, hidden)
            for folder, (rule, hidden) in zip(folders, RUNS, strict=True)
        ]
        _wait(futures, folders, config.steps, progress)
        seconds = [future.result() for future in futures]
    plot_runs(folders, out / "comparison.png")
    return [evaluate(f) | {"seconds": round(s, 1)} for f, s in zip(folders, seconds, strict=True)]


def _train_one(config: DemoConfig, folder: RunFolder, rule: RuleName, hidden_size: int) -> float:
    """Train one network on one thread and return the seconds that it took."""
    started = time.perf_counter()
    settings = TrainConfig(
        task="cue-reward",
        network=NetworkConfig(rule=rule, hidden_size=hidden_size),
        steps=config.steps,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        eval_every=max(1, config.steps // 20),
        eval_episodes=500,
        seed=config.seed,
        threads=1,
    )
    train(settings, folder, progress=False)
    return time.perf_counter() - started


def _wait(
    futures: list["Future[float]"], folders: list[RunFolder], steps: int, progress: bool
) -> None:
    """Show how far the runs are until all have ended."""
    bar = tqdm(total=steps * len(folders), unit="step", disable=not progress)
    with bar:
        while not all(future.done() for future in futures):
            time.sleep(0.5)
            latest = {f.path.name: f.metrics()[-1] for f in folders if f.metrics()}
            bar.update(sum(record["step"] for record in latest.values()) - bar.n)
            scores = {name: f"{record['val_score']:.3f}" for name, record in latest.items()}
            bar.set_postfix(scores, refresh=False)


def _free(path: Path) -> Path:
    """Return `path`, or the first of `path-2`, `path-3`, … that does not exist."""
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate
