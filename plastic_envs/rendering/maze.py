"""A maze: the way since the last visit, the agent and its view, the hidden place."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from plastic_envs.rendering.canvas import BAD, GOOD, Progress, headed_figure, pixels
from plastic_envs.spaces import BoolArray


class Walk(NamedTuple):
    """An episode. Places are numbered row by row.

    Attributes:
        walls: bool [size, size].
        position: Where the agent is.
        goal: The place of the reward.
        visits: How often it was reached.
        way: int64 [n], the places since the agent was last put somewhere.
    """

    walls: BoolArray
    position: int
    goal: int
    visits: int
    way: NDArray[np.int64]


def maze_text(progress: Progress, walk: Walk) -> str:
    """Write a maze: `#` walls, `A` the agent, `R` the place of the reward."""
    signs = np.where(walk.walls, "#", ".")
    signs.flat[walk.goal] = "R"
    signs.flat[walk.position] = "A"
    lines = [" ".join(row) for row in signs]
    return "\n".join([*lines, f"visits {walk.visits}", progress.last_line()])


def maze_picture(progress: Progress, walk: Walk) -> NDArray[np.uint8]:
    """Draw a maze, and the return so far beside it; uint8 [480, 720, 3]."""
    size = len(walk.walls)
    figure = headed_figure(progress)
    maze, returns = figure.subplots(1, 2, width_ratios=[3, 2])
    maze.imshow(walk.walls, cmap="Greys", vmin=0, vmax=1.4)
    row, column = divmod(walk.position, size)
    maze.add_patch(_square(*divmod(walk.goal, size), 1, color=GOOD, alpha=0.5))
    maze.add_patch(_square(row, column, 3, fill=False, edgecolor=BAD, linestyle="--"))
    rows, columns = np.divmod(walk.way, size)
    maze.plot(columns, rows, "-", color=BAD, alpha=0.6)
    maze.plot(column, row, "o", color=BAD, ms=11)
    maze.set(xticks=[], yticks=[])
    maze.set_title(f"{walk.visits} visits, and the way since", fontsize=9, loc="left")
    earned = np.append(0, progress.rewards.cumsum())
    returns.plot(np.arange(progress.answered + 1), earned, color=GOOD)
    returns.set(xlim=(0, progress.num_steps), xlabel="step")
    returns.set_title("return", fontsize=9, loc="left")
    return pixels(figure)


def _square(row: int, column: int, width: int, **style: Any) -> Any:
    from matplotlib.patches import Rectangle  # slow to import: only when drawn

    return Rectangle((column - width / 2, row - width / 2), width, width, **style)
