"""What came out of experiments: runs, grouped and summed up.

Runs are read back from their folders here, and from records in `train.experiments.reports.records`;
what is made of them does not ask which.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from plastic_envs.checks import check_choice, check_int, shown
from plastic_envs.images.sources import SourceName
from train.experiments import published
from train.experiments.files import (
    check_name,
    check_named,
    check_scores,
    plain,
    read_object,
    read_words,
)
from train.experiments.job import failure_path, folder_of, test_path
from train.experiments.networks import with_networks
from train.experiments.own import is_known
from train.experiments.sweep import (
    BudgetName,
    Config,
    Experiment,
    Measure,
    Run,
    Settings,
    with_seed,
)
from train.runs.records import read_series
from train.runs.run_folder import Record
from train.wording import counted

# 0.975 quantiles of Student's t by degrees of freedom, for means over few seeds.
_T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


class RunResult(ABC):
    """One run, as far as it has come.

    Attributes:
        point: Its labels by the name of their axis.
        seed: Its seed.
    """

    point: Mapping[str, str]
    seed: int

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of its folder."""

    @property
    @abstractmethod
    def config(self) -> Config | None:
        """Settings; None if it was never started."""

    @property
    @abstractmethod
    def first(self) -> Mapping[str, Config]:
        """Settings of the runs that came before it, by the setting that takes something over."""

    @property
    @abstractmethod
    def curve(self) -> Mapping[int, float]:
        """Validation scores by training step."""

    @property
    @abstractmethod
    def test(self) -> Record | None:
        """Scores on test episodes, as `train.experiments.job.score` returns; None until then."""

    @property
    @abstractmethod
    def parts(self) -> Mapping[str, float]:
        """Seconds of training by name: its own, and those of the runs that came before it."""

    @property
    @abstractmethod
    def versions(self) -> Mapping[str, Any]:
        """What it ran on."""

    @property
    @abstractmethod
    def status(self) -> str:
        """How far it has come, in words."""

    @property
    def seconds(self) -> float:
        """Seconds of training, with those of the runs that came before it."""
        return sum(self.parts.values())


class FolderResult(RunResult):
    """A run in its folder.

    Properties raise a `ValueError` that names the file, if it cannot be what a run of this point
    and seed has left.

    Args:
        path: The folder.
        declared: What is expected there.
        measures: Names of the scores that are needed.
    """

    def __init__(self, path: Path, declared: Run, measures: Sequence[str] = ()) -> None:
        self.point, self.seed = declared.point, declared.config.seed
        self.folder = folder_of(path, declared.config)
        self._declared, self._measures = declared, measures

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.folder.path.name

    @cached_property
    def config(self) -> Config | None:
        """Settings; None if it was never started."""
        path = self.folder.config_path
        if not path.exists():
            return None
        check_named(path, read_object(path), self._declared.config)
        try:
            return self.folder.config()
        except (ValueError, RecursionError) as error:
            told = str(error).removeprefix(f"{path} cannot be read: ")
            raise ValueError(f"{path} cannot be read: {told}") from error

    @cached_property
    def _before(self) -> "dict[str, FolderResult]":
        found = {}
        for into, run in self._declared.first.items():
            if (place := getattr(self.config, into, None)) is not None:
                beside = check_name(self.folder.config_path, into, Path(place).name)
                found[into] = FolderResult(self.folder.path.parent / beside, run)
        return found

    @property
    def first(self) -> Mapping[str, Config]:
        """Settings of the runs that came before it, by the setting that takes something over."""
        return {name: run.config for name, run in self._before.items() if run.config is not None}

    @cached_property
    def curve(self) -> Mapping[int, float]:
        """Validation scores by training step."""
        records = read_series(self.folder.metrics_path, "val_score", finite=True)
        return {record["step"]: float(record["val_score"]) for record in records}

    @cached_property
    def test(self) -> Record | None:
        """Scores on test episodes; None until it is finished."""
        path = test_path(self.folder)
        if self.config is None or max(self.curve, default=-1) < self.config.total_steps:
            return None
        if not path.is_file():
            return None
        return check_scores(path, read_object(path), self._measures)

    @property
    def parts(self) -> Mapping[str, float]:
        """Seconds of training by name: its own, and those of the runs that came before it."""
        records = read_series(self.folder.timing_path, "seconds", finite=True)
        own = {self.name: float(records[-1]["seconds"]) if records else 0.0}
        return {name: s for run in self._before.values() for name, s in run.parts.items()} | own

    @property
    def versions(self) -> Mapping[str, Any]:
        """What it ran on."""
        path = self.folder.path / "versions.json"
        return read_object(path) if path.is_file() else {}

    @property
    def status(self) -> str:
        """How far it has come, in words."""
        if self.test is not None:
            return "finished"
        if self.config is None:
            return "not started"
        where = "before its first validation"
        if self.curve:
            where = f"at step {max(self.curve)} of {self.config.total_steps}"
        if failure := read_words(failure_path(self.folder)):
            return f"failed {where}: {failure}"
        return where if self.curve else "not started"


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only.

    Attributes:
        network: Label of the network, as in "gradient-rnn".
        title: What it is called.
        place: Labels on the other axes.
        runs: One for each seed.
    """

    network: str
    title: str
    place: tuple[str, ...]
    runs: tuple[RunResult, ...]

    @property
    def finished(self) -> list[RunResult]:
        """Runs that are finished."""
        return [run for run in self.runs if run.test is not None]

    def values(self, key: str) -> NDArray[np.float64]:
        """Return a test score of each finished run."""
        return np.array([run.test[key] for run in self.finished if run.test is not None])

    def summary(self, key: str) -> tuple[float | None, float | None]:
        """Return mean and half-width at 95 % of a test score over seeds, as far as there are."""
        values = self.values(key)
        return mean_and_interval(values) if len(values) else (None, None)

    @property
    def extent(self) -> str:
        """Say how many seeds are finished, and of how many steps."""
        steps = sorted({run.config.total_steps for run in self.finished if run.config is not None})
        of_steps = f", {' or '.join(map(str, steps))} step{'s' * (steps != [1])}" if steps else ""
        return f"{len(self.finished)} of {len(self.runs)}{of_steps}"

    def curves(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return steps [N] and validation scores [seeds, N] of all runs that have begun.

        They are cut to the steps that all of them have.
        """
        begun = [run.curve for run in self.runs if len(run.curve) > 1]
        if not begun:
            return np.zeros(0, np.int64), np.zeros((0, 0))
        common = sorted(set.intersection(*(set(curve) for curve in begun)))
        return np.array(common), np.array([[curve[step] for step in common] for curve in begun])

    def eta(self) -> NDArray[np.float64] | None:
        """Return the mean plasticity rate [seeds, T] over an episode, if there is one."""
        found = [(run, run.test["eta"]) for run in self.finished if run.test is not None]
        traces = [(run, eta) for run, eta in found if eta is not None]
        for run, eta in traces:
            if len(eta) != len(traces[0][1]):
                raise ValueError(
                    f"{_place(traces[0][0])} and {_place(run)}: eta must have equally many steps, "
                    f"got {len(traces[0][1])} and {len(eta)}"
                )
        return np.array([eta for _, eta in traces]) if traces else None


@dataclass(frozen=True)
class Panel:
    """Groups at one place: all networks under the same settings.

    Attributes:
        place: Labels on all axes but the network.
        title: The same in words, empty if there are no axes.
        groups: A group for each network.
    """

    place: tuple[str, ...]
    title: str
    groups: tuple[Group, ...]

    @property
    def tests(self) -> list[Record]:
        """Scores of all finished runs."""
        return [run.test for group in self.groups for run in group.finished if run.test]

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher score is better, as far as anything is finished."""
        return any(test["higher_is_better"] for test in self.tests)

    def references(self, measures: Sequence[Measure]) -> dict[str, list[float | None]]:
        """Return what scores are compared with: each measure by the reference's name.

        That is what the finished runs say of their test episodes, means over them; only those of
        which there is any measure.
        """
        names = dict.fromkeys(name for test in self.tests for name in test["references"])
        lines = {name: [self._reference(name, m) for m in measures] for name in names}
        return {
            name: values
            for name, values in lines.items()
            if any(value is not None for value in values)
        }

    def _reference(self, name: str, measure: Measure) -> float | None:
        key = "score" if measure.same_chance and name == "chance" else measure.key
        found = [test["references"].get(name, {}).get(key) for test in self.tests]
        known = [value for value in found if value is not None]
        return float(np.mean(known)) if known else None


@dataclass(frozen=True)
class Section:
    """An experiment at one budget.

    Attributes:
        experiment: What it is.
        budget: Name of the budget.
        name: Name of its manifest; differs from the experiment's for other images than glyphs.
        command: The command that makes it.
        panels: All that there is, also what is missing.
    """

    experiment: Experiment
    budget: BudgetName
    name: str
    command: str
    panels: tuple[Panel, ...]

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes but the network."""
        return tuple(axis.name for axis in self.experiment.axes)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What is reported of it."""
        return self.experiment.measures

    @property
    def runs(self) -> list[RunResult]:
        """All runs."""
        return [run for panel in self.panels for group in panel.groups for run in group.runs]

    @property
    def missing(self) -> list[RunResult]:
        """Runs that are not finished."""
        return [run for run in self.runs if run.test is None]

    @property
    def standing(self) -> str:
        """Say how far it has come, and hence what it can say of what is expected."""
        runs, missing = len(self.runs), len(self.missing)
        if missing == runs:
            begun = any(run.config is not None for run in self.runs)
            return (
                f"None of {counted(runs, 'run')} {'is finished' if begun else 'was started'}: "
                "nothing here speaks for it or against it."
            )
        done = f"All of {counted(runs, 'run')} are finished"
        if missing:
            is_not = "is" if missing == 1 else "are"
            done = f"{missing} of {counted(runs, 'run')} {is_not} not finished"
        if self.budget == "smoke":
            works = "" if missing else ": it only shows that everything works"
            return (
                f"{done}. The budget smoke is far too small to speak for it or against it{works}."
            )
        return f"{done}. How far it holds is for the numbers to say, with what they have of seeds."

    @property
    def seconds(self) -> float:
        """Seconds of training, of all runs together."""
        return sum({name: s for run in self.runs for name, s in run.parts.items()}.values())


def read_sections(
    out: Path, budget: str | None = None, names: Collection[str] | None = None
) -> list[Section]:
    """Read all experiments below a folder, in the order in which they are declared.

    Args:
        out: Folder of all experiments.
        budget: Leave out other budgets than this.
        names: Leave out other manifests than those of these names.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If there is something else.
    """
    paths = sorted(path for path in out.glob(f"{budget or '*'}/*.json") if path.is_file())
    sections = [_section(path) for path in paths if names is None or path.stem in names]
    if not sections:
        of_budget = "" if budget is None else f" of the budget {budget}"
        raise FileNotFoundError(
            f"{out} holds no experiments{of_budget}: start with plastic reproduce"
        )
    return in_order(sections)


def in_order(sections: Sequence[Section]) -> list[Section]:
    """Return sections by budget, the largest first, in the order in which they are declared."""
    budgets, order = get_args(BudgetName), list(published.EXPERIMENTS)
    return sorted(
        sections,
        key=lambda s: (budgets.index(s.budget), order.index(s.experiment.name), s.name),
    )


def mean_and_interval(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float | None]:
    """Return the mean over seeds, and the half-width of its 95 % interval (Student's t).

    The half-width is None for one seed, which says nothing of the spread.
    """
    array = np.asarray(values, np.float64)
    freedom = len(array) - 1
    if freedom < 1:
        return float(array.mean()), None
    quantile = _T_QUANTILES[min(freedom, len(_T_QUANTILES)) - 1]  # too wide, if for more seeds
    return float(array.mean()), quantile * float(array.std(ddof=1)) / math.sqrt(len(array))


def experiment_at(path: Path, name: object, budget: str) -> tuple[Experiment, BudgetName]:
    """Return the experiment that a file is of, which is called after it, and its budget.

    Raises:
        ValueError: If there is none of that name and budget.
    """
    experiment = published.EXPERIMENTS.get(name) if isinstance(name, str) else None
    if experiment is None:
        raise ValueError(
            f"{path} is of no experiment that there is: --out must be a folder of plastic "
            "reproduce, and all in it of this version; a task of your own is named by --tasks"
        )
    if budget not in experiment.budgets:
        known = ", ".join(experiment.budgets)
        raise ValueError(f"{path}: budget must be one of {known}, got {shown(budget)}")
    if path.stem not in (name, *(f"{name}-{source}" for source in get_args(SourceName))):
        raise ValueError(f"{path} must be called {name}, or after its images")
    return experiment, check_choice("budget", budget, get_args(BudgetName))


def panels_of(
    experiment: Experiment, budget: BudgetName, runs: Sequence[RunResult]
) -> tuple[Panel, ...]:
    """Return runs grouped by where they are."""
    networks = experiment.budget(budget).networks
    axes = tuple(axis.name for axis in experiment.axes)
    places: dict[tuple[str, ...], dict[str, list[RunResult]]] = {}
    for run in runs:
        place = tuple(run.point[name] for name in axes)
        places.setdefault(place, {}).setdefault(run.point["network"], []).append(run)
    return tuple(
        Panel(
            place,
            ", ".join(f"{name} {label}" for name, label in zip(axes, place, strict=True)),
            tuple(
                Group(network, networks.title(network), place, tuple(found))
                for network, found in groups.items()
            ),
        )
        for place, groups in places.items()
    )


def check_point(experiment: Experiment, budget: BudgetName, point: Any) -> dict[str, str]:
    """Return the labels of a run, which must be declared.

    Raises:
        KeyError: If one is missing.
        TypeError: If it has no labels.
        ValueError: If there is no such label.
    """
    return {
        axis.name: check_choice(axis.name, point[axis.name], axis.points)
        for axis in experiment.kept_axes(budget)
    }


def added_networks(path: Path) -> list[str]:
    """Return the networks of a manifest that its experiment does not have by itself.

    Raises:
        ValueError: If one is not known, and might have to be imported.
    """
    labels = read_object(path).get("networks", [])
    if not isinstance(labels, list):
        raise ValueError(f"{path}: networks must be a list, got {shown(labels)}")
    return [check_known(path, label) for label in labels]


def check_known(path: Path, label: object) -> str:
    """Return the label of a network that is registered, or was asked for.

    Raises:
        ValueError: If it is neither.
    """
    if not isinstance(label, str) or not is_known(label):
        raise ValueError(
            f"{path} has a network {shown(label)}, which is not known here: if it is yours, name "
            "it with --networks"
        )
    return label


def _section(path: Path) -> Section:
    manifest = read_object(path)
    experiment, budget = experiment_at(path, manifest.get("experiment"), path.parent.name)
    if manifest.get("budget") != budget:
        raise ValueError(
            f"{path}: budget must be that of its folder, got {shown(manifest.get('budget'))}"
        )
    experiment = with_networks(experiment, added_networks(path))
    settings = manifest.get("settings", {}) if experiment.asked_as else {}  # as its task needs
    runs = list(_runs(path, experiment, budget, manifest.get("runs"), settings))
    command = plain(manifest.get("command"), 4_000)
    return Section(experiment, budget, path.stem, command, panels_of(experiment, budget, runs))


def _runs(
    path: Path, experiment: Experiment, budget: BudgetName, listed: Any, settings: Settings
) -> Iterator[RunResult]:
    """Read the runs of a manifest: each at a point that is declared, and each once."""
    if not isinstance(listed, list) or not listed:
        raise ValueError(f"{path}: runs must be a list, got {shown(listed)}")
    have = set()
    declared = {tuple(run.point.items()): run for run in experiment.runs(budget, settings)}
    measures = [measure.key for measure in experiment.measures]
    for run in listed:
        try:
            folder = check_name(path, "folder", run["folder"])
            seed = check_int("seed", run["seed"], maximum=2**63 - 1)
            point = check_point(experiment, budget, run["point"])
        except (KeyError, TypeError, ValueError) as error:
            missing = isinstance(error, KeyError)
            told = f"{error} is missing" if missing else str(error).removeprefix(f"{path}: ")
            raise ValueError(f"{path}: a run cannot be read: {told} in {shown(run)}") from error
        if (key := (*point.values(), seed)) in have:
            raise ValueError(f"{path}: there are two runs at {', '.join(map(str, key))}")
        have.add(key)
        yield FolderResult(
            path.parent / folder, with_seed(declared[tuple(point.items())], seed), measures
        )


def _place(run: RunResult) -> Path | str:
    return test_path(run.folder) if isinstance(run, FolderResult) else run.name
