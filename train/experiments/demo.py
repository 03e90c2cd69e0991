"""The demonstration: networks that remember in different ways, or hardly, side by side."""

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
    """Train networks with plastic weights, memories and neither on cue-reward and compare them."""

    out: Path = Path("runs/demo")
    """Folder for the runs and the figure. What is there of this demonstration is not done again."""
    steps: int = 2_500
    """Training steps of each network."""
    batch_size: int = 64
    """Episodes of a batch."""
    learning_rate: float = 3e-3
    """Step size of AdamW at the start; it falls to zero along a cosine."""
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
            "eval_every": max(1, self.steps // 10),
        }
        return Planned(replace(DEMO, budgets={"laptop": budget}), "laptop", self.out, settings)


def run_demo(config: DemoConfig, *, progress: bool = True) -> list[Record]:
    """Train the networks and draw `comparison.png`.

    The processes end with this one, however it ends.

    Args:
        config: Settings.
        progress: Show a progress bar.

    Returns:
        For each network its name, its number of `parameters`, what
        `train.scoring.evaluation.evaluate` says, `seconds` of training, and the `figure`.

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
    axis = plan.experiment.budget(plan.budget).networks
    names = [axis.title(run.point[axis.name]) for run in plan.all_runs()]
    figure = plot_runs(folders, config.out / "comparison.png", labels=names)
    return [
        {"network": name}
        | _described(folder)
        | {"seconds": round(folder.timing()[-1]["seconds"], 1), "figure": str(figure)}
        for name, folder in zip(names, folders, strict=True)
    ]


def _described(folder: RunFolder) -> Record:
    network, _ = folder.load_network("best")
    scores = evaluate(folder)
    for part in folder.config().network.words:  # of which each network has others
        del scores[part]
    return {"parameters": sum(each.numel() for each in network.parameters()), **scores}
