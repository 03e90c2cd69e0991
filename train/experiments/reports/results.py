"""What came out of experiments: runs, grouped and summed up.

Runs are read back from folders in `train.experiments.reports.reading`, and from records in
`train.experiments.reports.records`; what is made of them does not ask which.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from train.experiments import published
from train.experiments.job import test_path
from train.experiments.reports.runs import FolderResult, RunResult
from train.experiments.sweep import (
    Experiment,
    Measure,
)
from train.names import BudgetName
from train.runs.run_folder import Record
from train.wording import counted

# 0.975 quantiles of Student's t by degrees of freedom, for means over few seeds.
_T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


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
        """Return a test score of each finished run that has it."""
        found = [run.test.get(key) for run in self.finished if run.test is not None]
        return np.array([value for value in found if value is not None], np.float64)

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


def _place(run: RunResult) -> Path | str:
    return test_path(run.folder) if isinstance(run, FolderResult) else run.name
