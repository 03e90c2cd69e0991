"""Any episode at all: what was seen, what was done, and what it brought."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from plastic_envs.rendering.canvas import (
    BAD,
    GOOD,
    WIDEST,
    Progress,
    headed_figure,
    heat_map,
    largest,
    number,
    numbered,
    pixels,
)


def course_text(
    progress: Progress, observations: NDArray[Any], labels: list[str], actions: NDArray[Any]
) -> str:
    """Write an episode as a table, a line per step.

    Args:
        progress: How far the episode has come.
        observations: [seen, n], all numbers of each observation; more than 64 are left out.
        labels: Their n names.
        actions: [answered, size].
    """
    size = len(labels) if len(labels) <= WIDEST else 0
    columns = [*labels[:size], *numbered("action", actions), "reward"]
    columns = [column.replace(" ", "") for column in columns]
    widths = [max(6, len(column)) for column in columns]
    lines = ["step  " + "  ".join(f"{c:>{w}}" for c, w in zip(columns, widths, strict=True))]
    for step in range(progress.seen):
        cells = [number(value) for value in observations[step, :size]]
        if step < progress.answered:
            cells += [number(value) for value in (*actions[step], progress.rewards[step])]
        cells += ["·"] * (len(columns) - len(cells))
        row = "  ".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True))
        lines.append(f"{step:>4}  {row}")
    return "\n".join([*lines, progress.last_line()])


def course_picture(
    progress: Progress, observations: NDArray[Any], labels: list[str], actions: NDArray[Any]
) -> NDArray[np.uint8]:
    """Draw an episode, told by the arguments of `course_text`; uint8 [480, 720, 3]."""
    figure = headed_figure(progress)
    inputs, doings, rewards = figure.subplots(3, 1, sharex=True, height_ratios=[3, 2, 1])
    seen = np.full((progress.num_steps, len(labels)), np.nan)
    seen[: progress.seen] = observations
    heat_map(inputs, seen, labels, largest(observations))
    steps = np.arange(progress.answered)
    for column in actions.T:
        doings.plot(steps, column, ".", color=BAD)
    doings.set_title("actions", fontsize=9, loc="left")
    rewards.bar(steps, progress.rewards, color=GOOD)
    rewards.axhline(0, color="0.8", lw=0.8, zorder=0)
    rewards.set_title("rewards", fontsize=9, loc="left")
    rewards.set(xlim=(-0.5, progress.num_steps - 0.5), xlabel="step")
    return pixels(figure)
