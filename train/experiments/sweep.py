"""Experiments as data: a sweep over settings, and the runs that it consists of."""

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Literal, TypeVar

from plastic_envs.checks import check_choice, shown
from train import parts
from train.names import BudgetName
from train.reinforcement.config import RLConfig
from train.settings import changed, flat
from train.supervised.config import TrainConfig

FigureName = Literal["curves", "comparison", "eta"]
Config = TrainConfig | RLConfig
Settings = Mapping[str, Any]
"""Values by the dotted names of settings, as in `"network.rule"`."""

PLACES = ("encoder_run", "start_from")
"""Settings that say where a run lies that another one takes something over from."""

SOURCE, ROOT = "task_settings.source", "task_settings.root"
"""Settings that say where few-shot images come from."""

NAMES = ("task", "env")
NETWORK_NAMES = ("network.core", "network.rule", "network.cell")
"""Settings that name what is made; the defaults of others depend on them."""

_C = TypeVar("_C", bound=TrainConfig | RLConfig)


@dataclass(frozen=True)
class Axis:
    """What an experiment varies.

    Attributes:
        name: What it is called in figures and tables.
        points: What is set at each point, by the point's label.
        titles: What points are called there, if not by their labels.
    """

    name: str
    points: Mapping[str, Settings]
    titles: Mapping[str, str] = field(default_factory=dict)

    def only(self, labels: Iterable[str]) -> "Axis":
        """Return the axis with these points alone.

        Raises:
            ValueError: If there is no such point.
        """
        labels = tuple(labels)
        for label in labels:
            if label not in self.points:
                raise ValueError(
                    f"{self.name} must be one of {', '.join(self.points)}, got {shown(label)}"
                )
        return replace(self, points={label: self.points[label] for label in labels})

    def title(self, label: str) -> str:
        """Return what a point is called."""
        return self.titles.get(label, label)


def vary(name: str, values: Iterable[Any], *settings: str) -> Axis:
    """Return an axis along which settings take values, labelled by them."""
    return Axis(name, {str(value): dict.fromkeys(settings, value) for value in values})


@dataclass(frozen=True)
class Measure:
    """A number that is reported of a run.

    Attributes:
        key: Its name in a run's test scores.
        title: Heading of its column.
        percent: Whether it is a share.
        digits: Digits behind the point of what is no share.
        same_chance: Whether chance is that of the score.
    """

    key: str
    title: str
    percent: bool = False
    digits: int = 4
    same_chance: bool = False

    def format(self, value: float | None) -> str:
        """Write a value."""
        if value is None:
            return "–"
        return f"{100 * value:.1f} %" if self.percent else f"{value:.{self.digits}f}"


@dataclass(frozen=True)
class First:
    """A run that comes before others, which take something over from it.

    Attributes:
        into: The setting of the others that says where it lies.
        settings: Its own settings.
        alike: Whether it has the settings of the run that needs it, but for its own; the defaults
            if not.
    """

    into: str
    settings: Settings
    alike: bool = False


@dataclass(frozen=True)
class Budget:
    """How much of an experiment is run, and at what size.

    Attributes:
        networks: Networks that are compared.
        seeds: Seeds of each point.
        settings: Settings on top of the experiment's; what is varied is on top of both.
        only: Labels of the points that are kept, by the name of their axis; left out, all are.
        first: Runs that come before each of them: an image encoder, or an easier lesson.
    """

    networks: Axis
    seeds: tuple[int, ...]
    settings: Settings
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    first: tuple[First, ...] = ()


@dataclass(frozen=True)
class Run:
    """One training run of an experiment.

    Attributes:
        point: Labels of the run by the name of their axis.
        config: Settings; those of `PLACES` name runs, and do not say where they are kept.
        first: Runs that come before it, by the setting that says where each lies.
    """

    point: Mapping[str, str]
    config: Config
    first: Mapping[str, "Run"] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the folder; experiments that share a run share its folder."""
        words, _, _ = self.config.name.rpartition("-seed")
        words = re.sub(r"[^A-Za-z0-9._-]+", "-", words)
        digest = hashlib.sha256(json.dumps(self._digested(), sort_keys=True).encode()).hexdigest()
        return f"{words}-{digest[:8]}-seed{self.config.seed}"

    def _digested(self) -> list[Any]:
        own = {k: v for k, v in differences(self.config).items() if k != "seed"}
        return [own, *(run._digested() for run in self.first.values())]


def with_seed(run: Run, seed: int) -> Run:
    """Return a run, and those before it, with another seed."""
    first = {into: with_seed(each, seed) for into, each in run.first.items()}
    return replace(run, config=replace(run.config, seed=seed), first=first)


@dataclass(frozen=True)
class Experiment:
    """An experiment.

    Attributes:
        name: Its name on the command line.
        claim: What it is to show, in one sentence.
        budgets: How much is run.
        kind: Whether runs are supervised or of reinforcement learning, by the class of their
            settings.
        settings: Settings of all its runs.
        axes: What is varied besides network and seed.
        measures: What is reported; the score if nothing is given.
        figures: What is drawn: learning `curves`, a `comparison` of test scores along the first
            axis, `eta` over an episode.
        note: What a reader should know besides.
        asked_as: Its name on the command line, if that is another one.
    """

    name: str
    claim: str
    budgets: Mapping[BudgetName, Budget]
    kind: type[TrainConfig] | type[RLConfig] = TrainConfig
    settings: Settings = field(default_factory=dict)
    axes: tuple[Axis, ...] = ()
    measures: tuple[Measure, ...] = (Measure("score", "score"),)
    figures: tuple[FigureName, ...] = ("curves", "comparison", "eta")
    note: str = ""
    asked_as: str = ""

    @property
    def word(self) -> str:
        """Its name on the command line."""
        return self.asked_as or self.name

    @property
    def has_images(self) -> bool:
        """Whether its runs see few-shot images, whose source can be chosen."""
        return self.settings.get("task") == "few-shot"

    def runs(self, budget: BudgetName, settings: Settings | None = None) -> list[Run]:
        """Return all runs, seed by seed, so that early results cover every point.

        Args:
            budget: How much is run.
            settings: Settings on top of all others: where the images of few-shot tasks come from.

        Raises:
            ValueError: If there is no such budget.
        """
        size, axes, more = self.budget(budget), self.kept_axes(budget), settings or {}
        runs = []
        for seed, *labels in product(size.seeds, *(axis.points for axis in axes)):
            point = {axis.name: str(label) for axis, label in zip(axes, labels, strict=True)}
            given: dict[str, Any] = {"threads": 1, "seed": seed}
            own: dict[str, Any] = {}
            for axis in axes:
                own.update(axis.points[point[axis.name]])
            shared = {**given, **self.settings, **size.settings}
            chosen = {**_fitting(self.kind, shared, own), **own}
            first = {
                each.into: Run(
                    {},
                    made(self.kind, {**(chosen if each.alike else given), **each.settings, **more}),
                )
                for each in size.first
            }
            places = {into: run.name for into, run in first.items()}
            runs.append(Run(point, made(self.kind, {**chosen, **more, **places}), first))
        return runs

    def budget(self, name: BudgetName) -> Budget:
        """Return how much is run at a budget.

        Raises:
            ValueError: If it has no such budget.
        """
        return self.budgets[check_choice(f"budget of {self.name}", name, tuple(self.budgets))]

    def kept_axes(self, budget: BudgetName) -> list[Axis]:
        """Return the axes with the points of a budget, networks last."""
        size = self.budget(budget)
        return [
            axis.only(size.only.get(axis.name, axis.points)) for axis in (*self.axes, size.networks)
        ]


def made(kind: type[_C], settings: Settings) -> _C:
    """Return settings of a run, given by their dotted names; the others have their defaults.

    Raises:
        ValueError: If there is no such setting, or one does not fit.
    """
    return changed(kind(), settings)


def _fitting(kind: type[Config], shared: Settings, own: Settings) -> dict[str, Any]:
    """Leave out what is said for all networks and this one has no setting for.

    Args:
        kind: Of the settings.
        shared: Said for all runs.
        own: Said for this one.
    """
    names = {**flat(kind().network, "network."), **shared, **own}
    core = parts.find_core(names["network.core"])
    there: dict[str, Collection[str]] = {"core": core.options, "rule": (), "cell": ()}
    for name, find in (("rule", parts.find_rule), ("cell", parts.find_cell)):
        if core.takes(name):
            there[name] = find(names[f"network.{name}"]).options
    known = {f"network.{part}_settings.": options for part, options in there.items()}
    return {
        name: value
        for name, value in shared.items()
        if all(
            not name.startswith(place) or name.removeprefix(place) in options
            for place, options in known.items()
        )
    }


def differences(config: Config) -> dict[str, Any]:
    """Return the settings that differ from the defaults, by their dotted names.

    `made` makes the same settings of them, but for `PLACES`, which are left out.
    """
    found = parts.all_differences(config)
    return {name: value for name, value in found.items() if name not in (*PLACES, "device")}
