"""Augmentation of photographs: shifted crop, mirror image, and colours."""

import numpy as np
from numpy.typing import NDArray

from plastic_envs.images.base import ImageArray, form_of

DRAWS = 6
"""Uniform numbers that the augmentation of one image takes."""

_STRENGTH = 0.4  # brightness, contrast and saturation are scaled by 1 ± this
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # luma of ITU-R BT.601


def augment(images: ImageArray, uniforms: NDArray[np.float32]) -> ImageArray:
    """Change images at random, as photographs are in training (arXiv 2302.03235).

    A crop from the image with a black border of 4 pixels (8 for sides of 64 or more), brightness,
    contrast and saturation each scaled by U(0.6, 1.4), in that order, and a mirror image with
    probability 1/2. (The paper's colours change in random order.) Saturation leaves images alone
    that have not three channels.

    Args:
        images: uint8 [N, height, width, channels].
        uniforms: [N, 6] in [0, 1).

    Returns:
        uint8 [N, height, width, channels].

    Raises:
        ValueError: If an array has another form.
    """
    check_arrays(images, uniforms)
    result = np.empty_like(images)
    border = 4 if max(images.shape[1:3]) < 64 else 8
    offsets = (uniforms[:, :2] * (2 * border + 1)).astype(np.int64)
    factors = np.float32(1 - _STRENGTH) + np.float32(2 * _STRENGTH) * uniforms[:, 3:]
    # One image at a time stays in the processor's cache.
    for image, target, offset, mirrored, factor in zip(
        images, result, offsets, uniforms[:, 2] < 0.5, factors, strict=True
    ):
        shifted = _shifted(image, offset - border)
        _recolour(shifted[:, ::-1] if mirrored else shifted, factor, target)
    return result


def check_arrays(images: ImageArray, uniforms: NDArray[np.float32]) -> None:
    """Raise a ValueError if images and their random numbers have another form."""
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(
            f"images must be uint8 [N, height, width, channels], got {form_of(images)}"
        )
    if uniforms.shape != (len(images), DRAWS):
        raise ValueError(f"uniforms must be [{len(images)}, {DRAWS}], got {form_of(uniforms)}")


def _shifted(image: ImageArray, offset: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the part of an image that begins at an offset, black where it has none."""
    height, width = image.shape[:2]
    top, left = offset
    rows = slice(max(top, 0), min(height, height + top))
    columns = slice(max(left, 0), min(width, width + left))
    shifted = np.zeros(image.shape, np.float32)
    if rows.stop <= rows.start or columns.stop <= columns.start:
        return shifted  # the image is smaller than the border
    shifted[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = image[
        rows, columns
    ]
    return shifted


def _recolour(
    values: NDArray[np.float32], factors: NDArray[np.float32], target: ImageArray
) -> None:
    """Write an image [height, width, channels] with other brightness, contrast and saturation."""
    brightness, contrast, saturation = factors
    values = np.clip(values * brightness, 0, 255)
    mean = _luma(values).mean()
    values *= contrast
    values += mean * (1 - contrast)
    np.clip(values, 0, 255, out=values)
    if values.shape[-1] == len(_GREY):
        grey = _luma(values) * (1 - saturation)
        values *= saturation
        values += grey
        np.clip(values, 0, 255, out=values)
    np.rint(values, out=values)
    target[...] = values


def _luma(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the lightness [height, width, 1] of an image."""
    if values.shape[-1] == len(_GREY):
        return (values @ _GREY)[..., None]
    return np.asarray(values.mean(axis=-1, keepdims=True))
