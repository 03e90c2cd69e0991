"""CIFAR-100 in its Python version, with the classes split as in CIFAR-FS."""

import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from plastic_envs.images.base import ImageArray, ImageClasses, Split, form_of
from plastic_envs.images.pickles import entry, integers, load_pickle, read_pickle
from plastic_envs.images.reading import Part, open_file, reading

_TRAIN = """
apple aquarium_fish bear bee bottle bowl boy bridge bus can castle caterpillar chair clock cloud
cockroach couch cup dinosaur dolphin elephant forest girl hamster house kangaroo keyboard
lawn_mower lion lizard lobster mountain mouse mushroom oak_tree orange orchid palm_tree pear
pine_tree plate porcupine possum rabbit raccoon ray road seal shrew skunk skyscraper snake
spider squirrel streetcar sunflower tank tiger train trout tulip turtle willow_tree wolf
"""
_VALIDATION = """
beaver beetle butterfly camel cattle crab crocodile flatfish lamp maple_tree motorcycle otter
sea shark television tractor
"""
_TEST = """
baby bed bicycle chimpanzee fox leopard man pickup_truck plain poppy rocket rose snail
sweet_pepper table telephone wardrobe whale woman worm
"""

SPLIT_CLASSES: dict[Split, tuple[str, ...]] = {
    "train": tuple(_TRAIN.split()),
    "validation": tuple(_VALIDATION.split()),
    "test": tuple(_TEST.split()),
}
"""Classes of each split: Bertinetto et al., 2019, as in Torchmeta's data (Deleu et al., 2019)."""

_FOLDER, _ARCHIVE = "cifar-100-python", "cifar-100-python.tar.gz"
_PARTS = ("train", "test", "meta")
_MOST_PACKED, _MOST_UNPACKED = 2**28, 2**29  # bytes of the archive; the published has 169 MB
_BLOCK = 512  # bytes, of which an archive is made


def find_cifar100(root: Path) -> list[Path] | None:
    """Return the archive in a folder, or the three unpacked files, or None."""
    if (root / _ARCHIVE).is_file():
        return [root / _ARCHIVE]
    for folder in (root / _FOLDER, root):
        paths = [folder / part for part in _PARTS]
        if all(path.is_file() for path in paths):
            return paths
    return None


def read_cifar100(files: list[Path], split: Split) -> ImageClasses:
    """Read the classes of a split.

    Args:
        files: As `find_cifar100` returns them.
        split: Which classes.

    Returns:
        The images of both the train and the test file, 600 of each class, uint8 [N, 32, 32, 3].

    Raises:
        ValueError: If a file is damaged or of another form.
    """
    contents = _read_archive(files[0]) if len(files) == 1 else [load_pickle(path) for path in files]
    where = files[0] if len(files) == 1 else files[0].parent
    with reading(where, "is not CIFAR-100"):
        train, test, meta = contents
        return _select(train, test, meta, split)


def _select(train: Any, test: Any, meta: Any, split: Split) -> ImageClasses:
    """Take the classes of a split from what the three files hold."""
    names = entry(meta, "fine_label_names")
    known = sorted(name for members in SPLIT_CLASSES.values() for name in members)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("`fine_label_names` in `meta` must be a list of texts")
    if sorted(names) != known:
        raise ValueError("the file `meta` does not have the 100 classes of CIFAR-100")
    wanted = np.isin(names, SPLIT_CLASSES[split])
    images, labels = [], []
    for part in (train, test):
        pixels, fine = _read_part(part)
        chosen = wanted[fine]
        images.append(pixels[chosen])
        labels.append(np.asarray(names)[fine[chosen]])
    return ImageClasses.from_labels(np.concatenate(images), np.concatenate(labels))


def _read_part(part: Any) -> tuple[ImageArray, NDArray[np.int64]]:
    """Return images [N, 32, 32, 3] and fine labels [N] of the file `train` or `test`."""
    data = entry(part, "data")
    fine = integers(entry(part, "fine_labels"), "`fine_labels`")
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (3072,):
        raise ValueError(f"`data` must be uint8 [N, 3072], got {form_of(data)}")
    if len(fine) != len(data):
        raise ValueError(f"{len(data)} images need as many `fine_labels`, got {len(fine)}")
    if len(fine) and not 0 <= fine.min() <= fine.max() < 100:
        raise ValueError("`fine_labels` must be 0 … 99")
    return data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), fine


def _read_archive(path: Path) -> list[Any]:
    """Return what the three files in the archive hold; nothing is unpacked on disk."""
    found: dict[str, Any] = {}
    with open_file(path, "is damaged", _MOST_PACKED) as file:
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if _is_packed(file) else file
        for name, member in _members(Part(stream, _MOST_UNPACKED)):
            part = name.removeprefix("./").removeprefix(f"{_FOLDER}/")
            if part in _PARTS:
                if part in found:
                    raise ValueError(f"it has {part} twice")
                found[part] = read_pickle(member, f"{path}: {part}")
        if missing := [part for part in _PARTS if part not in found]:
            raise ValueError(f"it lacks {', '.join(missing)}")
    return [found[part] for part in _PARTS]


def _is_packed(file: BinaryIO) -> bool:
    start = file.read(2)
    file.seek(0)
    return start == b"\x1f\x8b"


def _members(stream: Part) -> Iterator[tuple[str, Part]]:
    """Yield name and content of each file in a tar archive.

    `tarfile` follows headers that say more than the next member's name, with work that the size of
    the archive does not bound; the files that are looked for have none.
    """
    while (header := stream.read(_BLOCK)).strip(b"\0"):
        if sum(header) - sum(header[148:156]) + 8 * 32 != _octal(header[148:156]):
            raise ValueError("the head of a member is wrong")
        size = _octal(header[124:136])
        rest = stream.left - size - -size % _BLOCK
        if header[156:157] in (b"0", b"\0"):
            name, *_ = header[:100].split(b"\0")
            yield name.decode("utf-8", "replace"), Part(stream, size)
        stream.skip(stream.left - rest)
    while stream.read_most():  # to the end, where the checksum is
        pass


def _octal(field: bytes) -> int:
    """Return a number of a tar header."""
    digits = field.strip(b" \0")
    if not re.fullmatch(rb"[0-7]{0,12}", digits):
        raise ValueError("the head of a member is wrong")
    return int(digits or b"0", 8)
