"""An episode of questions and answers: what was seen, what was right, what was answered."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from plastic_envs.rendering.canvas import (
    BAD,
    GOOD,
    SHADE,
    WIDEST,
    Progress,
    headed_figure,
    heat_map,
    largest,
    number,
    numbered,
    pixels,
)
from plastic_envs.spaces import BoolArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_EDGE = 0.93  # of the axis: where an answer beyond it is drawn


class Lesson(NamedTuple):
    """An episode with right answers.

    Attributes:
        observations: [T, n], all numbers of each observation.
        labels: Their n names.
        targets: [T, answer_size].
        scored: [T].
        answers: [answered, answer_size], those so far.
    """

    observations: NDArray[Any]
    labels: list[str]
    targets: NDArray[Any]
    scored: BoolArray
    answers: NDArray[Any]


def table_text(progress: Progress, lesson: Lesson) -> str:
    """Write an episode as a table, a line per step.

    Returns:
        Lines with step, observation (unless it has more than 64 numbers), target, answer and
        reward; `*` marks scored steps, `·` what is not known yet.
    """
    labels = [label.replace(" ", "") for label in lesson.labels]
    labels = ["shown_reward" if label == "reward" else label for label in labels]  # not the step's
    size = len(labels) if len(labels) <= WIDEST else 0
    known = [*numbered("target", lesson.targets), *numbered("answer", lesson.targets)]
    columns = [*labels[:size], *known, "reward"]
    widths = [max(6, len(column)) for column in columns]
    lines = ["step   " + "  ".join(f"{c:>{w}}" for c, w in zip(columns, widths, strict=True))]
    for step in range(progress.seen):
        cells = [number(value) for value in lesson.observations[step, :size]]
        if step < progress.answered:
            answered = [*lesson.targets[step], *lesson.answers[step], progress.rewards[step]]
            cells += [number(value) for value in answered]
        cells += ["·"] * (len(columns) - len(cells))
        mark = "*" if lesson.scored[step] else " "
        row = "  ".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True))
        lines.append(f"{step:>4} {mark} {row}")
    return "\n".join([*lines, progress.last_line()])


def table_picture(progress: Progress, lesson: Lesson) -> NDArray[np.uint8]:
    """Draw an episode: inputs above, targets and answers below; uint8 [480, 720, 3]."""
    figure = headed_figure(progress)
    inputs, answers = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    seen = np.full_like(lesson.observations, np.nan)
    seen[: progress.seen] = lesson.observations[: progress.seen]
    heat_map(inputs, seen, lesson.labels, largest(lesson.observations))
    _draw_answers(progress, lesson, answers)
    return pixels(figure)


def _draw_answers(progress: Progress, lesson: Lesson, axes: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator

    for step in np.flatnonzero(lesson.scored):
        axes.axvspan(step - 0.5, step + 0.5, color=SHADE, lw=0)
    done, size = progress.answered, lesson.targets.shape[1]
    steps, target = np.repeat(np.arange(done), size), lesson.targets[:done].ravel()
    answer = lesson.answers.ravel().astype(np.float64)
    height = largest(lesson.targets) * 1.3
    low = -height if lesson.targets.dtype.kind == "f" else -0.3 * height  # choices are not below 0
    inside = np.abs(answer) <= height  # others are drawn at the edge, and what is no number at 0
    drawn = np.where(inside, answer, np.nan_to_num(np.sign(answer)) * _EDGE * height)
    axes.plot(steps, target, "_", color=GOOD, ms=10, mew=2.5, label="target")
    axes.plot(steps[inside], drawn[inside], "o", color=BAD, ms=4, label="answer")
    axes.vlines(steps, target, drawn, color=BAD, lw=0.8, alpha=0.5)
    for where, marker, label in (
        (answer > height, "^", "above the axis"),
        (answer < -height, "v", "below the axis"),
        (np.isnan(answer), "X", "no number"),
    ):
        if where.any():
            style: dict[str, Any] = {"color": BAD, "ms": 8, "mec": "black", "label": label}
            axes.plot(steps[where], drawn[where], marker, **style)
    axes.axhline(0, color="0.8", lw=0.8, zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlim=(-0.5, progress.num_steps - 0.5), ylim=(low, height), xlabel="step")
    axes.set_title("answers (shaded: scored)", fontsize=9, loc="left")
    legend = {"fontsize": 8, "ncols": 5, "columnspacing": 1.0, "handletextpad": 0.2}
    axes.legend(loc="upper right", bbox_to_anchor=(1, 1.22), frameon=False, **legend)
