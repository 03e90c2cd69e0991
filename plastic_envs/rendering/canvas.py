"""What pictures and texts of all episodes share: the figure, its heading, its pixels, numbers."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GOOD, BAD, NEUTRAL, SHADE = "#1b7837", "#c51b7d", "0.35", "#fff3c4"
"""Colours of what is right, what is wrong or answered, what is neither, and of scored steps."""

WIDEST = 64
"""Numbers of an observation that a line of text can hold."""


class Progress(NamedTuple):
    """How far an episode has come.

    Attributes:
        name: Of its task.
        num_steps: Steps of the whole episode.
        rewards: float64 [answered], those so far.
    """

    name: str
    num_steps: int
    rewards: NDArray[np.float64]

    @property
    def answered(self) -> int:
        """Number of steps so far."""
        return len(self.rewards)

    @property
    def seen(self) -> int:
        """Number of steps whose observation was seen."""
        return min(self.answered + 1, self.num_steps)

    @property
    def total(self) -> float:
        """Return so far."""
        return float(self.rewards.sum())

    def last_line(self, digits: int = 3) -> str:
        """Write the return, and how far the episode has come: the last line of every text."""
        total = number(self.total, digits)
        return f"return {total} after {self.answered} of {self.num_steps} steps"


def number(value: float, digits: int = 2) -> str:
    """Write an integer as it is, a number with two digits behind the point, a large one short."""
    if isinstance(value, int | np.integer):
        return str(value)
    return f"{value:.{digits}f}" if abs(value) < 1e6 else f"{value:.{digits}g}"


def numbered(name: str, columns: NDArray[Any]) -> list[str]:
    """Name the columns of [T, n]: by the name alone if there is but one."""
    count = columns.shape[1]
    return [name] if count == 1 else [f"{name}{k}" for k in range(count)]


def headed_figure(progress: Progress) -> "Figure":
    """Make a figure of 480×720 pixels, headed by what has happened in the episode so far."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import: only when drawn
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.8), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(
        f"{progress.name}: step {progress.answered} of {progress.num_steps}, "
        f"return {number(progress.total)}",
        fontsize=11,
    )
    return figure


def pixels(figure: "Figure") -> NDArray[np.uint8]:
    """Return what a figure looks like, uint8 [height, width, 3]."""
    canvas: Any = figure.canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba(), np.uint8)[..., :3].copy()


def legend(axes: "Axes", height: float) -> None:
    """Explain the marks above axes, at a height in their own measure."""
    axes.legend(loc="upper right", bbox_to_anchor=(1, height), fontsize=8, ncols=2, frameon=False)


def heat_map(axes: "Axes", columns: NDArray[Any], labels: list[str], limit: float) -> None:
    """Draw the numbers of each step, [T, n], one below the other; what is NaN stays empty."""
    image = axes.imshow(
        columns.T, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest"
    )
    every = max(1, len(labels) // 16)
    shown = [i for i in range(len(labels)) if i % every == 0 or i >= len(labels) - 2]
    axes.set_yticks(shown, [labels[i] for i in shown], fontsize=7)
    axes.set_title("input", fontsize=9, loc="left")
    axes.tick_params(bottom=False)
    axes.get_figure(root=True).colorbar(image, ax=axes, fraction=0.03, pad=0.01)  # type: ignore[union-attr]


def largest(array: NDArray[Any]) -> float:
    """Return the largest finite magnitude, or 1 if there is none."""
    return float(np.abs(array[np.isfinite(array)]).max(initial=0)) or 1.0
