"""Figures of an experiment: learning curves, test scores along an axis, rates over an episode."""

import math
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from train.experiments.reports.results import Panel, Section
from train.experiments.sweep import FigureName, Measure
from train.figures.drawing import CHANCE_COLOR, OPTIMUM_COLOR, line_and_band, new_figure
from train.reinforcement.config import RLConfig

_STYLES = ("-", "--", ":", "-.")
_REFERENCES = ((CHANCE_COLOR, "--"), (OPTIMUM_COLOR, ":"), ("0.4", "-."), ("0.3", (0, (1, 5))))
_COLUMNS = 3

Look = Mapping[str, Any]


def draw(section: Section, name: FigureName) -> Figure | None:
    """Draw a figure of an experiment; None if nothing of it can be drawn yet."""
    return {"curves": _curves, "comparison": _comparison, "eta": _eta}[name](section)


def looks(labels: Iterable[str]) -> dict[str, Look]:
    """Return how lines of networks look: what is before a dash makes the colour, the rest the line.

    Colours and lines are taken in the order of the labels.
    """
    parts = [(label, *label.partition("-")[::2]) for label in labels]
    heads, tails = (list(dict.fromkeys(part[k] for part in parts)) for k in (1, 2))
    return {
        label: {
            "color": f"C{heads.index(head) % 10}",
            "ls": _STYLES[tails.index(tail) % len(_STYLES)],
        }
        for label, head, tail in parts
    }


def _looks(section: Section) -> dict[str, Look]:
    return looks(section.experiment.budget(section.budget).networks.points)


def _curves(section: Section) -> Figure | None:
    """Draw validation scores while training: mean over seeds, from the lowest to the highest."""
    look = _looks(section)
    learned = "environment" if section.experiment.kind is RLConfig else "training"

    def one(axes: Axes, panel: Panel) -> None:
        for group in panel.groups:
            steps, scores = group.curves()
            if len(steps):
                line_and_band(axes, steps, scores, group.title, count=False, **look[group.network])
        _references(axes, panel)
        _limits(axes, panel)
        axes.set_xlabel(f"{learned} step")

    label = f"validation: {_score_name(section)}"
    begun = [p for p in section.panels if any(len(g.curves()[0]) for g in p.groups)]
    return _grid(begun, one, label)


def _eta(section: Section) -> Figure | None:
    """Draw the plasticity rate over a test episode."""
    plastic = [p for p in section.panels if any(g.eta() is not None for g in p.groups)]
    rates = [eta for p in plastic for g in p.groups if (eta := g.eta()) is not None]
    top = max((float(eta.max()) for eta in rates), default=0.0) or 1.0
    look = _looks(section)

    def one(axes: Axes, panel: Panel) -> None:
        for group in panel.groups:
            if (eta := group.eta()) is not None:
                line_and_band(
                    axes,
                    np.arange(eta.shape[1]),
                    eta,
                    group.title,
                    count=False,
                    **look[group.network],
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
            _along(axes, section.axes[0], panels, _looks(section))
        else:
            _side_by_side(axes, panels[0], _looks(section))
        names = zip(section.axes[1:], others, strict=True)
        axes.set_title(", ".join(f"{name} {label}" for name, label in names), fontsize=9)
        _limits(axes, *panels)
    all_axes[0].set_ylabel(f"test: {_score_name(section)}")
    _legend(figure, all_axes)
    return figure


def _along(axes: Axes, name: str, panels: list[Panel], looks: Mapping[str, Look]) -> None:
    """Draw scores along an axis: by its values if they are numbers, else in their order."""
    if all(panel.place[0].isdigit() for panel in panels):
        panels = sorted(panels, key=lambda panel: float(panel.place[0]))
        x = np.array([float(panel.place[0]) for panel in panels])
    else:
        x = np.arange(len(panels), dtype=float)
    networks = list(dict.fromkeys(group.network for panel in panels for group in panel.groups))
    for number, network in enumerate(networks):
        aside = (number - (len(networks) - 1) / 2) * 0.012 * (np.ptp(x) or 1.0)  # to hide no dot
        drawn = [
            (at + aside, group)
            for at, panel in zip(x, panels, strict=True)
            for group in panel.groups
            if group.network == network and group.finished
        ]
        if not drawn:
            continue
        look = looks[network]
        for at, group in drawn:
            values = group.values("score")
            axes.plot([at] * len(values), values, ".", color=look["color"], ms=5)
        means = [group.values("score").mean() for _, group in drawn]
        axes.plot([at for at, _ in drawn], means, label=drawn[0][1].title, lw=1.6, **look)
    _references_along(axes, x, panels)
    axes.set_xticks(x, [panel.place[0] for panel in panels])
    axes.set_xlabel(name)


def _references_along(axes: Axes, x: NDArray[np.float64], panels: list[Panel]) -> None:
    found = [_levels(panel) for panel in panels]
    ends = x if len(x) > 1 else x + np.array([-0.5, 0.5])
    for number, name in enumerate(dict.fromkeys(name for levels in found for name in levels)):
        color, style = _REFERENCES[number % len(_REFERENCES)]
        if all(name in levels for levels in found):
            heights = np.broadcast_to([levels[name] for levels in found], ends.shape)
            axes.plot(ends, heights, ls=style, lw=1, color=color, label=name)


def _side_by_side(axes: Axes, panel: Panel, looks: Mapping[str, Look]) -> None:
    for number, group in enumerate(panel.groups):
        values, look = group.values("score"), looks[group.network]
        if not len(values):
            continue
        axes.plot([number] * len(values), values, ".", color=look["color"], ms=7)
        axes.hlines(values.mean(), number - 0.25, number + 0.25, color=look["color"], lw=2)
    titles = [textwrap.fill(group.title, 16) for group in panel.groups]
    axes.set_xticks(range(len(titles)), titles, fontsize=8)
    axes.set_xlim(-0.6, len(panel.groups) - 0.4)
    _references(axes, panel)


def _grid(
    panels: list[Panel], one: Callable[[Axes, Panel], None], label: str, *, share_x: bool = True
) -> Figure | None:
    """Draw a panel for each place, with one legend."""
    if not panels:
        return None
    columns = min(len(panels), _COLUMNS)
    rows = math.ceil(len(panels) / columns)
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


def _levels(panel: Panel) -> dict[str, float]:
    """Return the scores of what is compared with, but for such as would be drawn on another."""
    apart: dict[str, float] = {}
    for name, values in panel.references([Measure("score", "score")]).items():
        [level] = values
        if level is not None and not any(
            math.isclose(level, other, rel_tol=0.01, abs_tol=1e-3) for other in apart.values()
        ):
            apart[name] = level
    return apart


def _references(axes: Axes, panel: Panel) -> None:
    """Draw the scores of what is compared with."""
    for number, (name, level) in enumerate(_levels(panel).items()):
        color, style = _REFERENCES[number % len(_REFERENCES)]
        axes.axhline(level, color=color, ls=style, lw=1, label=name)


def _limits(axes: Axes, *panels: Panel) -> None:
    """Leave out of errors what lies far above the worst reference, and begin at zero."""
    tests = [test for panel in panels for test in panel.tests]
    levels = [level for panel in panels for level in _levels(panel).values()]
    if tests and levels and not any(panel.higher_is_better for panel in panels):
        axes.set_ylim(0, 1.2 * max(levels))
    elif all(0 <= value <= 1 for value in (*levels, *(test["score"] for test in tests))):
        axes.set_ylim(0, 1)


def _score_name(section: Section) -> str:
    """Return what the score is called, which may not be the first of what is reported."""
    titles = {measure.key: measure.title for measure in section.measures}
    return titles.get("score", "score")
