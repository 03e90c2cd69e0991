"""What is no file where one should be; and files of every kind, damaged at random."""

import gzip
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from plastic_envs.images import CIFARFS, ArrayFile, Folders, MiniImageNet, Omniglot
from tests.plastic_envs.image_files import (
    SMALL1,
    class_folders,
    labelled,
    omniglot_archive,
    tar_of_cifar100,
)
from tests.plastic_envs.images.hostile.bounds import bounded, refused

pytestmark = pytest.mark.usefixtures("cache")


def pipe(path):
    os.mkfifo(path)


def endless(path):
    path.symlink_to("/dev/zero")


def itself(path):
    path.symlink_to(path)


def nowhere(path):
    path.symlink_to(path.with_name("nowhere"))


def folder(path):
    path.mkdir()


def sparse(path):
    with path.open("wb") as file:
        file.truncate(2**40)


THINGS = [pipe, endless, itself, nowhere, folder, sparse]


@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize(
    ("source", "name", "others"),
    [
        (ArrayFile, "images.npz", None),
        (CIFARFS, "CIFAR_FS_train.pickle", None),
        (CIFARFS, "cifar-100-python.tar.gz", None),
        (CIFARFS, "train", lambda root: [(root / n).write_bytes(b"") for n in ("test", "meta")]),
        (MiniImageNet, "mini-imagenet-cache-train.pkl", None),
        (Omniglot, "images_background_small1.zip", None),
        (Omniglot, "images_background_small1/Latin/character01/0001_01.png", None),
        (Folders, "class 2/7.png", class_folders),
    ],
)
def test_what_is_no_file(root, thing, source, name, others):
    if others:
        others(root)
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    thing(path)
    place = path if source is ArrayFile else root
    limited = thing is sparse and source is not ArrayFile
    message = "1,099,511,627,776 bytes, more than the" if limited else None
    refused(lambda: source(place).load("train"), root, message)


def test_folders_may_lead_into_themselves(root):
    class_folders(root)
    (root / "loop").symlink_to(root)
    (root / "class 0" / "loop").symlink_to(root)
    with bounded():
        assert sum(Folders(root).load(split).num_classes for split in ("train", "test")) == 4


@pytest.mark.skipif(os.name == "nt", reason="names are text on Windows")
def test_folders_may_have_names_that_are_no_text(root):
    class_folders(root, range(3))
    (root / "class 0").rename(root / os.fsdecode(b"class \xff"))
    names = [
        name
        for split in ("train", "validation", "test")
        for name in Folders(root).load(split).names
    ]
    assert "class \udcff" in names


# All of them, damaged at random


def array_file(root, tmp_path):
    np.savez(root / "images.npz", images=labelled()[0], labels=labelled()[1])
    return root / "images.npz", ArrayFile(root / "images.npz")


def packed_array_file(root, tmp_path):
    np.savez_compressed(root / "images.npz", images=labelled()[0], labels=list("abcdefghij") * 3)
    return root / "images.npz", ArrayFile(root / "images.npz")


def mini_imagenet(root, tmp_path):
    path = root / "mini-imagenet-cache-train.pkl"
    content = {
        "image_data": np.zeros((4, 2, 2, 3), np.uint8),
        "class_dict": {"a": [0, 2], "b": [1, 3]},
    }
    path.write_bytes(pickle.dumps(content, 4))
    return path, MiniImageNet(root)


def cifar_archive(root, tmp_path):
    path = root / "cifar-100-python.tar.gz"
    path.write_bytes(gzip.compress(tar_of_cifar100(tmp_path)))
    return path, CIFARFS(root)


def cifar_tar(root, tmp_path):
    path = root / "cifar-100-python.tar.gz"
    path.write_bytes(tar_of_cifar100(tmp_path))
    return path, CIFARFS(root)


def omniglot(root, tmp_path):
    return omniglot_archive(root / "images_background_small1.zip", SMALL1), Omniglot(root)


def picture(suffix):
    def make(root, tmp_path):
        class_folders(root, range(3))
        gradient = Image.linear_gradient("L").resize((8, 6))
        for c in range(3):
            for i in range(2):
                (root / f"class {c}" / f"{i}.png").unlink()
                gradient.save(root / f"class {c}" / f"{i}.{suffix}")
        return root / "class 1" / f"1.{suffix}", Folders(root)

    return make


MADE = {
    "npz": array_file,
    "packed npz": packed_array_file,
    "pickle": mini_imagenet,
    "tar.gz": cifar_archive,
    "tar": cifar_tar,
    "omniglot": omniglot,
} | {suffix: picture(suffix) for suffix in ("png", "jpg", "gif", "bmp", "webp")}


def damaged(content, random):
    """Cut, overwrite, or write a hostile number into a file; its ends are hit most."""
    changed = bytearray(content)
    kind, place = random.integers(4), int(random.integers(len(content)))
    if random.random() < 0.5:
        near = int(random.integers(min(200, len(content))))
        place = near if random.random() < 0.5 else len(content) - 1 - near
    if kind == 0:
        return bytes(changed[:place])
    if kind == 1:
        changed[place] ^= 1 << int(random.integers(8))
    elif kind == 2:
        changed[place] = int(random.integers(256))
    else:
        value = random.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"])
        changed[place : place + 4] = value
    return bytes(changed)


@pytest.mark.parametrize("kind", MADE)
def test_files_damaged_at_random(root, tmp_path, kind, monkeypatch):
    path, source = MADE[kind](root, tmp_path)
    content = path.read_bytes()
    source.load("train")
    random = np.random.default_rng(sum(kind.encode()))
    outcomes = {"read": 0, "refused": 0}
    with bounded(seconds=60):
        for number in range(10 if kind == "bmp" else 50):  # bitmaps are allocated as they say
            path.write_bytes(damaged(content, random))
            os.utime(path, ns=(number, number))
            try:
                source.load("train")
                outcomes["read"] += 1
            except (ValueError, FileNotFoundError) as error:
                assert path.name in str(error)  # noqa: PT017 (reading it is right as well)
                assert len(str(error)) < 2_000  # noqa: PT017
                outcomes["refused"] += 1
    assert outcomes["refused"] > 1, outcomes
