"""What image sources have in common: labelled images, and disjoint sets of classes."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

ImageArray = NDArray[np.uint8]


def check_split(split: str) -> None:
    """Raise a ValueError if there is no such split."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(map(repr, SPLITS))}, got {split!r}")


@dataclass(frozen=True, eq=False)
class ImageClasses:
    """Images sorted by class; they are shared and must not be changed.

    Attributes:
        images: uint8 [N, height, width, channels], those of class 0 first.
        offsets: int64 [num_classes + 1]; class c has the images `offsets[c]` to `offsets[c + 1]`.
        names: Name of each class.

    Raises:
        ValueError: If the three do not fit together.
    """

    images: ImageArray
    offsets: NDArray[np.int64]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check that the three fit together."""
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise ValueError(
                "images must be uint8 [N, height, width, channels], got "
                f"{self.images.dtype} {list(self.images.shape)}"
            )
        ends = (0, len(self.images))
        if len(self.offsets) < 2 or (self.offsets[0], self.offsets[-1]) != ends:
            raise ValueError(f"offsets must go from {ends[0]} to {ends[1]}, got {self.offsets}")
        if (np.diff(self.offsets) < 1).any():
            raise ValueError("every class needs at least one image")
        if len(self.names) != self.num_classes:
            raise ValueError(f"{self.num_classes} classes need as many names: {len(self.names)}")
        self.images.setflags(write=False)
        self.offsets.setflags(write=False)

    @classmethod
    def from_labels(cls, images: ImageArray, labels: Any) -> "ImageClasses":
        """Sort labelled images by class.

        Args:
            images: uint8 [N, height, width, channels].
            labels: N hashable, sortable labels; their text is the name of the class.
        """
        names, inverse = np.unique(np.asarray(labels), return_inverse=True)
        order = np.argsort(inverse, kind="stable")
        counts = np.bincount(inverse, minlength=len(names))
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(images[order], offsets, tuple(str(name) for name in names))

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.offsets) - 1

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of images of each class [num_classes]."""
        return np.diff(self.offsets)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels


class ImageSource(ABC):
    """A place where labelled images come from.

    Subclasses are frozen dataclasses: their fields say where the images are and how they are read.
    Sources that are equal give equal images, and share one copy of them within a process.
    """

    @abstractmethod
    def load(self, split: Split) -> ImageClasses:
        """Read the classes of a split; no class is in two splits.

        Raises:
            FileNotFoundError: If the data are not there; says what was looked for, where, and how
                to get it.
            ValueError: If they are damaged or of another form.
        """
