"""A story: what was said, what was asked, and the answer."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from plastic_envs.rendering.canvas import BAD, GOOD, NEUTRAL, Progress, headed_figure, pixels

_LINES = 22


class Tale(NamedTuple):
    """An episode.

    Attributes:
        said: The words of each step.
        right: The right answer of each step, empty where none is asked for.
        given: The answers so far.
    """

    said: list[str]
    right: list[str]
    given: list[str]


def stories_text(progress: Progress, tale: Tale) -> str:
    """Write a story, a line per step, with the answer where one is asked for."""
    return "\n".join([*(line for line, _ in _lines(progress, tale)), progress.last_line()])


def stories_picture(progress: Progress, tale: Tale) -> NDArray[np.uint8]:
    """Write the last lines of a story as a picture; uint8 [480, 720, 3]."""
    figure = headed_figure(progress)
    axes = figure.subplots()
    axes.axis("off")
    for row, (line, colour) in enumerate(_lines(progress, tale)[-_LINES:]):
        axes.text(0, 1 - row / _LINES, line, va="top", fontsize=9, color=colour, family="monospace")
    return pixels(figure)


def _lines(progress: Progress, tale: Tale) -> list[tuple[str, str]]:
    lines = []
    for step in range(progress.seen):
        line, colour = f"{step:>4}  {tale.said[step]}", NEUTRAL
        if tale.right[step] and step < progress.answered:
            given, right = tale.given[step], tale.right[step]
            is_right = given == right
            colour = GOOD if is_right else BAD
            line += f"?  {given}, " + ("right" if is_right else f"but it is {right}")
        lines.append((line, colour))
    return lines
