"""CIFAR-100 in its Python version, with the classes split as in CIFAR-FS."""

import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plastic_envs.images.base import ImageArray, ImageClasses, Split
from plastic_envs.images.pickles import entry, load_pickle, read_pickle

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
    *parts, meta = contents
    names = entry(meta, "fine_label_names", where=where)
    known = {name for members in SPLIT_CLASSES.values() for name in members}
    if not isinstance(names, list) or set(names) != known or len(names) != len(known):
        raise ValueError(f"{where}: the file `meta` does not have the 100 classes of CIFAR-100")
    wanted = np.isin(names, SPLIT_CLASSES[split])
    images, labels = [], []
    for part in parts:
        pixels, fine = _read_part(part, where)
        chosen = wanted[fine]
        images.append(pixels[chosen])
        labels.append(np.asarray(names)[fine[chosen]])
    return ImageClasses.from_labels(np.concatenate(images), np.concatenate(labels))


def _read_part(part: Any, where: Path) -> tuple[ImageArray, NDArray[np.int64]]:
    """Return images [N, 32, 32, 3] and fine labels [N] of the file `train` or `test`."""
    data = np.asarray(entry(part, "data", where=where))
    fine = np.asarray(entry(part, "fine_labels", where=where))
    if data.dtype != np.uint8 or data.shape[1:] != (3 * 32 * 32,):
        raise ValueError(
            f"{where}: `data` must be uint8 [N, 3072], got {data.dtype} {list(data.shape)}"
        )
    if fine.shape != data.shape[:1] or fine.dtype.kind not in "iu":
        raise ValueError(f"{where}: {len(data)} images need as many `fine_labels`")
    if len(fine) and not 0 <= fine.min() <= fine.max() < 100:
        raise ValueError(f"{where}: `fine_labels` must be 0 … 99")
    return data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), fine.astype(np.int64)


def _read_archive(path: Path) -> list[Any]:
    """Return what the three files in the archive hold; nothing is unpacked on disk."""
    try:
        with tarfile.open(path) as archive:
            found = {}
            for member in archive:
                part = member.name.removeprefix("./").removeprefix(f"{_FOLDER}/")
                file = archive.extractfile(member) if part in _PARTS else None
                if file is not None:
                    found[part] = read_pickle(file, f"{path}: {member.name}")
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    missing = [part for part in _PARTS if part not in found]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    return [found[part] for part in _PARTS]
