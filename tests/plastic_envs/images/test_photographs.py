"""CIFAR-FS and mini-ImageNet, from files of their forms."""

import pickle
import tarfile

import numpy as np
import pytest

from plastic_envs.images import CIFARFS, SPLITS, MiniImageNet
from plastic_envs.images.sources.cifar100 import SPLIT_CLASSES
from tests.plastic_envs.image_files import Malicious, cifar100, splits

pytestmark = pytest.mark.usefixtures("cache")


def photographs(num_classes=3, per_class=2, side=4, first=0):
    labels = np.repeat(np.arange(first, first + num_classes), per_class)
    images = np.zeros((len(labels), side, side, 3), np.uint8)
    images[:] = labels[:, None, None, None]
    return images[::-1].copy(), labels[::-1].tolist()


def metaoptnet(images, labels, protocol=2):
    return pickle.dumps({"data": images, "labels": labels}, protocol)


FORMS = {
    "CIFAR-FS": (CIFARFS, "CIFAR_FS_{}.pickle", ("train", "val", "test")),
    "mini-ImageNet": (
        MiniImageNet,
        "miniImageNet_category_split_{}.pickle",
        ("train_phase_train", "val", "test"),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_metaoptnets_pickles(root, form):
    source, pattern, parts = FORMS[form]
    for i, part in enumerate(parts):
        images, labels = photographs(first=3 * i)
        (root / pattern.format(part)).write_bytes(metaoptnet(images, labels))
    loaded = splits(source(root))
    assert [classes.names for classes in loaded.values()] == [
        ("0", "1", "2"),
        ("3", "4", "5"),
        ("6", "7", "8"),
    ]
    for i, classes in enumerate(loaded.values()):
        assert isinstance(classes.images, np.memmap)
        assert (
            classes.images[:, 0, 0, 0].tolist()
            == np.repeat([3 * i, 3 * i + 1, 3 * i + 2], 2).tolist()
        )


@pytest.mark.parametrize("keys", [str, str.encode])
def test_mini_imagenet_cache_pickles(root, keys):
    for i, part in enumerate(("train", "val", "test")):
        images, labels = photographs(first=3 * i)
        places = {keys(f"n{c}"): np.flatnonzero(np.equal(labels, c)).tolist() for c in set(labels)}
        content = pickle.dumps({keys("image_data"): images, keys("class_dict"): places})
        (root / f"mini-imagenet-cache-{part}.pkl").write_bytes(content)
    loaded = splits(MiniImageNet(root))
    assert loaded["validation"].names == ("n3", "n4", "n5")
    assert loaded["validation"].images[:, 1, 1, 1].tolist() == [3, 3, 4, 4, 5, 5]


def mini(images, places):
    return pickle.dumps({"image_data": images, "class_dict": places})


IMAGES = np.zeros((2, 4, 4, 3), np.uint8)
WRONG = {
    "float images": (metaoptnet(IMAGES / 255, [0, 1]), "must be uint8"),
    "flat images": (metaoptnet(IMAGES.reshape(2, -1), [0, 1]), r"got uint8 \[2, 48\]"),
    "list of images": (metaoptnet([1, 2], [0, 1]), "got a list"),
    "too few labels": (metaoptnet(IMAGES, [0]), "as many labels"),
    "labels of other kinds": (metaoptnet(IMAGES, [0.5, 1.5]), "list of integers"),
    "no labels": (pickle.dumps({"data": IMAGES}), "must have 'labels' or 'class_dict'"),
    "other": (pickle.dumps([1]), "holds a list"),
    "an image twice": (mini(IMAGES, {"a": [0], "b": [0, 1]}), "another class"),
    "an image too many": (mini(IMAGES, {"a": [0], "b": [1, 2]}), "not there"),
    "an image too few": (mini(IMAGES, {"a": [0]}), "image 1 is of no class"),
    "no indices": (mini(IMAGES, {"a": [0, 1], "b": []}), "must have images"),
    "empty": (metaoptnet(IMAGES[:0], []), "as many labels"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_pickles_of_another_form_are_refused(root, kind):
    content, message = WRONG[kind]
    (root / "mini-imagenet-cache-val.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        MiniImageNet(root).load("validation")
    assert "mini-imagenet-cache-val.pkl" in str(caught.value)


def test_malicious_photographs_do_not_run(root, tmp_path):
    content = pickle.dumps({"data": Malicious(tmp_path / "ran"), "labels": []})
    (root / "CIFAR_FS_test.pickle").write_bytes(content)
    with pytest.raises(ValueError, match=r"CIFAR_FS_test\.pickle is refused: it asks for .*system"):
        CIFARFS(root).load("test")
    assert not (tmp_path / "ran").exists()


def test_cifar_fs_split_of_cifar100():
    assert [len(SPLIT_CLASSES[split]) for split in SPLITS] == [64, 16, 20]
    assert len({name for members in SPLIT_CLASSES.values() for name in members}) == 100


def check_cifar_fs(source, names):
    loaded = splits(source)
    for split, classes in loaded.items():
        assert classes.names == tuple(sorted(SPLIT_CLASSES[split]))
        assert classes.image_shape == (32, 32, 3)
        assert set(classes.counts) == {3}
        reds = classes.images[classes.offsets[:-1], 5, 5, 0]
        assert [names[red] for red in reds] == list(classes.names)
        assert (classes.images[:, 0, 31, 2] == 255).all()
        assert classes.images[:, 1:, :, 2].max() == 0


def test_cifar_fs_from_a_folder_of_cifar100(root):
    names = cifar100(root / "cifar-100-python")
    check_cifar_fs(CIFARFS(root), names)
    check_cifar_fs(CIFARFS(root / "cifar-100-python"), names)


def test_cifar_fs_from_the_archive_of_cifar100(root, tmp_path):
    names = cifar100(tmp_path / "cifar-100-python")
    path = root / "cifar-100-python.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(tmp_path / "cifar-100-python", "cifar-100-python")
    check_cifar_fs(CIFARFS(root), names)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"cifar-100-python\.tar\.gz.* damaged"):
        CIFARFS(root).load("test")
    with tarfile.open(path, "w:gz") as archive:
        archive.add(tmp_path / "cifar-100-python" / "meta", "cifar-100-python/meta")
    with pytest.raises(ValueError, match="lacks train, test"):
        CIFARFS(root).load("test")


def test_cifar_fs_needs_the_classes_of_cifar100(root):
    folder = root / "cifar-100-python"
    names = cifar100(folder)
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [*names[1:], "dragon"]}))
    with pytest.raises(ValueError, match="does not have the 100 classes"):
        CIFARFS(root).load("train")
