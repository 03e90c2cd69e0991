"""A game of concentration: the cards, and which were turned when."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from plastic_envs.rendering.canvas import (
    BAD,
    GOOD,
    NEUTRAL,
    SHADE,
    Progress,
    headed_figure,
    legend,
    pixels,
)
from plastic_envs.spaces import BoolArray


class Table(NamedTuple):
    """A game. Pictures are numbered; a card shows its number to who looks on.

    Attributes:
        cards: int64 [num_cards], the picture of each card.
        gone: bool [num_cards], true where a card was taken away.
        open: The card that lies open, or below 0.
        turned: int64 [answered], the cards turned so far.
        pair: bool [answered], true where a pair was found.
    """

    cards: NDArray[np.int64]
    gone: BoolArray
    open: int
    turned: NDArray[np.int64]
    pair: BoolArray


def concentration_text(progress: Progress, table: Table) -> str:
    """Write a game: the cards, then a line per step; `( )` face down, `[ ]` open, `·` gone."""
    signs = [
        "·" if table.gone[k] else f"[{picture}]" if k == table.open else f"({picture})"
        for k, picture in enumerate(table.cards)
    ]
    lines = [" ".join(signs), "step   card  picture  pair  reward"]
    for step, card in enumerate(table.turned):
        pair = "*" if table.pair[step] else "·"
        reward = f"{progress.rewards[step]:.2f}"
        lines.append(f"{step:>4}{card:>7}{table.cards[card]:>9}{pair:>6}{reward:>8}")
    return "\n".join([*lines, progress.last_line()])


def concentration_picture(progress: Progress, table: Table) -> NDArray[np.uint8]:
    """Draw a game: the cards above, those turned below; uint8 [480, 720, 3]."""
    count = len(table.cards)
    figure = headed_figure(progress)
    cards, turned = figure.subplots(2, 1, height_ratios=[2, 3])
    columns = -(-count // 2) if count <= 16 else 16
    for k, picture in enumerate(table.cards):
        row, column = divmod(k, columns)
        style: dict[str, Any] = {"facecolor": "white" if k == table.open else SHADE}
        if table.gone[k]:
            style = {"facecolor": "none", "linestyle": ":"}
        cards.add_patch(_card(column, row, edgecolor=NEUTRAL, **style))
        colour = GOOD if table.gone[k] else NEUTRAL
        label = {"ha": "center", "va": "center", "color": colour, "fontsize": 10}
        cards.text(column, row, str(picture), **label)
    rows = -(-count // columns)
    cards.set(xlim=(-0.6, columns - 0.4), ylim=(rows - 0.4, -0.6), xticks=[], yticks=[])
    cards.set_title("pictures of the cards (white: open, dotted: gone)", fontsize=9, loc="left")
    steps = np.arange(len(table.turned))
    found = table.pair.astype(np.bool_)
    turned.plot(steps[~found], table.turned[~found], "o", color=BAD, ms=5, label="turned")
    turned.plot(steps[found], table.turned[found], "o", color=GOOD, ms=7, label="pair")
    turned.set(xlim=(-0.5, progress.num_steps - 0.5), ylim=(count - 0.5, -0.5), xlabel="step")
    turned.set_yticks(range(0, count, max(1, count // 8)))
    turned.set_title("card turned", fontsize=9, loc="left")
    legend(turned, 1.16)
    return pixels(figure)


def _card(column: int, row: int, **style: Any) -> Any:
    from matplotlib.patches import Rectangle  # slow to import: only when drawn

    return Rectangle((column - 0.42, row - 0.42), 0.84, 0.84, **style)
