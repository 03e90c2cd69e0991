"""What `plastic reproduce` does."""

import json
import logging
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, get_args

import tyro

from plastic_envs.checks import check_int, shown
from plastic_envs.images.sources import SourceName
from train.experiments import published
from train.experiments.executors import Executor, LocalProcesses, available_cores
from train.experiments.networks import with_networks
from train.experiments.own import ask_for, find_experiment
from train.experiments.reports.reading import added_networks, read_sections
from train.experiments.reports.records import DEFAULT_RECORDS, record_of, write_records
from train.experiments.reports.results import Section
from train.experiments.reproduce import (
    Planned,
    run_missing,
    seconds_left,
    selected,
    stages,
)
from train.experiments.sweep import ROOT, SOURCE, Experiment, Measure, Settings
from train.names import BudgetName, DeviceName
from train.places import DEFAULT_OUT, typed_path
from train.runs.run_folder import Record
from train.wording import counted

logger = logging.getLogger(__name__)

_PHOTOGRAPHS = ("cifar-fs", "mini-imagenet")

_FOLDER = tyro.constructors.PrimitiveConstructorSpec(  # an option that may stand alone
    nargs=(0, 1),
    metavar="[DIR]",
    instance_from_str=lambda words: typed_path(words[0]) if words else DEFAULT_RECORDS,
    is_instance=lambda value: value is None or isinstance(value, Path),
    str_from_instance=lambda path: [] if path is None else [str(path)],
)


@dataclass(frozen=True)
class ReproduceConfig:
    """Experiments to run."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names of experiments, which `--list` tells, or of tasks: a task of your own is module:Class,
    or module:Id-v0."""
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
    networks: tuple[str, ...] = ()
    """Run these networks alone, also such that the experiment does not have: RULE-CELL, as in
    `oja-gru`, or a core, as in `lstm`; your own are module:Class and module:name."""
    settings: tuple[str, ...] = ()
    """Settings of a task of your own, as in `task_settings.length=7`."""
    source: SourceName = "glyphs"
    """Where the images of few-shot experiments come from."""
    root: str | None = None
    """Folder or file of the data, for other sources than glyphs."""
    device: DeviceName = "auto"
    """Where runs compute; "auto" takes a GPU if there is one."""
    record: Annotated[
        Path | None, _FOLDER, tyro.conf.arg(help_behavior_hint="(if given alone: results)")
    ] = None
    """Keep a record of every finished run of these experiments in this folder."""

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
            raise ValueError(f"name an experiment: {', '.join(published.EXPERIMENTS)}")
        experiments = [find_experiment(name) for name in dict.fromkeys(self.names)]
        return [self.plan(experiment, self.budget) for experiment in experiments]

    def plan(self, experiment: Experiment, budget: BudgetName) -> Planned:
        """Return one experiment at a budget, with networks that were asked for now or before."""
        settings = {**self.image_settings(budget)} if experiment.has_images else {}
        if self.settings and not experiment.asked_as:
            raise ValueError(
                f"settings are for a task of your own: {experiment.name} is declared with its own"
            )
        settings |= dict(_setting(text) for text in self.settings)
        ask_for(self.networks)
        plan = Planned(experiment, budget, self.out, settings, self.device)
        before = added_networks(plan.manifest_path) if plan.manifest_path.is_file() else ()
        return replace(plan, experiment=with_networks(experiment, (*before, *self.networks)))

    def image_settings(self, budget: BudgetName) -> Settings:
        """Return the settings of the images; photographs are augmented in training end to end."""
        settings: dict[str, object] = {}
        if self.source != "glyphs":
            settings = {SOURCE: self.source, ROOT: self.root}
        if self.source in _PHOTOGRAPHS and budget == "paper":
            settings["task_settings.augment"] = True
        return settings

    def selection(self) -> dict[str, tuple[str, ...]]:
        """Return the labels to run alone, by the name of their axis.

        Raises:
            ValueError: If they cannot be read.
        """
        only: dict[str, tuple[str, ...]] = {}
        for name, labels in map(_only, self.only):
            only[name] = only.get(name, ()) + labels
        if self.networks:
            only["network"] = only.get("network", ()) + self.networks
        return only

    def command(self, plan: Planned) -> str:
        """Return the command that makes all runs of an experiment."""
        words = self._words(plan)
        if self.out != DEFAULT_OUT:
            words += ["--out", str(self.out)]
        return shlex.join(words)

    def command_of(self, plan: Planned, point: Mapping[str, str], seed: int) -> str:
        """Return the command that makes one run, on any machine."""
        words = [word if word != self.root else "PATH" for word in self._words(plan)]
        labels = [f"{name}={label}" for name, label in point.items()]
        added = [point["network"]] if point["network"] not in plan.declared else []
        more = ["--networks", *added] if added else []
        return shlex.join([*words, "--only", *labels, *more, "--seeds", str(seed)])

    def _words(self, plan: Planned) -> list[str]:
        words = ["plastic", "reproduce", plan.experiment.word, "--budget", plan.budget]
        if SOURCE in plan.settings:
            words += ["--source", self.source]
            words += [] if self.root is None else ["--root", self.root]
        return words + (["--settings", *self.settings] if self.settings else [])


def listing(config: ReproduceConfig) -> list[Record]:
    """Return experiments with their number of runs and the seconds left, for each budget.

    All of them, if none is named, in which there is what `only` and `seeds` ask for.

    Raises:
        ValueError: If something is asked for that does not exist.
    """
    only, rows, refused = config.selection(), [], ""
    experiments = [find_experiment(name) for name in config.names]
    for experiment in experiments or published.EXPERIMENTS.values():
        row: Record = {"experiment": experiment.name, "claim": experiment.claim}
        for budget in get_args(BudgetName):
            row[budget] = None
            if budget not in experiment.budgets:
                continue
            plan = config.plan(experiment, budget)
            try:
                runs = selected(plan.all_runs(), config.seeds, only)
            except ValueError as error:
                refused = str(error)
                continue
            jobs = [job for stage in stages([(plan, runs)]) for job in stage]
            row[budget] = {"runs": len(jobs), "seconds": seconds_left(jobs, config.cores)}
        if any(row[budget] is not None for budget in get_args(BudgetName)):
            rows.append(row)
    if not rows:
        raise ValueError(refused)
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
    only = config.selection()
    chosen = [(plan, selected(plan.all_runs(), config.seeds, only)) for plan in plans]
    executor = config.executor()
    for plan in plans:
        plan.write_manifest(config.command(plan))
    failures = run_missing(stages(chosen), executor, progress=progress)
    names = {plan.manifest_path.stem for plan in plans}
    sections = read_sections(config.out, config.budget, names)
    if config.record is not None:
        for plan in plans:
            section = next(s for s in sections if s.name == plan.manifest_path.stem)
            record(config, plan, section, config.record)
    return [row for section in sections for row in _rows(section)], failures


def record(config: ReproduceConfig, plan: Planned, section: Section, folder: Path) -> Path:
    """Keep a record of every finished run of an experiment; return where they are.

    Raises:
        ValueError: If something else is in the place of the records.
    """
    path = folder / plan.budget / f"{section.name}.jsonl"
    records = [
        record_of(run, config.command_of(plan, run.point, run.seed))
        for run in section.runs
        if run.test is not None
    ]
    write_records(path, records)
    logger.info("%s: %s", path, counted(len(records), "record"))
    return path


def _rows(section: Section) -> list[Record]:
    records: list[Record] = []
    for panel in section.panels:
        where = {"experiment": section.name, "place": panel.title}
        for group in panel.groups:
            mean, interval = group.summary("score")
            by_seed = group.values("score").tolist()
            row = {"network": group.title, "score": mean, "interval": interval}
            records.append({**where, **row, "by_seed": by_seed, "runs": group.extent})
        for name, [value] in panel.references([Measure("score", "score")]).items():
            records.append({**where, "network": name, "score": value})
    return records


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ValueError(f"settings must be like task_settings.length=7, got {shown(text)}")
    try:
        return name, json.loads(value)
    except ValueError:  # a text
        return name, value


def _only(text: str) -> tuple[str, tuple[str, ...]]:
    name, equals, labels = text.partition("=")
    if not (name and equals and labels):
        raise ValueError(f"only must be like delay=20,40, got {shown(text)}")
    return name, tuple(labels.split(","))
