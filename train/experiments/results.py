"""What came out of experiments: their runs, read back, grouped and summed up."""

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plastic_envs.tasks import SequenceTask
from train.config import TaskName, TrainConfig
from train.experiments.job import failure_path, is_finished, test_path
from train.experiments.published import EXPERIMENTS
from train.experiments.sweep import Experiment, network_title
from train.run_folder import Record, RunFolder, read_records

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


MEASURES: dict[TaskName, tuple[Measure, ...]] = {
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
    """One run, as far as it has come."""

    folder: RunFolder
    point: dict[str, str]
    seed: int

    @cached_property
    def config(self) -> TrainConfig | None:
        """Settings; None if it was never started."""
        return self.folder.config() if self.folder.config_path.exists() else None

    @cached_property
    def records(self) -> list[Record]:
        """A record for each validation."""
        return self.folder.metrics()

    @cached_property
    def test(self) -> Record | None:
        """Scores on test episodes; None until it is finished."""
        if self.config is None or not is_finished(self.folder, self.config):
            return None
        content: Record = json.loads(test_path(self.folder).read_text())
        return content

    @cached_property
    def encoder(self) -> RunFolder | None:
        """The run whose encoder it took over."""
        if self.config is None or self.config.encoder_run is None:
            return None
        return RunFolder(self.folder.path.parent / Path(self.config.encoder_run).name)

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
        if self.config is None or not self.records:
            return "not started"
        where = f"at step {self.records[-1]['step']} of {self.config.steps}"
        failure = failure_path(self.folder)
        if failure.is_file():
            return f"failed {where}: {failure.read_text().strip()}"
        return where


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
        sizes = [run.config.network.hidden_size for run in self.runs if run.config is not None]
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
        of_steps = f", {', '.join(map(str, steps))} steps" if steps else ""
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
        traces = [run.test["eta"] for run in self.finished if run.test is not None]
        return np.array(traces) if traces and traces[0] is not None else None


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
        """The task of its runs; None if none was started."""
        for group in self.groups:
            for run in group.runs:
                if run.config is not None:
                    return run.config.task_for("test")
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
    budget: str
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
    records = read_records(folder.timing_path)
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
    paths = sorted(out.glob(f"{budget or '*'}/*.json"))
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
    manifest: dict[str, Any] = json.loads(path.read_text())
    experiment = EXPERIMENTS.get(manifest.get("experiment", ""))
    if experiment is None:
        raise ValueError(
            f"{path} is of no experiment that there is: --out must be a folder of plastic "
            "reproduce, and all in it of this version"
        )
    runs = [
        RunResult(RunFolder(path.parent / run["folder"]), run["point"], run["seed"])
        for run in manifest["runs"]
    ]
    axes = tuple(name for name in runs[0].point if name != "network")
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
    return Section(
        experiment, manifest["budget"], path.stem, manifest["command"], axes, tuple(panels)
    )
