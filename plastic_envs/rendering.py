"""Pictures of an episode: what was seen, what was right, what was answered."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from plastic_envs.tasks.base import BoolArray, Observations, SequenceTask

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from plastic_envs.interactive_rendering import InteractiveView

_TARGET, _ANSWER, _SCORED = "#1b7837", "#c51b7d", "#fff3c4"
_EDGE = 0.93  # of the axis: where an answer beyond it is drawn


@dataclass(frozen=True)
class EpisodeView:
    """One episode, up to a step.

    Attributes:
        task: The task that it belongs to.
        observations: [T, …], or a dictionary of such.
        targets: [T, answer_size] or [T].
        scored: [T].
        answers: Like the targets; what is not answered yet is meaningless.
        seen: Number of steps whose observation is shown.
        answered: Number of steps whose target and answer are shown.
    """

    task: SequenceTask
    observations: Observations
    targets: NDArray[Any]
    scored: BoolArray
    answers: NDArray[Any]
    seen: int
    answered: int

    @property
    def rewards(self) -> NDArray[np.float64]:
        """Rewards [answered] so far."""
        done = slice(self.answered)
        rewards = self.task.rewards(self.answers[done], self.targets[done])
        return np.where(self.scored[done], rewards, 0.0)


def episode_text(view: EpisodeView, observation_labels: list[str]) -> str:
    """Write an episode of real-valued answers as a table, a line per step.

    Args:
        view: The episode.
        observation_labels: Name of each entry of an observation.

    Returns:
        Lines with step, observation, target, answer and reward; `*` marks scored steps, `·` what is
        not known yet.
    """
    labels = [label.replace(" ", "") for label in observation_labels]
    labels = ["shown_reward" if label == "reward" else label for label in labels]  # not the step's
    names = _answer_labels(view)
    columns = [*labels, *(f"target{n}" for n in names), *(f"answer{n}" for n in names), "reward"]
    widths = [max(6, len(column)) for column in columns]
    lines = ["step   " + "  ".join(f"{c:>{w}}" for c, w in zip(columns, widths, strict=True))]
    rewards = view.rewards
    for step in range(view.seen):
        cells = [number(value) for value in view.observations[step]]
        if step < view.answered:
            answered = [*view.targets[step], *view.answers[step], rewards[step]]
            cells += [number(value) for value in answered]
        cells += ["·"] * (len(columns) - len(cells))
        mark = "*" if view.scored[step] else " "
        row = "  ".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True))
        lines.append(f"{step:>4} {mark} {row}")
    total = number(float(rewards.sum()), 3)
    lines.append(f"return {total} after {view.answered} of {view.task.num_steps} steps")
    return "\n".join(lines)


def episode_picture(view: EpisodeView, observation_labels: list[str]) -> NDArray[np.uint8]:
    """Draw an episode of real-valued answers: inputs above, targets and answers below.

    Args:
        view: The episode.
        observation_labels: Name of each entry of an observation.

    Returns:
        uint8 [480, 720, 3].
    """
    figure = new_figure(view)
    inputs, answers = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    _draw_inputs(view, observation_labels, inputs)
    _draw_answers(view, answers)
    return pixels(figure)


def number(value: float, digits: int = 2) -> str:
    """Write a number with two digits behind the point, and a large one with its exponent."""
    return f"{value:.{digits}f}" if abs(value) < 1e6 else f"{value:.{digits}g}"


def new_figure(view: "EpisodeView | InteractiveView") -> "Figure":
    """Make a figure of 480×720 pixels, headed by what has happened in the episode so far."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import: only when drawn
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.8), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    name = type(view.task).__name__
    figure.suptitle(
        f"{name}: step {view.answered} of {view.task.num_steps}, "
        f"return {number(float(view.rewards.sum()))}",
        fontsize=11,
    )
    return figure


def pixels(figure: "Figure") -> NDArray[np.uint8]:
    """Return what a figure looks like, uint8 [height, width, 3]."""
    canvas: Any = figure.canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba(), np.uint8)[..., :3].copy()


def _draw_inputs(view: EpisodeView, labels: list[str], axes: "Axes") -> None:
    seen = np.full_like(view.observations, np.nan)
    seen[: view.seen] = view.observations[: view.seen]
    limit = _largest(view.observations)
    image = axes.imshow(
        seen.T, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest"
    )
    every = max(1, len(labels) // 16)
    shown = [i for i in range(len(labels)) if i % every == 0 or i >= len(labels) - 2]
    axes.set_yticks(shown, [labels[i] for i in shown], fontsize=7)
    axes.set_title("input", fontsize=9, loc="left")
    axes.tick_params(bottom=False)
    axes.get_figure(root=True).colorbar(image, ax=axes, fraction=0.03, pad=0.01)  # type: ignore[union-attr]


def _draw_answers(view: EpisodeView, axes: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator

    for step in np.flatnonzero(view.scored):
        axes.axvspan(step - 0.5, step + 0.5, color=_SCORED, lw=0)
    done, size = view.answered, view.targets.shape[1]
    steps, target = np.repeat(np.arange(done), size), view.targets[:done].ravel()
    answer = view.answers[:done].ravel().astype(np.float64)
    height = _largest(view.targets) * 1.3
    inside = np.abs(answer) <= height  # others are drawn at the edge, and what is no number at 0
    drawn = np.where(inside, answer, np.nan_to_num(np.sign(answer)) * _EDGE * height)
    axes.plot(steps, target, "_", color=_TARGET, ms=10, mew=2.5, label="target")
    axes.plot(steps[inside], drawn[inside], "o", color=_ANSWER, ms=4, label="answer")
    axes.vlines(steps, target, drawn, color=_ANSWER, lw=0.8, alpha=0.5)
    for where, marker, label in (
        (answer > height, "^", "above the axis"),
        (answer < -height, "v", "below the axis"),
        (np.isnan(answer), "X", "no number"),
    ):
        if where.any():
            style: dict[str, Any] = {"color": _ANSWER, "ms": 8, "mec": "black", "label": label}
            axes.plot(steps[where], drawn[where], marker, **style)
    axes.axhline(0, color="0.8", lw=0.8, zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlim=(-0.5, view.task.num_steps - 0.5), ylim=(-height, height), xlabel="step")
    axes.set_title("answers (shaded: scored)", fontsize=9, loc="left")
    legend = {"fontsize": 8, "ncols": 5, "columnspacing": 1.0, "handletextpad": 0.2}
    axes.legend(loc="upper right", bbox_to_anchor=(1, 1.22), frameon=False, **legend)


def _largest(array: NDArray[Any]) -> float:
    """Return the largest finite magnitude, or 1 if there is none."""
    return float(np.abs(array[np.isfinite(array)]).max(initial=0)) or 1.0


def _answer_labels(view: EpisodeView) -> list[str]:
    size = view.targets.shape[1]
    return [""] if size == 1 else [str(k) for k in range(size)]
