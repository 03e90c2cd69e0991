"""The sources of images by their names, and one copy of their images for a whole process."""

from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from threading import RLock
from typing import Literal, get_args

from plastic_envs.checks import check_bool, shown
from plastic_envs.images.base import ImageClasses, ImageSource, Split, check_split
from plastic_envs.images.sources.arrays import ArrayFile
from plastic_envs.images.sources.folders import Folders, check_size
from plastic_envs.images.sources.glyphs import Glyphs
from plastic_envs.images.sources.omniglot import Omniglot
from plastic_envs.images.sources.photographs import CIFARFS, MiniImageNet
from plastic_envs.images.sources.rotated import Rotated

SourceName = Literal["glyphs", "omniglot", "cifar-fs", "mini-imagenet", "arrays", "folders"]
"""Names of the sources that can be told by a name and a place."""


def _glyphs(root: str | Path | None) -> Glyphs:
    if root is not None:
        raise ValueError(f"the source 'glyphs' is drawn, not read; leave out root={shown(root)}")
    return Glyphs()


SOURCES: dict[str, Callable[[str | Path | None], ImageSource]] = {
    "glyphs": _glyphs,
    "omniglot": Omniglot,
    "cifar-fs": CIFARFS,
    "mini-imagenet": MiniImageNet,
    "arrays": ArrayFile,
    "folders": Folders,
}
"""Makes the source of a name out of its place (`root`); the other settings have their defaults."""

_KEPT = 16  # splits of sources whose images a process keeps at hand
_loading = RLock()  # a source may load another


def make_source(
    source: str | ImageSource,
    root: str | Path | None = None,
    size: int | None = None,
    rotations: bool | None = None,
) -> ImageSource:
    """Return the source of images that a user asks for.

    Args:
        source: A name in `SOURCES`, or a source, which is returned as it is.
        root: Where the images are, for a name; None where nothing is read.
        size: Height and width to which images are resized, for the names "omniglot" and "folders".
            Default: that of the source.
        rotations: Whether the training classes turned by 90, 180 and 270 degrees are classes as
            well, for a name. Default: only those of "omniglot", as is usual.

    Raises:
        ValueError: If there is no such source, or `root` or `size` does not belong to it.

    Example:
        >>> make_source("omniglot", "~/omniglot")
        Omniglot(root='~/omniglot', size=28, rotations=True)
    """
    if isinstance(source, ImageSource):
        for name, value in (("root", root), ("image_size", size), ("rotations", rotations)):
            if value is not None:
                raise ValueError(
                    f"{name}={shown(value)} is for sources by name; {shown(source)} has its own"
                )
        return source
    if not isinstance(source, str) or source not in SOURCES:
        raise ValueError(
            f"source must be one of {get_args(SourceName)} or a source, got {shown(source)}"
        )
    made = SOURCES[source](root)
    if size is not None:
        if not isinstance(made, Omniglot | Folders):
            raise ValueError(
                f"image_size={shown(size)} is for 'omniglot' and 'folders'; the images of "
                f"{source!r} have one size"
            )
        made = replace(made, size=check_size(size, "image_size"))
    if rotations is None:
        return made
    turned = check_bool("rotations", rotations)
    if isinstance(made, Omniglot):
        return replace(made, rotations=turned)
    return Rotated(made) if turned else made


def load_images(source: ImageSource, split: Split) -> ImageClasses:
    """Return the images of a split; equal sources share one copy within the process.

    The last 16 are kept. Files that change later are read anew by a new process.

    Args:
        source: Where the images come from.
        split: Which of its classes.

    Raises:
        FileNotFoundError: If the images are not there.
        ValueError: If they are damaged or of another form.
    """
    if not isinstance(source, ImageSource):
        raise ValueError(f"source must be an ImageSource, got {shown(source)}")
    if not isinstance(source, Hashable):
        raise ValueError(f"source must be hashable (a frozen dataclass), got {shown(source)}")
    check_split(split)
    with _loading:  # two threads must not prepare the same images
        return _load(source, split)


@lru_cache(maxsize=_KEPT)
def _load(source: ImageSource, split: Split) -> ImageClasses:
    classes = source.load(split)
    if not isinstance(classes, ImageClasses):
        raise ValueError(f"{shown(source)}: load must return ImageClasses, got {shown(classes)}")
    return classes
