"""Distortion of drawings: rotation, scale, shear and shift."""

import numpy as np
from numpy.typing import NDArray

from plastic_envs.images.augment import check_arrays
from plastic_envs.images.base import ImageArray

_ANGLE = np.deg2rad(15)
_SCALE = 0.2  # of width and height, each for itself: 1 ± this
_SHEAR = 0.2
_SHIFT = 0.1  # of the sides


def distort(images: ImageArray, uniforms: NDArray[np.float32]) -> ImageArray:
    """Change the shape of images at random, by little, as another hand would draw them.

    A rotation by U(-15°, 15°), width and height scaled by 1 / U(0.8, 1.2) each, a shear by U(-0.2,
    0.2) and a shift by U(-0.1, 0.1) of the sides, about the middle, with linear interpolation
    between pixels; black where an image has none.

    Args:
        images: uint8 [N, height, width, channels].
        uniforms: [N, 6] in [0, 1).

    Returns:
        uint8 [N, height, width, channels].

    Raises:
        ValueError: If an array has another form.
    """
    check_arrays(images, uniforms)
    count, height, width, channels = images.shape
    limits = np.array([_ANGLE, _SCALE, _SCALE, _SHEAR, _SHIFT, _SHIFT], np.float32)
    drawn = (2 * uniforms.T.astype(np.float32) - 1) * limits[:, None]
    angle, tall, wide, shear, down, right = drawn[..., None]  # [N, 1] each
    tall, wide = 1 + tall, 1 + wide
    sine, cosine = np.sin(angle), np.cos(angle)
    y, x = np.mgrid[:height, :width].reshape(2, 1, -1).astype(np.float32)
    y, x = y - (height - 1) / 2, x - (width - 1) / 2
    # Where each pixel comes from [N, pixels], in an image with a black pixel around it.
    rows = tall * (cosine * y + sine * x) + down * height + (height + 1) / 2
    columns = wide * (cosine * x - sine * y) + shear * y + right * width + (width + 1) / 2
    rows, columns = np.clip(rows, 0, height + 0.999), np.clip(columns, 0, width + 0.999)
    framed = np.zeros((count, height + 2, width + 2, channels), np.uint8)
    framed[:, 1:-1, 1:-1] = images
    top, left = rows.astype(np.int64), columns.astype(np.int64)
    below, beyond = (rows - top)[..., None], (columns - left)[..., None]
    flat = framed.reshape(-1, channels)
    place = (np.arange(count)[:, None] * (height + 2) + top) * (width + 2) + left
    upper = flat[place] * (1 - beyond) + flat[place + 1] * beyond
    place += width + 2
    lower = flat[place] * (1 - beyond) + flat[place + 1] * beyond
    mixed = np.rint(upper * (1 - below) + lower * below)
    result: ImageArray = mixed.astype(np.uint8).reshape(images.shape)
    return result
