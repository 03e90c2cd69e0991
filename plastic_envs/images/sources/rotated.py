"""Further classes by rotation, of any source."""

from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from plastic_envs.checks import check_instance
from plastic_envs.images.base import ImageClasses, ImageSource, Split
from plastic_envs.images.cache import cached, fingerprint
from plastic_envs.images.sources.folders import check_room

TURNS = ("", "/90", "/180", "/270")
"""What the names of classes end with, by the quarter turns (anticlockwise) of their images."""

_VERSION = 1  # raise it with every change to the images


@dataclass(frozen=True)
class Rotated(ImageSource):
    """Another source, whose training classes turned by 90, 180 and 270 degrees are classes as well.

    Four times as many classes to learn from, of square images. Those of validation and test are as
    they are, so that scores stay comparable. It is for images whose classes do not turn into
    one another: b and q would be two classes of the same look.

    Source: Santoro et al., 2016 (arXiv 1605.06065).

    Attributes:
        source: The other source.

    Example:
        >>> from plastic_envs.images import Glyphs
        >>> Rotated(Glyphs()).load("train").num_classes
        3232
    """

    source: ImageSource

    def __post_init__(self) -> None:
        """Check the argument."""
        check_instance("source", self.source, ImageSource, "an ImageSource")  # type: ignore[type-abstract]

    def load(self, split: Split) -> ImageClasses:
        """Return the classes of the other source and, in training, the turned ones after them."""
        classes = self.source.load(split)
        if split != "train":
            return classes
        height, width, channels = classes.image_shape
        if height != width:
            raise ValueError(f"only square images can be turned, got {height}×{width}")
        check_room(4 * len(classes.images), height, width, channels)
        content = sha256(np.ascontiguousarray(classes.images).data).hexdigest()
        state = fingerprint(_VERSION, content, classes.offsets.tolist(), classes.names)
        return cached(f"rotated-{state}", lambda: with_rotations(classes))


def with_rotations(classes: ImageClasses) -> ImageClasses:
    """Return classes of square images, followed by each of them turned, by 90 degrees first."""
    images = [np.rot90(classes.images, turns, (1, 2)) for turns in range(len(TURNS))]
    offsets = [classes.offsets[1:] + turns * len(classes.images) for turns in range(len(TURNS))]
    names = tuple(name + turned for turned in TURNS for name in classes.names)
    return ImageClasses(np.concatenate(images), np.concatenate([[0], *offsets]), names)
