"""Small files of images for the tests of sources, and what all sources have in common."""

import io
import os
import pickle
import tarfile
import zipfile

import numpy as np
from PIL import Image

from plastic_envs.images import SPLITS
from plastic_envs.images.sources.cifar100 import SPLIT_CLASSES

SMALL1 = ("Balinese", "Early_Aramaic", "Greek", "Korean", "Latin")
SMALL2 = ("Greek", "Japanese_(katakana)", "Latin", "Sanskrit", "Tagalog")


def splits(source):
    """All splits of a source, once seen that no class is in two of them."""
    loaded = {split: source.load(split) for split in SPLITS}
    names = [name for classes in loaded.values() for name in classes.names]
    assert len(set(names)) == len(names)
    return loaded


def write_image(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


def drawing(column, row=0):
    """A 105×105 drawing as it is published: black ink (a square of 15 pixels) on white, 1 bit."""
    pixels = np.full((105, 105), 255, np.uint8)
    pixels[15 * row : 15 * row + 15, 15 * column : 15 * column + 15] = 0
    content = io.BytesIO()
    Image.fromarray(pixels).convert("1").save(content, "PNG")
    return content.getvalue()


def omniglot_archive(path, alphabets, characters=2, drawings=2):
    """Write an archive as Omniglot's authors do, with a few things that others add."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{path.stem}/", b"")
        archive.writestr("__MACOSX/._x.png", b"damaged")
        for alphabet in alphabets:
            for c in range(1, characters + 1):
                place = f"{path.stem}/{alphabet}/character{c:02}"
                archive.writestr(f"{place}/._x.png", b"damaged")
                for d in range(1, drawings + 1):
                    archive.writestr(f"{place}/0001_{d:02}.png", drawing(c))
    return path


def labelled(num_classes=10, shape=(5, 6)):
    labels = np.tile(np.arange(num_classes), 3)
    images = np.zeros((len(labels), *shape), np.uint8)
    images.reshape(len(labels), -1)[:] = labels[:, None]
    return images, labels


def class_folders(root, classes=range(5), channels=(), side=(6, 8)):
    for c in classes:
        for i in range(2):
            write_image(root / f"class {c}" / f"{i}.png", np.full((*side, *channels), 10 * c + i))
    (root / "class 0" if 0 in classes else root).joinpath("notes.txt").write_text("hello")


def cifar100(folder, per_class=(2, 1)):
    """Write CIFAR-100 as its authors do (protocol 2, keys of bytes): red is the fine label."""
    folder.mkdir(exist_ok=True)
    names = sorted(name for members in SPLIT_CLASSES.values() for name in members)
    for part, count in zip(("train", "test"), per_class, strict=True):
        labels = np.tile(np.arange(100), count)
        data = np.zeros((len(labels), 3, 32, 32), np.uint8)
        data[:, 0] = labels[:, None, None]
        data[:, 2, 0, 31] = 255
        content = {b"data": data.reshape(-1, 3072), b"fine_labels": labels.tolist()}
        (folder / part).write_bytes(pickle.dumps(content, 2))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": names}, 2))
    return names


class Malicious:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def tar_of_cifar100(tmp_path, per_class=(1, 1)):
    cifar100(tmp_path / "cifar-100-python", per_class)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.add(tmp_path / "cifar-100-python", "cifar-100-python")
    return content.getvalue()
