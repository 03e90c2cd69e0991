"""Images that the user brings as arrays, and the split of classes that no one has split yet."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from plastic_envs.checks import shown
from plastic_envs.images.base import (
    ImageArray,
    ImageClasses,
    ImageSource,
    Split,
    check_split,
    form_of,
)
from plastic_envs.images.cache import cached, file_stamp, fingerprint
from plastic_envs.images.reading import npy_array, open_zip, read_member, reading
from plastic_envs.images.sources.files import FileSource

Classes = Mapping[Split, Sequence[Any]]

_VERSION = 1  # raise it with every change to the images


@dataclass(frozen=True, eq=False)
class Arrays(ImageSource):
    """Labelled images in memory.

    Each object is its own source: two of them are never equal, and a copy is the object itself, so
    environments share its images. Processes do not; a file (`ArrayFile`) is better for those.

    Attributes:
        images: uint8 [N, height, width] or [N, height, width, channels].
        labels: N integers or texts, the class of each image.
        classes: Labels of the classes of each split; what it does not name is left out. Default:
            64 : 16 : 20, by `split_classes`.

    Raises:
        ValueError: If the arrays do not fit together, or a class is in two splits.

    Example:
        >>> images = np.zeros((6, 8, 8), np.uint8)
        >>> Arrays(images, [0, 0, 1, 1, 2, 2]).load("train").image_shape
        (8, 8, 1)
    """

    images: ImageArray = field(repr=False)
    labels: Any = field(repr=False)
    classes: Classes | None = None

    def __post_init__(self) -> None:
        """Check that images, labels and classes fit together."""
        images, labels = check_arrays(self.images, self.labels)
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "labels", labels)
        if self.classes is not None:
            classes = _check_classes(self.classes, set(labels.tolist()))
            object.__setattr__(self, "classes", classes)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __copy__(self) -> Self:
        return self

    def load(self, split: Split) -> ImageClasses:
        """Sort the images of a split by class."""
        check_split(split)
        return select(self.images, self.labels, split, self.classes)


@dataclass(frozen=True)
class ArrayFile(FileSource):
    """Labelled images in a NumPy archive with the arrays `images` and `labels`.

    `numpy.savez(path, images=images, labels=labels)` writes one: images uint8 [N, height, width] or
    [N, height, width, channels], labels N integers or texts. The classes are split 64 : 16 : 20, by
    `split_classes`.

    An array may have 64 times the bytes of the file, and always 1 GiB.

    Attributes:
        root: The file, such as `~/images.npz`.
    """

    def load(self, split: Split) -> ImageClasses:
        """Read the classes of a split."""
        check_split(split)
        path = self.find(_ARRAY_FILE)
        if not path.is_file():
            raise ValueError(f"{path} is not a file; root must be {_ARRAY_FILE}")
        state = fingerprint(_VERSION, file_stamp(path))
        return cached(f"arrays-{split}-{state}", lambda: _read_split(path, split))


_ARRAY_FILE = "an .npz file with the arrays `images` and `labels` (numpy.savez writes one)"


def split_classes(names: Iterable[str]) -> dict[Split, tuple[str, ...]]:
    """Split classes 64 : 16 : 20 into those of training, validation and test.

    Always in the same way: they are shuffled by the SHA-256 digests of their names, which no
    version of a random generator changes.

    Args:
        names: Names of the classes, in any order, at least 3.

    Returns:
        The sorted names of each split, at least one of each.

    Raises:
        ValueError: If there are fewer than 3 classes.
    """
    distinct = sorted(set(names), key=lambda name: (_digest(name), name))
    total = len(distinct)
    if total < 3:
        raise ValueError(f"three splits need at least 3 classes, got {total}: {shown(distinct)}")
    train = total - max(1, round(0.16 * total)) - max(1, round(0.2 * total))
    validation = train + max(1, round(0.16 * total))
    return {
        "train": tuple(sorted(distinct[:train])),
        "validation": tuple(sorted(distinct[train:validation])),
        "test": tuple(sorted(distinct[validation:])),
    }


def select(
    images: ImageArray, labels: NDArray[Any], split: Split, classes: Classes | None = None
) -> ImageClasses:
    """Take the classes of a split out of checked arrays; `classes` is as in `Arrays`."""
    if classes is None:
        texts = {str(label): label for label in np.unique(labels).tolist()}
        kept = [texts[text] for text in split_classes(texts)[split]]
    else:
        kept = list(classes.get(split, ()))
    if not kept:
        raise ValueError(f"classes names none for the split {split!r}")
    chosen = np.isin(labels, kept)
    return ImageClasses.from_labels(images[chosen], labels[chosen])


def check_arrays(images: Any, labels: Any) -> tuple[ImageArray, NDArray[Any]]:
    """Return images as uint8 [N, height, width, channels] and labels as [N], or say what is wrong.

    Args:
        images: As in `Arrays`.
        labels: As in `Arrays`.
    """
    images = _array("images", images)
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise ValueError(
            "images must be uint8 (0 … 255) [N, height, width] or [N, height, width, channels], "
            f"got {form_of(images)}"
        )
    if images.ndim == 3:
        images = images[..., None]
    labels = _array("labels", labels)
    if labels.dtype == object:
        labels = _array("labels", labels.tolist())  # texts, as most libraries keep them
    if labels.ndim != 1 or labels.dtype.kind not in "iubU":
        raise ValueError(f"labels must be integers or texts [N], got {form_of(labels)}")
    if len(images) != len(labels) or images.size == 0:
        raise ValueError(
            f"every image needs pixels and a label, got {len(images)} images "
            f"{list(images.shape[1:])} and {len(labels)} labels"
        )
    return images, labels


def _array(name: str, value: Any) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except Exception as error:  # what stands in for an array can raise anything
        raise ValueError(f"{name} must be an array, got {shown(value)}") from error


def _digest(name: str) -> bytes:
    return sha256(name.encode("utf-8", "surrogatepass")).digest()


def _read_split(path: Path, split: Split) -> ImageClasses:
    with open_zip(path, f"must be {_ARRAY_FILE}, but is not") as (archive, most):
        images, labels = (
            npy_array(read_member(archive, f"{name}.npy", most)) for name in ("images", "labels")
        )
    with reading(path, "cannot be used"):
        return select(*check_arrays(images, labels), split)


def _check_classes(classes: Any, labels: set[Any]) -> Classes:
    """Return the labels of each split, which are read once: they may come from an iterator."""
    if not isinstance(classes, Mapping):
        raise ValueError(f"classes must be a dictionary of splits, got {shown(classes)}")
    kept: dict[Split, tuple[Any, ...]] = {}
    places: dict[Any, str] = {}
    for split, members in classes.items():
        try:
            check_split(split)
        except ValueError as error:
            raise ValueError(f"classes must be a dictionary of splits: {error}") from error
        try:
            kept[split] = tuple(members)
        except TypeError as error:
            raise ValueError(
                f"classes[{split!r}] must be a list of labels, got {shown(members)}"
            ) from error
        for label in kept[split]:
            if not isinstance(label, str | int | np.integer | np.bool_) or label not in labels:
                raise ValueError(
                    f"classes[{split!r}] names {shown(label)}, but no image is labelled so"
                )
            if places.setdefault(label, split) != split:
                raise ValueError(
                    f"classes has {shown(label)} in {places[label]!r} and in {split!r}"
                )
    return kept
