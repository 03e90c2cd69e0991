"""Figures: learning curves, plasticity over an episode, one episode's answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from plastic_envs.rendering.view import View
from plastic_envs.spaces import FloatArray, at
from plastic_envs.tasks import Episodes, SequenceTask
from train.wording import printable

CHANCE_COLOR, OPTIMUM_COLOR = "0.55", "0.2"
_LEVELS = ((CHANCE_COLOR, "--"), (OPTIMUM_COLOR, ":"), ("0.4", "-."))  # colour and style


@dataclass(frozen=True)
class Curve:
    """What is drawn of runs that differ in their seed only.

    Attributes:
        label: Name in the legend.
        steps: Training steps [N] of the validations.
        scores: Validation scores [seeds, N].
        eta: Mean plasticity rate [seeds, T] at each step of an episode; None without plasticity.
    """

    label: str
    steps: NDArray[np.int64]
    scores: NDArray[np.float64]
    eta: NDArray[np.float64] | None


def new_figure(width: float, height: float) -> Figure:
    """Make a figure that belongs to no window and no global list."""
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


@dataclass(frozen=True)
class ScoreAxis:
    """What scores are drawn against.

    Attributes:
        title: Above the curves.
        score_name: What the score is.
        x_name: What is counted to the right.
        levels: Scores to compare with, by name: grey lines.
        limits: Range of the axis; None where the data shall say.
    """

    title: str
    score_name: str
    x_name: str
    levels: Mapping[str, float]
    limits: tuple[float, float] | None = None


def comparison_figure(axis: ScoreAxis, curves: Sequence[Curve]) -> Figure:
    """Draw learning curves beside scores to compare with, and η_t over an episode beside them.

    Lines are means over seeds, bands reach from the lowest to the highest seed.
    """
    plastic = [curve for curve in curves if curve.eta is not None]
    figure = new_figure(9.6 if plastic else 5.6, 4.0)
    axes = figure.subplots(1, 2 if plastic else 1, squeeze=False)[0]
    colors = {curve.label: f"C{i}" for i, curve in enumerate(curves)}
    _draw_scores(axes[0], axis, curves, colors)
    if plastic:
        for curve in plastic:
            assert curve.eta is not None
            steps = np.arange(curve.eta.shape[1])
            line_and_band(axes[1], steps, curve.eta, curve.label, color=colors[curve.label])
        axes[1].set(xlabel="step of the episode", ylabel="plasticity rate η (as applied)")
        axes[1].set_ylim(bottom=0)
        axes[1].xaxis.set_major_locator(MaxNLocator(integer=True))
        axes[1].set_title("plasticity over an episode", fontsize=10, loc="left")
    lines, labels = axes[0].get_legend_handles_labels()
    columns = 2 if plastic and len(labels) > 1 else 1
    figure.legend(
        lines, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=8
    )
    return figure


def episode_figure(
    task: SequenceTask, episodes: Episodes, answers: NDArray[Any], eta: FloatArray | None
) -> Figure:
    """Draw the first episode with its answer, and η_t of all [B, T] below."""
    figure = new_figure(6.4, 5.6 if eta is not None else 4.2)
    heights = [3] if eta is None else [3, 1]
    rows = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    steps = task.num_steps
    first = at(episodes, slice(0, 1))
    rows[0].imshow(task.picture(View(task, first, answers[0])), interpolation="none")
    rows[0].axis("off")
    if eta is not None:
        rates = np.asarray(eta, np.float64)
        line_and_band(rows[1], np.arange(steps), rates, "η", count=False, color="C0")
        rows[1].set_title("plasticity rate η: mean and range over episodes", fontsize=9)
        rows[1].set_ylim(bottom=0)
        rows[1].set_xlabel("step of the episode")
    return figure


def unmarked(text: str) -> str:
    """Return a text as Matplotlib is to draw it, in which dollars start no formula."""
    return printable(text).replace("$", r"\$")


def save(figure: Figure, path: Path) -> None:
    """Write a figure to a file, its format by the ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def group(curves: Sequence[Curve]) -> list[Curve]:
    """Join curves of the same label, cut to the steps that all have."""
    joined: dict[str, Curve] = {}
    for curve in curves:
        if curve.label not in joined:
            joined[curve.label] = curve
            continue
        other = joined[curve.label]
        common, left, right = np.intersect1d(other.steps, curve.steps, return_indices=True)
        scores = np.concatenate([other.scores[:, left], curve.scores[:, right]])
        eta = None
        if other.eta is not None and curve.eta is not None:
            eta = np.concatenate([other.eta, curve.eta])
        joined[curve.label] = replace(other, steps=common, scores=scores, eta=eta)
    return list(joined.values())


def line_and_band(
    axes: Axes,
    x: NDArray[np.int64],
    values: NDArray[np.float64],
    label: str,
    *,
    count: bool = True,
    **look: Any,
) -> None:
    """Draw the mean of values [seeds, N], and a band from the lowest to the highest.

    Args:
        axes: Where.
        x: [N].
        values: One row for each seed.
        label: Name in the legend.
        count: Add the number of rows to it, which are runs.
        look: How the line looks, for Matplotlib.
    """
    many = f" ({len(values)} runs)" if count and len(values) > 1 else ""
    [line] = axes.plot(x, values.mean(axis=0), lw=1.6, label=unmarked(label) + many, **look)
    if len(values) > 1:
        low, high = values.min(axis=0), values.max(axis=0)
        axes.fill_between(x, low, high, color=line.get_color(), alpha=0.2, lw=0)


def _draw_scores(
    axes: Axes, axis: ScoreAxis, curves: Sequence[Curve], colors: dict[str, str]
) -> None:
    for curve in curves:
        line_and_band(axes, curve.steps, curve.scores, curve.label, color=colors[curve.label])
    if axis.limits is None:
        axes.margins(y=0.1)  # room for the names of the levels
    for k, (name, level) in enumerate(axis.levels.items()):
        color, style = _LEVELS[k % len(_LEVELS)]
        axes.axhline(level, color=color, ls=style, lw=1)
        axes.annotate(unmarked(name), (1, level), (-2, 2), color=color, fontsize=8, **_AT_THE_EDGE)
    axes.set(xlabel=axis.x_name, ylabel=unmarked(axis.score_name), ylim=axis.limits)
    axes.set_title(unmarked(axis.title), fontsize=10, loc="left")


_AT_THE_EDGE: dict[str, Any] = {
    "xycoords": ("axes fraction", "data"),
    "textcoords": "offset points",
    "ha": "right",
    "va": "bottom",
}
