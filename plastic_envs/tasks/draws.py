"""From uniform random numbers to the numbers of a task.

An episode takes a fixed number of uniforms from the random stream, so what is made of them here
takes a fixed number as well, and never asks for more.
"""

import math

import numpy as np
from numpy.typing import NDArray

from plastic_envs.spaces import FloatArray

NORMAL_BOUND = math.sqrt(2 * 24 * math.log(2))
"""Largest magnitude that `normals` can return (5.77): its uniforms have 24 bits."""


def split(draws: FloatArray, *widths: int) -> list[FloatArray]:
    """Cut [B, n] into columns of the given widths, and the rest."""
    parts, start = [], 0
    for width in widths:
        parts.append(draws[:, start : start + width])
        start += width
    return [*parts, draws[:, start:]]


def symmetric(uniforms: FloatArray, bound: float = 1.0) -> FloatArray:
    """Map uniforms of [0, 1) to [-bound, bound)."""
    return uniforms * np.float32(2 * bound) - np.float32(bound)


def normals(uniforms: FloatArray) -> FloatArray:
    """Make standard normal numbers of uniforms [B, 2m] (Box and Muller 1958).

    Unlike a ziggurat it takes a fixed number of draws, and its range is finite (`NORMAL_BOUND`), so
    that noisy observations stay inside a bounded space.
    """
    half = uniforms.shape[1] // 2
    radius = np.sqrt(np.float32(-2) * np.log(np.float32(1) - uniforms[:, :half]))
    angle = np.float32(2 * np.pi) * uniforms[:, half:]
    result = np.empty_like(uniforms)
    np.multiply(radius, np.cos(angle), out=result[:, :half])
    np.multiply(radius, np.sin(angle), out=result[:, half:])
    return result


def integers(uniforms: FloatArray, count: int) -> NDArray[np.int64]:
    """Map uniforms of [0, 1) to integers 0 … count - 1."""
    # In float32 the product could round up to `count` itself.
    return (uniforms.astype(np.float64) * count).astype(np.int64)


def even(count: int) -> int:
    """Round up to the even number of uniforms that `normals` needs for `count` numbers."""
    return count + count % 2


def shuffled(
    uniforms: FloatArray, counts: NDArray[np.int64] | int, picks: int
) -> NDArray[np.int64]:
    """Shuffle the integers 0 … count - 1 as far as the first `picks` places (Fisher and Yates).

    Args:
        uniforms: [..., picks].
        counts: How many integers there are, at least `picks`: a number, or one for each row [...].
        picks: Number of places to fill at random.

    Returns:
        [..., largest count]: `picks` different integers in random order, then the rest of the
        integers below the row's count, then whatever lies above it.
    """
    rows_shape = uniforms.shape[:-1]
    counts = np.broadcast_to(np.asarray(counts, np.int64), rows_shape).ravel()
    draws = uniforms.reshape(len(counts), picks).astype(np.float64)
    rows = np.arange(len(draws))
    deck = np.tile(np.arange(counts.max(initial=0)), (len(draws), 1))
    for place in range(picks):
        pick = place + (draws[:, place] * (counts - place)).astype(np.int64)
        chosen = deck[rows, pick]
        deck[rows, pick] = deck[:, place]
        deck[:, place] = chosen
    return deck.reshape(*rows_shape, -1)
