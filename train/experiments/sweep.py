"""Experiments as data: a sweep over settings, and the runs that it consists of."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal

from plastic_envs.checks import shown
from train.parts import differences
from train.settings import changed
from train.supervised.config import TrainConfig

BudgetName = Literal["paper", "laptop", "smoke"]
FigureName = Literal["curves", "comparison", "eta"]
Settings = Mapping[str, Any]
"""Values by the dotted names of the fields of `TrainConfig`, as in `"task_settings.delay"`."""


@dataclass(frozen=True)
class Axis:
    """What an experiment varies.

    Attributes:
        name: What it is called in figures and tables.
        points: What is set at each point, by the point's label.
    """

    name: str
    points: Mapping[str, Settings]

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
        return Axis(self.name, {label: self.points[label] for label in labels})


def vary(name: str, values: Iterable[Any], *settings: str) -> Axis:
    """Return an axis along which settings take values, labelled by them."""
    return Axis(name, {str(value): dict.fromkeys(settings, value) for value in values})


def networks(
    sizes: Mapping[str, int],
    rules: Iterable[str] = ("gradient", "hebbian", "none"),
    plasticity: Mapping[str, Settings] | None = None,
) -> Axis:
    """Return the axis of networks that are compared: rules and cells.

    Args:
        sizes: Hidden units by cell, of plastic networks; others have 1.5 times as many.
        rules: Plasticity rules.
        plasticity: Settings of the rules, by their names; their defaults if not given.
    """
    return Axis(
        "network",
        {
            f"{rule}-{cell}": {
                "network.rule": rule,
                "network.cell": cell,
                "network.core_settings.hidden_size": size * 3 // 2 if rule == "none" else size,
                "network.rule_settings": dict((plasticity or {}).get(rule, {})),
            }
            for (cell, size), rule in product(sizes.items(), rules)
        },
    )


@dataclass(frozen=True)
class Budget:
    """How much of an experiment is run, and at what size.

    Attributes:
        networks: Networks that are compared.
        seeds: Seeds of each point.
        settings: Settings on top of the experiment's; what is varied is on top of both.
        only: Labels of the points that are kept, by the name of their axis; left out, all are.
        encoder: For images, settings of a run whose encoder the networks take over; None to train
            networks end to end.
    """

    networks: Axis
    seeds: tuple[int, ...]
    settings: Settings
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    encoder: Settings | None = None


@dataclass(frozen=True)
class Run:
    """One training run of an experiment.

    Attributes:
        point: Labels of the run by the name of their axis.
        config: Settings, but for `encoder_run`, which depends on where runs are kept.
        encoder: Settings of the run whose encoder it takes over.
    """

    point: Mapping[str, str]
    config: TrainConfig
    encoder: TrainConfig | None = None

    @property
    def name(self) -> str:
        """Name of the folder; experiments that share a run share its folder."""
        words = [self.config.task_part.title, self.config.network.name]
        differing = [differences(c) for c in (self.config, self.encoder) if c is not None]
        for each in differing:
            each.pop("seed", None)
        digest = hashlib.sha256(json.dumps(differing, sort_keys=True).encode()).hexdigest()[:8]
        return "-".join([*words, digest, f"seed{self.config.seed}"])


@dataclass(frozen=True)
class Experiment:
    """A published experiment.

    Attributes:
        name: Its name on the command line.
        claim: What it is to show, in one sentence.
        task: The task.
        settings: Settings of all its runs.
        axes: What is varied besides network and seed.
        figures: What is drawn: learning `curves`, a `comparison` of test scores along the first
            axis, `eta` over an episode.
        budgets: How much is run.
        note: What a reader should know besides.
    """

    name: str
    claim: str
    task: str
    budgets: Mapping[BudgetName, Budget]
    settings: Settings = field(default_factory=dict)
    axes: tuple[Axis, ...] = ()
    figures: tuple[FigureName, ...] = ("curves", "comparison", "eta")
    note: str = ""

    def runs(self, budget: BudgetName, settings: Settings | None = None) -> list[Run]:
        """Return all runs, seed by seed, so that early results cover every point.

        Args:
            budget: How much is run.
            settings: Settings on top of all others: where the images of few-shot tasks come from.
        """
        size = self.budgets[budget]
        axes = self.kept_axes(budget)
        base, given = TrainConfig(), {"task": self.task, "threads": 1}
        runs = []
        for seed, *labels in product(size.seeds, *(axis.points for axis in axes)):
            chosen: dict[str, Any] = {**given, "seed": seed, **self.settings, **size.settings}
            for axis, label in zip(axes, labels, strict=True):
                chosen.update(axis.points[str(label)])
            chosen.update(settings or {})
            encoder = None
            if size.encoder is not None:
                shared = {**given, "seed": seed, **size.encoder, **(settings or {})}
                encoder = changed(base, shared)
            point = {axis.name: str(label) for axis, label in zip(axes, labels, strict=True)}
            runs.append(Run(point, changed(base, chosen), encoder))
        return runs

    def kept_axes(self, budget: BudgetName) -> list[Axis]:
        """Return the axes with the points of a budget, networks last."""
        size = self.budgets[budget]
        return [
            axis.only(size.only.get(axis.name, axis.points)) for axis in (*self.axes, size.networks)
        ]


def network_title(label: str, hidden_size: int | None = None) -> str:
    """Return how a network is called in figures and tables, as in "gradient RNN 128".

    Args:
        label: Its label on the axis of `networks`.
        hidden_size: Its hidden units, if known.
    """
    rule, _, cell = label.partition("-")
    rule = {"hebbian": "Hebbian", "none": "no plasticity,"}.get(rule, rule)
    return f"{rule} {cell.upper()}" + ("" if hidden_size is None else f" {hidden_size}")
