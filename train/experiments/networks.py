"""Networks that are compared: by rule and cell, or by the name of a core."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

from agents.core import CORES
from train.experiments.sweep import Axis, Budget, Experiment, Settings
from train.parts import find_core

_ABBREVIATED = ("lstm", "gru", "rnn", "mlp")
_HIDDEN = "network.core_settings.hidden_size"
_WORDS = {"hebbian": "Hebbian", "oja": "Oja", "none": "no plasticity,"}


def networks(
    sizes: Mapping[str, int],
    rules: Iterable[str] = ("gradient", "hebbian", "none"),
    plasticity: Mapping[str, Settings] | None = None,
) -> Axis:
    """Return the axis of networks that are compared: rules and cells.

    Args:
        sizes: Hidden units by cell, of plastic networks; others have 1.5 times as many.
        rules: Plasticity rules.
        plasticity: Settings of the rules, by their names; the rules' own if not given.
    """
    points, titles = {}, {}
    for (cell, size), rule in product(sizes.items(), rules):
        units = size * 3 // 2 if rule == "none" else size
        settings = {
            f"network.rule_settings.{k}": v for k, v in (plasticity or {}).get(rule, {}).items()
        }
        points[f"{rule}-{cell}"] = {
            "network.rule": rule,
            "network.cell": cell,
            "network.core_settings.hidden_size": units,
            **settings,
        }
        titles[f"{rule}-{cell}"] = f"{_WORDS.get(rule, rule)} {cell.upper()} {units}"
    return Axis("network", points, titles)


def with_networks(experiment: Experiment, labels: Iterable[str]) -> Experiment:
    """Return an experiment with more networks, of the size of those that it has, or of 128 units.

    Args:
        experiment: The experiment.
        labels: "RULE-CELL", or the name of a core; those that it has already stay as they are.

    Raises:
        ValueError: If there is no such rule, cell or core.
    """
    labels = list(labels)
    budgets = {name: _joined(budget, labels) for name, budget in experiment.budgets.items()}
    return replace(experiment, budgets=budgets)


def _joined(budget: Budget, labels: Iterable[str]) -> Budget:
    axis = budget.networks
    usual = find_core("plastic").options["hidden_size"].default
    size = next((point[_HIDDEN] for point in axis.points.values() if _HIDDEN in point), usual)
    points: dict[str, Settings] = dict(axis.points)
    titles = dict(axis.titles)
    for label in labels:
        if label not in points:
            found = _network(label, size)
            points |= found.points
            titles |= found.titles
    return replace(budget, networks=replace(axis, points=points, titles=titles))


def _network(label: str, size: int) -> Axis:
    rule, dash, cell = label.rpartition("-")
    if dash and label not in CORES:
        return networks({cell: size}, (rule,))
    settings: dict[str, Any] = {"network.core": label}
    title = label.upper() if label in _ABBREVIATED else label
    if "hidden_size" in find_core(label).options:
        settings[_HIDDEN] = size
        title = f"{title} {size}"
    return Axis("network", {label: settings}, {label: title})
