"""Photographs that are used for few-shot classification: CIFAR-FS and mini-ImageNet."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plastic_envs.images.base import ImageClasses, Split, check_split
from plastic_envs.images.cache import cached, file_stamp, fingerprint
from plastic_envs.images.cifar100 import find_cifar100, read_cifar100
from plastic_envs.images.files import FileSource
from plastic_envs.images.pickles import entry, load_pickle

_VERSION = 1  # raise it with every change to the images
_SHORT: dict[Split, str] = {"train": "train", "validation": "val", "test": "test"}

_CIFAR_FS = (
    "the folder with CIFAR_FS_train.pickle, CIFAR_FS_val.pickle and CIFAR_FS_test.pickle "
    "(github.com/kjunelee/MetaOptNet tells where they are), or with CIFAR-100 in its Python "
    "version, as cifar-100-python.tar.gz or the folder cifar-100-python (www.cs.toronto.edu/~kriz)"
)
_MINI_IMAGENET = (
    "the folder with mini-imagenet-cache-train.pkl, -val.pkl and -test.pkl "
    "(github.com/renmengye/few-shot-ssl-public tells where they are), or with "
    "miniImageNet_category_split_train_phase_train.pickle, …_split_val.pickle and "
    "…_split_test.pickle (github.com/kjunelee/MetaOptNet tells where)"
)


@dataclass(frozen=True)
class CIFARFS(FileSource):
    """CIFAR-FS: the classes of CIFAR-100, split 64 / 16 / 20; 600 images of each, 32×32×3.

    Split: Bertinetto, Henriques, Torr and Vedaldi, 2019, "Meta-learning with differentiable
    closed-form solvers" (arXiv 1805.08136). Images: Krizhevsky, 2009.

    Attributes:
        root: Folder with MetaOptNet's pickles, or with CIFAR-100 (`cifar-100-python.tar.gz` or
            `cifar-100-python`), whose images are then split. Pickles are read as data, nothing in
            them is run (`pickles`).
    """

    def load(self, split: Split) -> ImageClasses:
        """Read the classes of a split."""
        check_split(split)
        root = self.find(_CIFAR_FS)
        if found := _find(root, [f"CIFAR_FS_{_SHORT[split]}.pickle"]):
            return _load("cifar-fs", split, found)
        files = find_cifar100(root)
        if files is None:
            raise FileNotFoundError(
                f"{root.absolute()} has nothing of CIFAR-FS for {split!r}; root must be {_CIFAR_FS}"
            )
        state = fingerprint(_VERSION, [file_stamp(file) for file in files])
        return cached(f"cifar-fs-{split}-{state}", lambda: read_cifar100(files, split))


@dataclass(frozen=True)
class MiniImageNet(FileSource):
    """mini-ImageNet: 100 classes of ImageNet, split 64 / 16 / 20; 600 images of each, 84×84×3.

    Images: Vinyals, Blundell, Lillicrap, Kavukcuoglu and Wierstra, 2016, "Matching networks for one
    shot learning" (arXiv 1606.04080). Split: Ravi and Larochelle, 2017, "Optimization as a model
    for few-shot learning".

    Attributes:
        root: Folder with the three files `mini-imagenet-cache-….pkl`, or with MetaOptNet's pickles,
            of which `…_train_phase_train` is for training. Pickles are read as data, nothing in
            them is run (`pickles`).
    """

    def load(self, split: Split) -> ImageClasses:
        """Read the classes of a split."""
        check_split(split)
        root = self.find(_MINI_IMAGENET)
        phase = "train_phase_train" if split == "train" else _SHORT[split]
        found = _find(
            root,
            [
                f"mini-imagenet-cache-{_SHORT[split]}.pkl",
                f"miniImageNet_category_split_{phase}.pickle",
            ],
        )
        if found is None:
            raise FileNotFoundError(
                f"{root.absolute()} has nothing of mini-ImageNet for {split!r}; root must be "
                f"{_MINI_IMAGENET}"
            )
        return _load("mini-imagenet", split, found)


def _find(root: Path, names: list[str]) -> Path | None:
    paths = [root / name for name in names]
    return next((path for path in paths if path.is_file()), None)


def _load(name: str, split: Split, path: Path) -> ImageClasses:
    state = fingerprint(_VERSION, file_stamp(path))
    return cached(f"{name}-{split}-{state}", lambda: _read(path))


def _read(path: Path) -> ImageClasses:
    """Read a pickle of either form: images with labels, or images with the places of each class."""
    content = load_pickle(path)
    images = entry(content, "data", "image_data", where=path)
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[3:] != (3,):
        raise ValueError(f"{path}: images must be uint8 [N, height, width, 3], got {_form(images)}")
    named = entry(content, "labels", "class_dict", where=path)
    labels = _spread(named, len(images), path) if isinstance(named, Mapping) else np.asarray(named)
    if labels.shape != (len(images),) or labels.dtype.kind not in "iuU" or not len(labels):
        raise ValueError(f"{path}: {len(images)} images need as many labels, got {_form(labels)}")
    return ImageClasses.from_labels(np.asarray(images), labels)


def _spread(places: Mapping[Any, Any], total: int, path: Path) -> NDArray[Any]:
    """Return the class of each image, given the indices of the images of each class."""
    names = [name.decode("latin1") if isinstance(name, bytes) else str(name) for name in places]
    owners = np.full(total, -1)
    for owner, (name, indices) in enumerate(zip(names, places.values(), strict=True)):
        chosen = np.asarray(indices)
        if chosen.ndim != 1 or chosen.dtype.kind not in "iu" or not chosen.size:
            raise ValueError(f"{path}: the class {name!r} must be a list of indices")
        if chosen.min() < 0 or chosen.max() >= total or (owners[chosen] >= 0).any():
            raise ValueError(f"{path}: {name!r} has images that are not there, or of another class")
        owners[chosen] = owner
    if (owners < 0).any():
        raise ValueError(f"{path}: the image {int(np.argmin(owners))} is of no class")
    return np.asarray(np.asarray(names)[owners])


def _form(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return type(value).__name__
