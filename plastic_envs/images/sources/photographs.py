"""Photographs that are used for few-shot classification: CIFAR-FS and mini-ImageNet."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from plastic_envs.checks import shown
from plastic_envs.images.base import ImageClasses, Split, check_split, form_of
from plastic_envs.images.cache import cached, file_stamp, fingerprint
from plastic_envs.images.pickles import entry, integers, load_pickle
from plastic_envs.images.reading import reading
from plastic_envs.images.sources.cifar100 import find_cifar100, read_cifar100
from plastic_envs.images.sources.files import FileSource

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
    with reading(path, "is of another form"):
        images = entry(content, "data", "image_data")
        form = form_of(images)
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4:
            raise ValueError(f"images must be uint8 [N, height, width, 3], got {form}")
        if images.shape[3] != 3 or 0 in images.shape[1:]:
            raise ValueError(f"images must be uint8 [N, height, width, 3], got {form}")
        named = entry(content, "labels", "class_dict")
        labels: Any = _spread(named, len(images)) if isinstance(named, dict) else named
        if not _are_texts(labels):
            labels = integers(labels, "labels")
        if len(labels) != len(images) or not len(images):
            raise ValueError(f"{len(images)} images need as many labels, got {len(labels)}")
        return ImageClasses.from_labels(np.asarray(images), labels)


def _are_texts(labels: Any) -> bool:
    if isinstance(labels, np.ndarray):
        return labels.ndim == 1 and labels.dtype.kind == "U"
    return isinstance(labels, list) and all(isinstance(label, str) for label in labels)


def _spread(places: dict[Any, Any], total: int) -> list[str]:
    """Return the class of each image, given the indices of the images of each class."""
    names = [name.decode("latin1") if isinstance(name, bytes) else str(name) for name in places]
    if len(set(names)) < len(names):
        raise ValueError("two classes have one name")
    owners = np.full(total, -1)
    for owner, (name, indices) in enumerate(zip(names, places.values(), strict=True)):
        chosen = integers(indices, f"the class {shown(name)}")
        if not chosen.size:
            raise ValueError(f"the class {shown(name)} must have images")
        if chosen.min() < 0 or chosen.max() >= total or (owners[chosen] >= 0).any():
            raise ValueError(f"{shown(name)} has images that are not there, or of another class")
        owners[chosen] = owner
    if (owners < 0).any():
        raise ValueError(f"the image {int(np.argmin(owners))} is of no class")
    return [names[owner] for owner in owners]
