"""What `plastic reproduce` does."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

import tyro

from plastic_envs.checks import check_choice, check_int, shown
from plastic_envs.images.sources import SourceName
from train.experiments.executors import Executor, LocalProcesses, available_cores
from train.experiments.published import EXPERIMENTS
from train.experiments.reproduce import (
    Planned,
    run_missing,
    seconds_left,
    selected,
    stages,
)
from train.experiments.results import read_sections
from train.experiments.sweep import BudgetName, Settings
from train.runs.run_folder import Record

DEFAULT_OUT = Path("runs/reproduce")

_PHOTOGRAPHS = ("cifar-fs", "mini-imagenet")


@dataclass(frozen=True)
class ReproduceConfig:
    """Experiments to run."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names of experiments; `--list` tells them."""
    budget: BudgetName = "laptop"
    """How much: as published, what a laptop can do, or just enough to see that it works."""
    out: Path = DEFAULT_OUT
    """Folder of all experiments."""
    jobs: Annotated[
        int | None, tyro.conf.arg(help_behavior_hint="(default: the cores there are)")
    ] = None
    """Runs at the same time on this machine, one thread each."""
    ray: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS")] = None
    """Run on a cluster, by Ray: `auto`, `HOST:PORT` or `ray://HOST:PORT` of one that is running,
    or `local` for a Ray of its own on this machine."""
    seeds: tuple[int, ...] | None = None
    """Run these seeds of the budget alone."""
    only: tuple[str, ...] = ()
    """Run these points alone, as in `delay=20,40` or `network=gradient-rnn,none-rnn`."""
    source: SourceName = "glyphs"
    """Where the images of few-shot experiments come from."""
    root: str | None = None
    """Folder or file of the data, for other sources than glyphs."""

    @property
    def cores(self) -> int:
        """How many runs at the same time this machine is to do.

        Raises:
            ValueError: If that is less than one.
        """
        return available_cores() if self.jobs is None else check_int("jobs", self.jobs, minimum=1)

    def executor(self) -> Executor:
        """Return where jobs run."""
        if self.ray is None:
            return LocalProcesses(self.cores)
        from train.experiments.ray_executor import LOCAL, RayExecutor  # not always installed

        return RayExecutor(self.ray, self.cores if self.ray == LOCAL else self.jobs)

    def plans(self) -> list[Planned]:
        """Return what was asked for.

        Raises:
            ValueError: If there is no such experiment, or none is named.
        """
        if not self.names:
            raise ValueError(f"name an experiment: {', '.join(EXPERIMENTS)}")
        for name in self.names:
            check_choice("experiment", name, EXPERIMENTS)
        return [self.plan(name, self.budget) for name in dict.fromkeys(self.names)]

    def plan(self, name: str, budget: BudgetName) -> Planned:
        """Return one experiment at a budget."""
        experiment = EXPERIMENTS[name]
        settings = self.image_settings(budget) if experiment.task == "few-shot" else {}
        return Planned(experiment, budget, self.out, settings)

    def image_settings(self, budget: BudgetName) -> Settings:
        """Return the settings of the images; photographs are augmented in training end to end."""
        settings: dict[str, object] = {}
        if self.source != "glyphs":
            settings = {"task_settings.source": self.source, "task_settings.root": self.root}
        if self.source in _PHOTOGRAPHS and budget == "paper":
            settings["task_settings.augment"] = True
        return settings

    def command(self, plan: Planned) -> str:
        """Return the command that makes all runs of an experiment."""
        words = ["plastic", "reproduce", plan.experiment.name, "--budget", plan.budget]
        if plan.settings:
            words += ["--source", self.source]
            words += [] if self.root is None else ["--root", self.root]
        if self.out != DEFAULT_OUT:
            words += ["--out", str(self.out)]
        return shlex.join(words)


def listing(config: ReproduceConfig) -> list[Record]:
    """Return every experiment with its number of runs and the seconds left, for each budget."""
    rows = []
    for name, experiment in EXPERIMENTS.items():
        row: Record = {"experiment": name, "claim": experiment.claim}
        for budget in get_args(BudgetName):
            plan = config.plan(name, budget)
            jobs = [job for stage in stages([(plan, plan.all_runs())]) for job in stage]
            row[budget] = {"runs": len(jobs), "seconds": seconds_left(jobs, config.cores)}
        rows.append(row)
    return rows


def reproduce_experiments(
    config: ReproduceConfig, *, progress: bool = True
) -> tuple[list[Record], dict[Path, str]]:
    """Run what is missing of the experiments that were asked for.

    Args:
        config: Settings.
        progress: Show a progress bar.

    Returns:
        A record for each network at each place: `experiment`, `place`, `network`, the mean test
        `score` of its seeds with its half-width `interval` at 95 %, scores `by_seed`, `runs`; and
        for each reference the first four. Then what went wrong, by the folder of each failed run.

    Raises:
        ValueError: If something is asked for that does not exist.
        ImportError: If Ray is asked for and not installed.
        ConnectionError: If there is no Ray at the address.
    """
    plans = config.plans()
    only: dict[str, tuple[str, ...]] = {}
    for name, labels in map(_only, config.only):
        only[name] = only.get(name, ()) + labels
    chosen = [(plan, selected(plan.all_runs(), config.seeds, only)) for plan in plans]
    executor = config.executor()
    for plan in plans:
        plan.write_manifest(config.command(plan))
    failures = run_missing(stages(chosen), executor, progress=progress)
    return _results(config, plans), failures


def _results(config: ReproduceConfig, plans: Sequence[Planned]) -> list[Record]:
    names = {plan.manifest_path.stem for plan in plans}
    records: list[Record] = []
    for section in read_sections(config.out, config.budget, names):
        for panel in section.panels:
            where = {"experiment": section.name, "place": panel.title}
            for group in panel.groups:
                mean, interval = group.summary("score")
                by_seed = group.values("score").tolist()
                record = {"network": group.title, "score": mean, "interval": interval}
                records.append({**where, **record, "by_seed": by_seed, "runs": group.extent})
            score = [measure for measure in section.measures if measure.key == "score"]
            for name, [value] in panel.references(score).items():
                records.append({**where, "network": name, "score": value})
    return records


def _only(text: str) -> tuple[str, tuple[str, ...]]:
    name, equals, labels = text.partition("=")
    if not (name and equals and labels):
        raise ValueError(f"only must be like delay=20,40, got {shown(text)}")
    return name, tuple(labels.split(","))
