"""Pictures of a few-shot episode: labelled images, then queries with answer and truth."""

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from plastic_envs.rendering.canvas import BAD, GOOD, NEUTRAL, Progress, headed_figure, pixels
from plastic_envs.spaces import BoolArray, FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GAP = 0.16  # between images, in widths of an image
_LINE = 0.30  # height of the line of text below an image, likewise


class Album(NamedTuple):
    """An episode.

    Attributes:
        images: uint8 [T, height, width, channels].
        labels: [T, n_way], the label that belongs to each image, zeros for queries; it stands
            beside its image also if it is told a step later.
        targets: int64 [T].
        scored: [T], true at queries.
        answers: int64 [answered], those so far.
    """

    images: NDArray[np.uint8]
    labels: FloatArray
    targets: NDArray[np.int64]
    scored: BoolArray
    answers: NDArray[np.int64]


def few_shot_text(progress: Progress, album: Album) -> str:
    """Write an episode as a table, a line per step.

    Returns:
        Lines with step, label, answer, target and reward; `*` marks queries, `·` what is not known.
    """
    lines = ["step     label  answer  target  reward"]
    for step in range(progress.seen):
        label = album.labels[step]
        shown = str(label.argmax()) if label.any() else "·"
        cells = ["·"] * 3
        if step < progress.answered:
            known = album.answers[step], album.targets[step]
            cells = [*map(str, known), f"{progress.rewards[step]:.0f}"]
        mark = "*" if album.scored[step] else " "
        row = "".join(f"{cell:>8}" for cell in cells)
        lines.append(f"{step:>4} {mark}  {shown:>6}{row}")
    return "\n".join([*lines, progress.last_line(digits=0)])


def few_shot_picture(progress: Progress, album: Album) -> NDArray[np.uint8]:
    """Draw an episode: support images with their label above, queries with the answers below.

    Returns:
        uint8 [480, 720, 3].
    """
    figure = headed_figure(progress)
    num_queries = int(album.scored.sum())
    counts = len(album.scored) - num_queries, num_queries
    rows = [_grid(count)[0] for count in counts]
    support, queries = figure.subplots(2, 1, height_ratios=rows)
    captions = _captions(album)
    steps = np.arange(progress.seen)
    for axes, title, is_query in (
        (support, "support: image and label", False),
        (queries, "queries: answer, and the truth where it was wrong", True),
    ):
        ours = np.flatnonzero(album.scored == is_query)
        _draw_images(axes, album.images, captions, ours, steps)
        axes.set_title(title, fontsize=9, loc="left")
    return pixels(figure)


def _captions(album: Album) -> list[tuple[str, str]]:
    """Return text and colour for the image of each step."""
    captions = []
    for step, (target, scored) in enumerate(zip(album.targets, album.scored, strict=True)):
        if not scored:
            captions.append((str(album.labels[step].argmax()), NEUTRAL))
        elif step >= len(album.answers):
            captions.append(("?", NEUTRAL))
        elif album.answers[step] == target:
            captions.append((f"{target} ✓", GOOD))
        else:
            captions.append((f"{album.answers[step]} ✗ {target}", BAD))
    return captions


def _draw_images(
    axes: "Axes",
    images: NDArray[np.uint8],
    captions: list[tuple[str, str]],
    steps: NDArray[np.int64],
    seen: NDArray[np.int64],
) -> None:
    """Draw the images of some steps in rows; those not seen yet are empty frames."""
    from matplotlib.patches import Rectangle

    rows, columns = _grid(len(steps))
    size = max(4.0, min(10.0, 64 / columns))
    for place, step in enumerate(steps):
        left = (place % columns) * (1 + _GAP)
        top = (place // columns) * (1 + _GAP + _LINE)
        text, color = captions[step]
        if step in seen:
            image = images[step][..., 0] if images.shape[-1] == 1 else images[step]
            extent = (left, left + 1, top + 1, top)
            axes.imshow(image, cmap="gray", vmin=0, vmax=255, extent=extent)
            middle = left + 0.5, top + 1.02
            axes.text(*middle, text, color=color, fontsize=size, ha="center", va="top")
        edge = color if step in seen else "0.85"
        axes.add_patch(Rectangle((left, top), 1, 1, fill=False, ec=edge, lw=1.5, clip_on=False))
    axes.set_xlim(-0.05, columns * (1 + _GAP) - _GAP + 0.05)
    axes.set_ylim(rows * (1 + _GAP + _LINE) - _GAP, -0.05)
    axes.set_aspect("equal")
    axes.axis("off")


def _grid(count: int) -> tuple[int, int]:
    """Return rows and columns for a number of images in a broad field."""
    columns = max(min(count, 5), math.ceil(math.sqrt(3.2 * count)))
    return -(-count // columns), columns
