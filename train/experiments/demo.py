"""The demonstration: networks with and without plasticity learn to remember, side by side."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from plastic_envs.checks import check_int
from train.experiments.executors import LocalProcesses, available_cores
from train.experiments.published.demonstration import DEMO
from train.experiments.reproduce import Planned, run_missing, stages
from train.figures.runs import plot_runs
from train.runs.run_folder import Record, RunFolder
from train.scoring.evaluation import evaluate


@dataclass(frozen=True)
class DemoConfig:
    """Train gradient, Hebbian and non-plastic RNNs on cue-reward and compare them."""

    out: Path = Path("runs/demo")
    """Folder for the runs and the figure. What is there of this demonstration is not done again."""
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

    def plan(self) -> Planned:
        """Return the experiment with these settings."""
        budget = replace(DEMO.budgets["laptop"], seeds=(self.seed,))
        settings = {
            "steps": self.steps,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "eval_every": max(1, self.steps // 20),
        }
        return Planned(replace(DEMO, budgets={"laptop": budget}), "laptop", self.out, settings)


def run_demo(config: DemoConfig, *, progress: bool = True) -> list[Record]:
    """Train the networks and draw `comparison.png`.

    The processes end with this one, however it ends.

    Args:
        config: Settings.
        progress: Show a progress bar.

    Returns:
        For each network, what `train.scoring.evaluation.evaluate` says, `seconds` of training, and
        the `figure`.

    Raises:
        RuntimeError: If a network could not be trained.
        ValueError: If a setting is out of range.
    """
    processes = check_int("processes", config.processes, minimum=1)
    plan = config.plan()
    [jobs] = stages([(plan, plan.all_runs())])
    failures = run_missing([jobs], LocalProcesses(min(processes, len(jobs))), progress=progress)
    if failures:
        path, reason = next(iter(failures.items()))
        raise RuntimeError(f"{path} could not be trained: {reason}")
    folders = [RunFolder(folder.path) for folder, _ in jobs]
    figure = plot_runs(folders, config.out / "comparison.png")
    return [
        evaluate(folder)
        | {"seconds": round(folder.timing()[-1]["seconds"], 1), "figure": str(figure)}
        for folder in folders
    ]
