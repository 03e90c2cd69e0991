"""Figures of an experiment: learning curves, test scores along an axis, rates over an episode."""

from collections.abc import Callable, Iterable
from math import ceil
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from train.experiments.results import Group, Panel, Section
from train.experiments.sweep import FigureName
from train.figures.drawing import CHANCE_COLOR, OPTIMUM_COLOR, line_and_band, new_figure

_COLORS = {"gradient": "C0", "hebbian": "C1", "none": "0.4"}
_STYLES = {"rnn": "-", "lstm": "--"}
_COLUMNS = 3


def draw(section: Section, name: FigureName) -> Figure | None:
    """Draw a figure of an experiment; None if nothing of it can be drawn yet."""
    return {"curves": _curves, "comparison": _comparison, "eta": _eta}[name](section)


def _curves(section: Section) -> Figure | None:
    """Draw validation scores while training: mean over seeds, from the lowest to the highest."""

    def one(axes: Axes, panel: Panel) -> None:
        for group in panel.groups:
            steps, scores = group.curves()
            if len(steps):
                line_and_band(axes, steps, scores, group.title, count=False, **_look(group))
        _references(axes, panel)
        _limits(axes, panel)
        axes.set_xlabel("training step")

    label = "validation accuracy" if _higher_is_better(section) else "validation error"
    begun = [p for p in section.panels if any(len(g.curves()[0]) for g in p.groups)]
    return _grid(begun, one, label)


def _eta(section: Section) -> Figure | None:
    """Draw the plasticity rate over a test episode."""
    plastic = [p for p in section.panels if any(g.eta() is not None for g in p.groups)]
    rates = [eta for p in plastic for g in p.groups if (eta := g.eta()) is not None]
    top = max((float(eta.max()) for eta in rates), default=0.0) or 1.0

    def one(axes: Axes, panel: Panel) -> None:
        for group in panel.groups:
            if (eta := group.eta()) is not None:
                line_and_band(
                    axes, np.arange(eta.shape[1]), eta, group.title, count=False, **_look(group)
                )
        axes.set_ylim(0, 1.1 * top)
        axes.set_xlabel("step of the episode")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return _grid(plastic, one, "plasticity rate η, as applied", share_x=False)


def _comparison(section: Section) -> Figure | None:
    """Draw test scores along the first axis, a panel for each point of the others."""
    finished = [p for p in section.panels if any(g.finished for g in p.groups)]
    if not finished:
        return None
    rows: dict[tuple[str, ...], list[Panel]] = {}
    for panel in finished:
        rows.setdefault(panel.place[1:], []).append(panel)
    figure = new_figure(*_size(len(rows)))
    all_axes = figure.subplots(1, len(rows), squeeze=False, sharey=True)[0]
    for axes, (others, panels) in zip(all_axes, rows.items(), strict=True):
        if section.axes:
            _along(axes, section.axes[0], panels)
        else:
            _side_by_side(axes, panels[0])
        names = zip(section.axes[1:], others, strict=True)
        axes.set_title(", ".join(f"{name} {label}" for name, label in names), fontsize=9)
        _limits(axes, *panels)
    label = "test accuracy" if _higher_is_better(section) else "test error"
    all_axes[0].set_ylabel(label)
    _legend(figure, all_axes)
    return figure


def _along(axes: Axes, name: str, panels: list[Panel]) -> None:
    """Draw scores along an axis: by its values if they are numbers, else in their order."""
    if all(panel.place[0].isdigit() for panel in panels):
        panels = sorted(panels, key=lambda panel: float(panel.place[0]))
        x = np.array([float(panel.place[0]) for panel in panels])
    else:
        x = np.arange(len(panels), dtype=float)
    networks = [group.network for group in panels[0].groups]
    for number, network in enumerate(networks):
        aside = (number - (len(networks) - 1) / 2) * 0.012 * (np.ptp(x) or 1.0)  # to hide no dot
        groups = [next(g for g in panel.groups if g.network == network) for panel in panels]
        drawn = [(at + aside, g) for at, g in zip(x, groups, strict=True) if g.finished]
        if not drawn:
            continue
        look = _look(groups[0])
        for at, group in drawn:
            values = group.values("score")
            axes.plot([at] * len(values), values, ".", color=look["color"], ms=5)
        means = [group.values("score").mean() for _, group in drawn]
        axes.plot([at for at, _ in drawn], means, label=drawn[0][1].title, lw=1.6, **look)
    _references_along(axes, x, panels)
    axes.set_xticks(x, [panel.place[0] for panel in panels])
    axes.set_xlabel(name)


def _references_along(axes: Axes, x: NDArray[np.float64], panels: list[Panel]) -> None:
    oracle_name = next(panel.task.oracle_name for panel in panels if panel.task is not None)
    ends = x if len(x) > 1 else x + np.array([-0.5, 0.5])
    for key, title, color, dash in (
        ("chance", "chance", CHANCE_COLOR, "--"),
        ("oracle_score", oracle_name, OPTIMUM_COLOR, ":"),
    ):
        values = [value for panel in panels if (value := panel.reference(key)) is not None]
        if len(values) == len(panels):
            heights = np.broadcast_to(values, ends.shape)
            axes.plot(ends, heights, ls=dash, lw=1, color=color, label=title)


def _side_by_side(axes: Axes, panel: Panel) -> None:
    for number, group in enumerate(panel.groups):
        values, look = group.values("score"), _look(group)
        if not len(values):
            continue
        axes.plot([number] * len(values), values, ".", color=look["color"], ms=7)
        axes.hlines(values.mean(), number - 0.25, number + 0.25, color=look["color"], lw=2)
    axes.set_xticks(range(len(panel.groups)), [g.title for g in panel.groups], fontsize=8)
    axes.set_xlim(-0.6, len(panel.groups) - 0.4)
    _references(axes, panel)


def _grid(
    panels: list[Panel], one: Callable[[Axes, Panel], None], label: str, *, share_x: bool = True
) -> Figure | None:
    """Draw a panel for each place, with one legend."""
    if not panels:
        return None
    columns = min(len(panels), _COLUMNS)
    rows = ceil(len(panels) / columns)
    width, height = _size(columns)
    figure = new_figure(width, 0.6 + (height - 0.6) * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True, sharex=share_x)
    for axes, panel in zip(grid.flat, panels, strict=False):
        one(axes, panel)
        axes.set_title(panel.title, fontsize=9)
        axes.label_outer(remove_inner_ticks=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for row in grid:
        row[0].set_ylabel(label)
    _legend(figure, grid.flat)
    return figure


def _size(columns: int) -> tuple[float, float]:
    return (6.4, 3.8) if columns == 1 else (3.2 * columns + 0.4, 3.2)


def _legend(figure: Figure, all_axes: Iterable[Axes]) -> None:
    """Add one legend for all axes, some of which may lack a network."""
    found: dict[str, Any] = {}
    for axes in all_axes:
        for line, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, line)
    if found:
        figure.legend(
            list(found.values()),
            list(found),
            loc="outside lower center",
            ncols=min(len(found), 3),
            frameon=False,
            fontsize=8,
        )


def _references(axes: Axes, panel: Panel) -> None:
    """Draw the scores of chance and of the oracle, or the optimum until the oracle is known."""
    if (task := panel.task) is None:
        return
    if task.chance_score is not None:
        axes.axhline(task.chance_score, color=CHANCE_COLOR, ls="--", lw=1, label="chance")
    oracle, name = panel.reference("oracle_score"), task.oracle_name
    if oracle is None:
        oracle, name = task.optimal_score, "optimum"
    if oracle is not None:
        axes.axhline(oracle, color=OPTIMUM_COLOR, ls=":", lw=1, label=name)


def _limits(axes: Axes, *panels: Panel) -> None:
    tasks = [panel.task for panel in panels if panel.task is not None]
    if tasks and tasks[0].higher_is_better:
        axes.set_ylim(0, 1)
    elif tasks:
        known = [task.chance_score for task in tasks if task.chance_score is not None]
        axes.set_ylim(0, 1.2 * max(known) if known else None)


def _higher_is_better(section: Section) -> bool:
    return any(p.task is not None and p.task.higher_is_better for p in section.panels)


def _look(group: Group) -> dict[str, Any]:
    rule, _, cell = group.network.partition("-")
    return {"color": _COLORS[rule], "ls": _STYLES[cell]}
