"""Images that the user keeps as files, a folder for each class."""

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from plastic_envs.checks import check_int, shown
from plastic_envs.images.base import (
    SPLITS,
    ImageArray,
    ImageClasses,
    Split,
    check_split,
)
from plastic_envs.images.cache import cached, fingerprint
from plastic_envs.images.reading import MOST_IMAGES, UnreadableError, open_file, reading
from plastic_envs.images.sources.arrays import split_classes
from plastic_envs.images.sources.files import FileSource

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
"""What the names of image files end with, in small or capital letters."""

ClassFiles = dict[str, list[Path]]

_VERSION = 1  # raise it with every change to the images
_GREY = ("1", "L", "LA")
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
_LARGEST_SIZE = 4096  # px, to which images are resized
_MOST_BYTES = 2**28  # of an image's file
_MOST_EXIF = 2**16  # bytes, as many as a photograph can have
_MOST_WORK = 2**31  # pixels times the scans of a JPEG, each of which goes through all of them
_MOST_SEGMENTS = 64  # parts of the notes of a JPEG; usual are 1 or 2
_NOTES = ("exif", "Raw profile type exif")  # where Pillow keeps them
_SPLIT_FOLDERS: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("validation", "val"),
    "test": ("test",),
}
_CONTENT = (
    "a folder of class folders with images in them (root/CLASS/1.png), or such a folder for each "
    "split (root/train/CLASS/1.png, root/validation/…, root/test/…)"
)


@dataclass(frozen=True)
class Folders(FileSource):
    """Images in a folder for each class.

    Either `root/CLASS/*.png`, whose classes are split 64 : 16 : 20 by `split_classes`; or
    `root/train/CLASS/*.png`, `root/validation/…` (or `val`) and `root/test/…` with different
    classes in each. Files end with one of `SUFFIXES`; others, and names that start with a dot, are
    left out. The images have one channel if all of them are grey, otherwise three; transparency
    is dropped, and of moving images the first is taken. A file may have 256 MiB and as many pixels
    as Pillow takes for harmless (`PIL.Image.MAX_IMAGE_PIXELS`, 89 million); all images of a split
    may have 32 GiB in memory.

    Attributes:
        root: The folder.
        size: Height and width; the middle square of each image is resized to it. Default: as they
            are, if all have one size.
    """

    size: int | None = None

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        if self.size is not None:
            object.__setattr__(self, "size", check_size(self.size))

    def load(self, split: Split) -> ImageClasses:
        """Read the classes of a split."""
        check_split(split)
        root = self.find(_CONTENT)
        splits = _find_classes(root)
        files = [
            file for classes in splits.values() for paths in classes.values() for file in paths
        ]
        state = fingerprint(_VERSION, self.size, files_stamp(root, files))

        def read() -> ImageClasses:
            with reading(root, "cannot be read"):
                return _read_classes(splits[split], files, self.size)

        return cached(f"folders-{split}-{state}", read)


def check_size(size: object, name: str = "size") -> int:
    """Return the height and width to which images are resized, or raise a ValueError."""
    return check_int(name, size, minimum=1, maximum=_LARGEST_SIZE)


def check_room(count: int, height: int, width: int, channels: int) -> None:
    """Raise a ValueError if the images of a split would take too much memory."""
    if count * height * width * channels > MOST_IMAGES:
        raise ValueError(
            f"{count} images {height}×{width}×{channels} need more than the {MOST_IMAGES:,} bytes "
            "that the images of a split may have: give a smaller size to have them resized"
        )


def files_stamp(root: Path, files: Iterable[Path]) -> str:
    """Return what tells a folder's files from changed ones: their names, sizes and times."""
    stamps = []
    for file in files:
        status = file.stat()
        stamps.append((str(file), status.st_size, status.st_mtime_ns))
    return fingerprint(str(root.resolve()), stamps)


def open_image(
    file: Path | BinaryIO, name: str, expected: tuple[int, int] | None = None
) -> "Image":
    """Read an image: mode "L" if it is grey, otherwise "RGB".

    Args:
        file: Where to read.
        name: Name of the file, for errors.
        expected: Width and height that it must have.

    Raises:
        ValueError: If the image is damaged, or not of a kind that is read here.
    """
    with _opened(file, name, expected) as image:
        if image.mode in _GREY:
            return image.convert("L")
        if "transparency" in image.info:
            return image.convert("RGBA").convert("RGB")
        return image.convert("RGB")


@contextmanager
def _opened(
    file: Path | BinaryIO, name: str, expected: tuple[int, int] | None = None
) -> Iterator["Image"]:
    """Open an image and turn it upright."""
    from PIL import Image, ImageOps

    problem = "cannot be read as an image"
    opened = open_file(file, problem, _MOST_BYTES) if isinstance(file, Path) else nullcontext(file)
    with opened as content, reading(name, problem):
        scans = _scans(content)
        with Image.open(content, formats=_FORMATS) as image:
            pixels = image.width * image.height
            if pixels > (Image.MAX_IMAGE_PIXELS or math.inf) or pixels * scans > _MOST_WORK:
                raise ValueError(f"it has {image.width}×{image.height} pixels in {scans} scans")
            if expected is not None and image.size != expected:
                raise ValueError(f"it has the size {image.size}, not {expected}")
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"it has {image.mode} pixels, not 8 bits a channel")
            image.load()
            # Pillow copies what the entries of these notes point at, however often it is the same.
            if any(len(image.info.get(key, "")) > _MOST_EXIF for key in _NOTES):
                raise ValueError(f"its EXIF notes have more than {_MOST_EXIF:,} bytes")
            ImageOps.exif_transpose(image, in_place=True)
            yield image


def _scans(file: BinaryIO) -> int:
    """Return how often the decoder goes through an image: a JPEG may have any number of scans."""
    content = file.read() if file.read(2) == b"\xff\xd8" else b""
    file.seek(0)
    if content.count(b"Exif\0\0") > _MOST_SEGMENTS:  # Pillow joins them in quadratic time
        raise ValueError(f"its EXIF notes have more than {_MOST_SEGMENTS} parts")
    return max(1, content.count(b"\xff\xda"))


def _find_classes(root: Path) -> dict[Split, ClassFiles]:
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder; root must be {_CONTENT}")
    places = {
        split: next((root / name for name in names if (root / name).is_dir()), None)
        for split, names in _SPLIT_FOLDERS.items()
    }
    train = places["train"]
    if train is None or not any(_subfolders(train)):
        return _split_folder(root)
    splits: dict[Split, ClassFiles] = {}
    seen: dict[str, Split] = {}
    for split, place in places.items():
        if place is None:
            raise FileNotFoundError(f"{root} has a folder `train`, but none `{split}`")
        splits[split] = _class_files(place)
        if not splits[split]:
            raise FileNotFoundError(f"{place} has no class folders with images; they are missing")
        for name in splits[split]:
            if name in seen:
                raise ValueError(
                    f"the class {shown(name)} is in {seen[name]} and in {split} of {root}; classes "
                    "of different splits must differ. Put all classes into one folder to split them"
                )
            seen[name] = split
    return splits


def _split_folder(root: Path) -> dict[Split, ClassFiles]:
    classes = _class_files(root)
    if not classes:
        raise FileNotFoundError(f"{root} has no class folders with images; root must be {_CONTENT}")
    try:
        names = split_classes(classes)
    except ValueError as error:
        raise ValueError(f"{root}: {error}") from error
    return {split: {name: classes[name] for name in names[split]} for split in SPLITS}


def _subfolders(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if path.is_dir()]
    return sorted(path for path in found if not path.name.startswith((".", "__")))


def _class_files(folder: Path) -> ClassFiles:
    """Return the image files of each class folder that has any."""
    classes: ClassFiles = {}
    for subfolder in _subfolders(folder):
        with os.scandir(subfolder) as entries:
            names = sorted(
                entry.name
                for entry in entries
                if entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith(".")
            )
        if names:
            classes[subfolder.name] = [subfolder / name for name in names]
    return classes


def _read_classes(classes: ClassFiles, every: list[Path], size: int | None) -> ImageClasses:
    """Read the files of some classes; channels and size are those of all splits (`every`)."""
    files = [path for paths in classes.values() for path in paths]
    grey, sizes = True, [] if size is None else [(size, size)]
    for path in every:
        with _opened(path, str(path)) as image:
            grey = grey and image.mode in _GREY
            if size is None:
                sizes.append((image.height, image.width))
        if sizes[-1] != sizes[0]:
            raise UnreadableError(
                f"{path} is {sizes[-1]} pixels high and wide, {every[0]} is {sizes[0]}: give a "
                "size to have all images resized (`Folders(root, size=84)`, or image_size=84 with "
                "source='folders'), or resize the files"
            )
        check_room(len(files), *sizes[0], 1 if grey else 3)
    images = np.empty((len(files), *sizes[0], 1 if grey else 3), np.uint8)
    for pixels, path in zip(images, files, strict=True):
        pixels[...] = _read(path, "L" if grey else "RGB", size)
    offsets = np.cumsum([0, *(len(paths) for paths in classes.values())], dtype=np.int64)
    return ImageClasses(images, offsets, tuple(classes))


def _read(path: Path, mode: str, size: int | None) -> ImageArray:
    from PIL import Image, ImageOps

    image = open_image(path, str(path)).convert(mode)
    if size is not None:
        image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    pixels = np.asarray(image, np.uint8)
    return pixels[..., None] if mode == "L" else pixels
