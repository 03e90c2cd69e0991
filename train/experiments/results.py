"""What came out of experiments: their runs, read back, grouped and summed up."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from plastic_envs.checks import check_choice, check_int, shown
from plastic_envs.images.sources import SourceName
from plastic_envs.tasks import SequenceTask
from train.experiments.files import (
    check_finite,
    check_name,
    plain,
    read_object,
    read_series,
    read_words,
)
from train.experiments.job import failure_path, test_path
from train.experiments.published import EXPERIMENTS
from train.experiments.sweep import BudgetName, Experiment, network_title
from train.runs.run_folder import Record, RunFolder
from train.supervised.config import TrainConfig
from train.wording import counted

# 0.975 quantiles of Student's t by degrees of freedom, for means over few seeds.
_T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclass(frozen=True)
class Measure:
    """A number that is reported of a run.

    Attributes:
        key: Its name in a run's test scores.
        title: Heading of its column.
        percent: Whether it is a share.
    """

    key: str
    title: str
    percent: bool = False

    def format(self, value: float | None) -> str:
        """Write a value."""
        if value is None:
            return "–"
        return f"{100 * value:.1f} %" if self.percent else f"{value:.4f}"


MEASURES: dict[str, tuple[Measure, ...]] = {
    "copy": (Measure("score", "error at recall"),),
    "cue-reward": (
        Measure("score", "error, query half alone"),
        Measure("loss", "error, all steps (published)"),
    ),
    "few-shot": (
        Measure("first_query", "accuracy, first query (published)", percent=True),
        Measure("score", "accuracy, all queries", percent=True),
    ),
    "regression": (
        Measure("score", "error over queries"),
        Measure("within_0.05", "queries within 0.05", percent=True),
    ),
}
"""What is reported of each task. Errors are mean squared errors."""


@dataclass(frozen=True)
class RunResult:
    """One run, as far as it has come.

    Properties raise a `ValueError` that names the file, if it cannot be what a run of this point
    and seed has left.
    """

    folder: RunFolder
    point: dict[str, str]
    seed: int
    task_name: str

    @cached_property
    def config(self) -> TrainConfig | None:
        """Settings; None if it was never started."""
        if not self.folder.config_path.exists():
            return None
        try:
            config = self.folder.config()
        except (ValueError, RecursionError) as error:
            told = str(error).removeprefix(f"{self.folder.config_path} cannot be read: ")
            raise ValueError(f"{self.folder.config_path} cannot be read: {told}") from error
        network = f"{config.network.rule}-{config.network.cell}"
        ours = (self.task_name, self.point["network"], self.seed)
        if (config.task, network, config.seed) != ours:
            raise ValueError(
                f"{self.folder.config_path} must be of task, network and seed {ours}, "
                f"got {(config.task, network, config.seed)}"
            )
        return config

    @cached_property
    def records(self) -> list[Record]:
        """A record for each validation."""
        return read_series(self.folder.metrics_path, "val_score")

    @cached_property
    def test(self) -> Record | None:
        """Scores on test episodes; None until it is finished."""
        path, records = test_path(self.folder), self.records
        if self.config is None or not records or records[-1]["step"] < self.config.steps:
            return None
        return _scores(path, self.task_name) if path.is_file() else None

    @cached_property
    def encoder(self) -> RunFolder | None:
        """The run whose encoder it took over."""
        if self.config is None or self.config.encoder_run is None:
            return None
        name = Path(self.config.encoder_run).name
        path = self.folder.config_path
        return RunFolder(self.folder.path.parent / check_name(path, "encoder_run", name))

    @property
    def seconds(self) -> float:
        """Seconds of training, with that of the encoder."""
        return sum(training_seconds(folder) for folder in self.folders)

    @property
    def folders(self) -> list[RunFolder]:
        """Its folder, and that of its encoder."""
        return [self.folder] if self.encoder is None else [self.encoder, self.folder]

    @property
    def status(self) -> str:
        """How far it has come, in words."""
        if self.test is not None:
            return "finished"
        if self.config is None:
            return "not started"
        where = "before its first validation"
        if self.records:
            where = f"at step {self.records[-1]['step']} of {self.config.steps}"
        if failure := read_words(failure_path(self.folder)):
            return f"failed {where}: {failure}"
        return where if self.records else "not started"


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only.

    Attributes:
        network: Label of the network, as in "gradient-rnn".
        place: Labels on the other axes.
        runs: One for each seed.
    """

    network: str
    place: tuple[str, ...]
    runs: tuple[RunResult, ...]

    @property
    def finished(self) -> list[RunResult]:
        """Runs that are finished."""
        return [run for run in self.runs if run.test is not None]

    @property
    def title(self) -> str:
        """What the network is called."""
        sizes = [
            run.config.network.core_settings["hidden_size"]
            for run in self.runs
            if run.config is not None
        ]
        return network_title(self.network, *sizes[:1])

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
        steps = sorted({run.config.steps for run in self.finished if run.config is not None})
        of_steps = f", {' or '.join(map(str, steps))} step{'s' * (steps != [1])}" if steps else ""
        return f"{len(self.finished)} of {len(self.runs)}{of_steps}"

    def curves(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return steps [N] and validation scores [seeds, N] of all runs that have begun.

        They are cut to the steps that all of them have.
        """
        begun = [run.records for run in self.runs if len(run.records) > 1]
        if not begun:
            return np.zeros(0, np.int64), np.zeros((0, 0))
        common = sorted(set.intersection(*({r["step"] for r in records} for records in begun)))
        scores = [{r["step"]: r["val_score"] for r in records} for records in begun]
        return np.array(common), np.array([[score[step] for step in common] for score in scores])

    def eta(self) -> NDArray[np.float64] | None:
        """Return the mean plasticity rate [seeds, T] over an episode, if there is one."""
        found = [(run, run.test["eta"]) for run in self.finished if run.test is not None]
        traces = [(run, eta) for run, eta in found if eta is not None]
        for run, eta in traces:
            if len(eta) != len(traces[0][1]):
                raise ValueError(
                    f"{test_path(traces[0][0].folder)} and {test_path(run.folder)}: eta must have "
                    f"equally many steps, got {len(traces[0][1])} and {len(eta)}"
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

    @cached_property
    def task(self) -> SequenceTask | None:
        """The task of its runs; None if none was started.

        For images it is on glyphs, whatever they are: chance is the same, and nothing is read from
        where somebody's settings lead.
        """
        for run in (run for group in self.groups for run in group.runs):
            if run.config is not None:
                given = run.config.task_settings
                on_glyphs = {"source": "glyphs", "root": None, "image_size": None}
                settings = {**given, **{k: v for k, v in on_glyphs.items() if k in given}}
                try:
                    return replace(run.config, task_settings=settings).task_for("test")
                except ValueError as error:
                    raise ValueError(f"{run.folder.config_path}: {error}") from error
        return None

    def references(self, measures: Sequence[Measure]) -> dict[str, list[float | None]]:
        """Return what scores are compared with: each measure by the reference's name.

        That is chance and the oracle on the test episodes, and the optimum where it is known and
        something else; only those of which there is any measure.
        """
        if self.task is None:
            return {}
        oracle = {m.key: self.reference(f"oracle_{m.key}") for m in measures}
        chance: dict[str, float | None] = dict.fromkeys(
            ("score", "first_query"), self.task.chance_score
        )
        optimum: dict[str, float | None] = {"score": self.task.optimal_score}
        for values in (oracle, chance, optimum):
            if (best := values["score"]) is not None:
                values["loss"] = best * self.scored_share
        found = {"chance": chance, self.task.oracle_name: oracle}
        if self.task.optimal_score != oracle["score"]:
            found["optimum"] = optimum
        lines = {name: [values.get(m.key) for m in measures] for name, values in found.items()}
        return {
            name: values
            for name, values in lines.items()
            if any(value is not None for value in values)
        }

    @property
    def scored_share(self) -> float:
        """Share of scored steps among those that the loss averages; the others need no memory."""
        configs = [run.config for group in self.groups for run in group.runs]
        if self.task is None or all(c is None or c.loss_steps != "all" for c in configs):
            return 1.0
        return float(self.task.sample_episodes(1, 0).scored.mean())

    def reference(self, key: str) -> float | None:
        """Return the mean of what the finished runs say of their test episodes, as of the oracle.

        None if there is nothing.
        """
        values = [run.test.get(key) for g in self.groups for run in g.finished if run.test]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None


@dataclass(frozen=True)
class Section:
    """An experiment at one budget.

    Attributes:
        experiment: What it is.
        budget: Name of the budget.
        name: Name of its manifest; differs from the experiment's for other images than glyphs.
        command: The command that makes it.
        axes: Names of the axes but the network.
        panels: All that there is, also what is missing.
    """

    experiment: Experiment
    budget: BudgetName
    name: str
    command: str
    axes: tuple[str, ...]
    panels: tuple[Panel, ...]

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
        verb = "is" if missing == 1 else "are"
        done = f"All of {counted(runs, 'run')} are finished" if runs > 1 else "The run is finished"
        if missing:
            done = f"{missing} of {runs} runs {verb} not finished"
        if self.budget == "smoke":
            works = "" if missing else "; they show that everything works"
            return (
                f"{done}. The budget smoke is far too small to speak for it or against it{works}."
            )
        return f"{done}. How far it holds is for the numbers to say, with what they have of seeds."

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What is reported of it."""
        return MEASURES[self.experiment.task]

    @property
    def seconds(self) -> float:
        """Seconds of training, of all runs together."""
        folders = {folder.path: folder for run in self.runs for folder in run.folders}
        return sum(map(training_seconds, folders.values()))


def training_seconds(folder: RunFolder) -> float:
    """Return the seconds of training of a run, as far as it has come."""
    records = read_series(folder.timing_path, "seconds")
    return float(records[-1]["seconds"]) if records else 0.0


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
    order = list(EXPERIMENTS)
    paths = sorted(path for path in out.glob(f"{budget or '*'}/*.json") if path.is_file())
    sections = [_section(path) for path in paths if names is None or path.stem in names]
    if not sections:
        of_budget = "" if budget is None else f" of the budget {budget}"
        raise FileNotFoundError(
            f"{out} holds no experiments{of_budget}: start with plastic reproduce"
        )
    return sorted(sections, key=lambda s: (s.budget, order.index(s.experiment.name), s.name))


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


def _section(path: Path) -> Section:
    manifest = read_object(path)
    name, budget = manifest.get("experiment"), path.parent.name
    experiment = EXPERIMENTS.get(name) if isinstance(name, str) else None
    if experiment is None:
        raise ValueError(
            f"{path} is of no experiment that there is: --out must be a folder of plastic "
            "reproduce, and all in it of this version"
        )
    if manifest.get("budget") != budget or budget not in experiment.budgets:
        known = ", ".join(experiment.budgets)
        raise ValueError(
            f"{path}: budget must be that of its folder and one of {known}, "
            f"got {shown(manifest.get('budget'))}"
        )
    if path.stem not in (name, *(f"{name}-{source}" for source in get_args(SourceName))):
        raise ValueError(f"{path} must be called {name}.json, or after its images")
    runs = list(_runs(path, experiment, manifest.get("runs")))
    axes = tuple(axis.name for axis in experiment.axes)
    places: dict[tuple[str, ...], dict[str, list[RunResult]]] = {}
    for run in runs:
        place = tuple(run.point[name] for name in axes)
        places.setdefault(place, {}).setdefault(run.point["network"], []).append(run)
    panels = [
        Panel(
            place,
            ", ".join(f"{name} {label}" for name, label in zip(axes, place, strict=True)),
            tuple(Group(network, place, tuple(found)) for network, found in groups.items()),
        )
        for place, groups in places.items()
    ]
    command = plain(manifest.get("command"), 4_000)
    found = check_choice("budget", budget, get_args(BudgetName))
    return Section(experiment, found, path.stem, command, axes, tuple(panels))


def _runs(path: Path, experiment: Experiment, listed: Any) -> Iterator[RunResult]:
    """Read the runs of a manifest: each at a point that is declared, and each once."""
    if not isinstance(listed, list) or not listed:
        raise ValueError(f"{path}: runs must be a list, got {shown(listed)}")
    labels = {axis.name: axis.points for axis in experiment.axes}
    networks = [point for size in experiment.budgets.values() for point in size.networks.points]
    known = {**labels, "network": networks}
    have = set()
    for run in listed:
        try:
            folder = check_name(path, "folder", run["folder"])
            seed = check_int("seed", run["seed"], maximum=2**63 - 1)
            point = {
                str(name): check_choice(name, run["point"][name], known[name]) for name in known
            }
        except (KeyError, TypeError, ValueError) as error:
            missing = isinstance(error, KeyError)
            told = f"{error} is missing" if missing else str(error).removeprefix(f"{path}: ")
            raise ValueError(f"{path}: a run cannot be read: {told} in {shown(run)}") from error
        if (key := (*point.values(), seed)) in have:
            raise ValueError(f"{path}: there are two runs at {', '.join(map(str, key))}")
        have.add(key)
        yield RunResult(RunFolder(path.parent / folder), point, seed, experiment.task)


def _scores(path: Path, task: str) -> Record:
    """Read the scores of a run on its test episodes."""
    content = read_object(path)
    for measure in MEASURES[task]:
        check_finite(path, measure.key, content.get(measure.key))
    for name, value in content.items():
        if name.startswith("oracle_") and value is not None:
            check_finite(path, name, value)
    eta = content.setdefault("eta", None)
    if eta is not None:
        if not isinstance(eta, list) or not eta:
            raise ValueError(f"{path}: eta must be a list of rates, got {shown(eta)}")
        for value in eta:
            check_finite(path, "eta", value)
    return content
