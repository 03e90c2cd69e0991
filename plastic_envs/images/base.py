"""What image sources have in common: labelled images, and disjoint sets of classes."""

from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from plastic_envs.checks import check_choice, shown

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

ImageArray = NDArray[np.uint8]


def check_split(split: object) -> Split:
    """Return a split, or raise a ValueError if there is no such."""
    return check_choice("split", split, SPLITS)


@dataclass(frozen=True, eq=False)
class ImageClasses:
    """Images sorted by class; they are shared and cannot be changed through this object.

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
        images, offsets, names = self.images, self.offsets, self.names
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4:
            raise ValueError(
                f"images must be uint8 [N, height, width, channels], got {form_of(images)}"
            )
        if 0 in images.shape:
            raise ValueError(f"images must have at least one pixel, got {list(images.shape)}")
        if isinstance(offsets, list | tuple):
            with suppress(ValueError):  # ragged: refused below
                offsets = np.asarray(offsets)
        if (
            not isinstance(offsets, np.ndarray)
            or offsets.ndim != 1
            or offsets.dtype.kind not in "iu"
        ):
            raise ValueError(f"offsets must be integers [num_classes + 1], got {form_of(offsets)}")
        if len(offsets) < 2 or (offsets[0], offsets[-1]) != (0, len(images)):
            raise ValueError(f"offsets must go from 0 to {len(images)}, got {shown(offsets)}")
        if (offsets[1:] <= offsets[:-1]).any():
            raise ValueError("offsets must rise: every class needs at least one image")
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"names must be texts, got {shown(names)}")
        if len(names) != len(offsets) - 1:
            raise ValueError(
                f"names must be those of {len(offsets) - 1} classes, got {len(names)} of them"
            )
        # Views, so that the arrays of the caller stay as they are.
        views = {
            "images": images.view(),
            "offsets": offsets.astype(np.int64),
            "names": tuple(names),
        }
        for name, value in views.items():
            if isinstance(value, np.ndarray):
                value.setflags(write=False)
            object.__setattr__(self, name, value)

    @classmethod
    def from_labels(cls, images: ImageArray, labels: Any) -> "ImageClasses":
        """Sort labelled images by class.

        Args:
            images: uint8 [N, height, width, channels].
            labels: N integers or texts, as an array or a list; their text is the name of the class.
        """
        if isinstance(labels, list):  # an array would give all texts the length of the longest
            names: Any = sorted(set(labels))
            places = {name: place for place, name in enumerate(names)}
            inverse = np.fromiter((places[label] for label in labels), np.int64, len(labels))
        else:
            names, inverse = np.unique(np.asarray(labels), return_inverse=True)
        if len(inverse) != len(images):
            raise ValueError(f"{len(images)} images need as many labels, got {len(inverse)}")
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


def form_of(value: object) -> str:
    """Return the dtype and shape of an array, or what else a value is, for errors."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return f"a {type(value).__name__}"


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
