"""Sources of images: what they read, how it is split and shared, and what they refuse."""

import copy
import io
import os
import pickle
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from plastic_envs.images import (
    CIFARFS,
    SOURCES,
    SPLITS,
    ArrayFile,
    Arrays,
    Folders,
    Glyphs,
    ImageSource,
    MiniImageNet,
    Omniglot,
    load_images,
    make_source,
)
from plastic_envs.images.arrays import split_classes
from plastic_envs.images.cifar100 import SPLIT_CLASSES

OMNIGLOT = Path(__file__).parents[3] / "shared" / "data" / "omniglot"
READERS = (Omniglot, CIFARFS, MiniImageNet, ArrayFile, Folders)

needs_omniglot = pytest.mark.skipif(
    not (OMNIGLOT / "images_background_small1.zip").is_file(),
    reason=f"Omniglot is not in {OMNIGLOT}",
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache of its own for each test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("PLASTIC_ENVS_CACHE", str(folder))
    return folder


@pytest.fixture
def root(tmp_path):
    """A folder for the files of a source."""
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def splits(source):
    """All splits of a source, once seen that no class is in two of them."""
    loaded = {split: source.load(split) for split in SPLITS}
    names = [name for classes in loaded.values() for name in classes.names]
    assert len(set(names)) == len(names)
    return loaded


def write_image(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


# Omniglot


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


SMALL1 = ("Balinese", "Early_Aramaic", "Greek", "Korean", "Latin")
SMALL2 = ("Greek", "Japanese_(katakana)", "Latin", "Sanskrit", "Tagalog")


@pytest.fixture
def small_omniglot(root):
    omniglot_archive(root / "images_background_small1.zip", SMALL1)
    omniglot_archive(root / "images_background_small2.zip", SMALL2)
    return root


def alphabets(classes):
    return {name.split("/")[0] for name in classes.names}


@needs_omniglot
def test_omniglot_itself():
    loaded = splits(Omniglot(OMNIGLOT))
    assert [classes.num_classes for classes in loaded.values()] == [4 * 137, 39, 66]
    found = {split: alphabets(classes) for split, classes in loaded.items()}
    assert found == {
        "train": {"Greek", "Japanese_(katakana)", "Korean", "Latin"},
        "validation": {"Early_Aramaic", "Tagalog"},
        "test": {"Balinese", "Sanskrit"},
    }
    for classes in loaded.values():
        assert classes.image_shape == (28, 28, 1)
        assert set(classes.counts) == {20}
        ink = classes.images[:, :, :, 0] > 127
        assert 0.01 < ink.mean() < 0.2
        assert ink.any(axis=(1, 2)).mean() > 0.99  # some are drawn with the thinnest of strokes
        assert classes.images.max() == 255
        assert (classes.images[:, 0, 0] == 0).mean() > 0.95


@needs_omniglot
def test_omniglot_classes_are_the_drawings_of_one_character():
    """The mean of ten drawings of a character tells its other drawings, well above 1 in 66."""
    test = Omniglot(OMNIGLOT, size=10).load("test")
    images = test.images.reshape(test.num_classes, 20, -1).astype(float)
    means = images[:, :10].mean(1)
    distances = ((images[:, 10:, None] - means) ** 2).sum(-1)
    right = distances.argmin(-1) == np.arange(test.num_classes)[:, None]
    assert right.mean() > 0.15


def test_omniglot_drawings_are_inverted_and_resized(small_omniglot):
    train = Omniglot(small_omniglot, size=7, rotations=False).load("train")
    expected = np.zeros((7, 7))
    expected[0, 1] = 255
    assert train.names[0] == "Greek/character01"
    np.testing.assert_array_equal(train.images[0, :, :, 0], expected)


def test_omniglot_rotates_training_classes_only(small_omniglot):
    turned, plain = Omniglot(small_omniglot), Omniglot(small_omniglot, rotations=False)
    images = turned.load("train")
    assert images.num_classes == 4 * plain.load("train").num_classes
    for turns, suffix in enumerate(("", "/90", "/180", "/270")):
        c = images.names.index(f"Latin/character02{suffix}")
        np.testing.assert_array_equal(
            images.images[images.offsets[c]],
            np.rot90(images.images[images.offsets[images.names.index("Latin/character02")]], turns),
        )
    for split in ("validation", "test"):
        np.testing.assert_array_equal(turned.load(split).images, plain.load(split).images)


@pytest.mark.parametrize("number", [1, 2])
def test_either_small_omniglot_has_all_splits(small_omniglot, number):
    (small_omniglot / f"images_background_small{number}.zip").unlink()
    both = {"train": 3, "validation": 1, "test": 1}
    loaded = splits(Omniglot(small_omniglot))
    assert {split: len(alphabets(classes)) for split, classes in loaded.items()} == both


def test_full_omniglot_tests_on_the_evaluation_set(small_omniglot):
    background = ("Armenian", "Balinese", "Early_Aramaic", "Futurama", "Latin")
    omniglot_archive(small_omniglot / "images_background.zip", background)
    with pytest.raises(
        FileNotFoundError, match=r"has no images_evaluation\.zip for the split 'test'"
    ):
        Omniglot(small_omniglot).load("test")
    omniglot_archive(small_omniglot / "images_evaluation.zip", ("Angelic", "Tibetan"))
    found = {split: alphabets(c) for split, c in splits(Omniglot(small_omniglot)).items()}
    assert found == {
        "train": {"Balinese", "Futurama", "Latin"},
        "validation": {"Armenian", "Early_Aramaic"},
        "test": {"Angelic", "Tibetan"},
    }


def test_unpacked_omniglot_is_the_same(small_omniglot, root):
    packed = Omniglot(small_omniglot).load("train")
    for path in sorted(root.glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(root)
        path.unlink()
    unpacked = Omniglot(root).load("train")
    assert unpacked.names == packed.names
    np.testing.assert_array_equal(unpacked.images, packed.images)
    assert unpacked.images is not packed.images


def test_omniglot_refuses_what_is_not_whole(root):
    path = omniglot_archive(root / "images_background_small1.zip", SMALL1)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"small1\.zip is damaged"):
        Omniglot(root).load("train")
    path.write_bytes(content.replace(drawing(1)[40:60], bytes(20)))
    with pytest.raises(ValueError, match=r"small1\.zip"):
        Omniglot(root).load("train")
    omniglot_archive(path, ("Balinese",))
    with pytest.raises(ValueError, match="no drawings for the split 'train'"):
        Omniglot(root).load("train")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("images_background_small1/Balinese/character01/0001_03.png", drawing(1))
    with pytest.raises(ValueError, match=r"Balinese/character02 has only 2 drawings"):
        Omniglot(root).load("test")
    with zipfile.ZipFile(path, "w") as archive:
        small = io.BytesIO()
        Image.new("1", (28, 28)).save(small, "PNG")
        archive.writestr("images_background_small1/Latin/character01/1_1.png", small.getvalue())
    with pytest.raises(ValueError, match=r"1_1\.png has the size \(28, 28\)"):
        Omniglot(root).load("train")


@pytest.mark.parametrize(
    "arguments", [{"size": 0}, {"size": 2.5}, {"size": True}, {"rotations": 1}]
)
def test_omniglot_checks_its_arguments(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Omniglot("x", **arguments)


# The cache


def test_images_are_read_once_and_mapped(small_omniglot, cache, monkeypatch):
    first = Omniglot(small_omniglot).load("test")
    monkeypatch.setattr("plastic_envs.images.omniglot._read_characters", None)
    again = Omniglot(small_omniglot).load("test")
    assert isinstance(again.images, np.memmap)
    assert not again.images.flags.writeable
    np.testing.assert_array_equal(first.images, again.images)
    assert len(list(cache.glob("omniglot-test-*.npy"))) == 1


def test_a_damaged_entry_is_made_anew(small_omniglot, cache):
    expected = np.array(Omniglot(small_omniglot).load("test").images)
    (entry,) = cache.glob("*.npy")
    content = bytearray(entry.read_bytes())
    content[-1] ^= 1
    entry.write_bytes(content)
    np.testing.assert_array_equal(Omniglot(small_omniglot).load("test").images, expected)


def test_a_changed_file_is_read_anew(small_omniglot, cache):
    assert Omniglot(small_omniglot).load("test").num_classes == 4
    omniglot_archive(small_omniglot / "images_background_small1.zip", SMALL1, characters=3)
    assert Omniglot(small_omniglot).load("test").num_classes == 5
    assert len(list(cache.glob("*.npy"))) == 2


def test_a_changed_image_in_a_folder_is_read_anew(root):
    class_folders(root)
    before = Folders(root).load("train")
    path = root / "class 0" / "0.png"
    path = next(root.glob(f"{before.names[0]}/0.png"))
    write_image(path, np.full((6, 8), 77))
    assert (Folders(root).load("train").images[0] == 77).all()
    assert not (before.images[0] == 77).all()


# Photographs


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
    "list of images": (metaoptnet([1, 2], [0, 1]), "got list"),
    "too few labels": (metaoptnet(IMAGES, [0]), "as many labels"),
    "labels of other kinds": (metaoptnet(IMAGES, [0.5, 1.5]), "as many labels"),
    "no labels": (pickle.dumps({"data": IMAGES}), "must have 'labels' or 'class_dict'"),
    "other": (pickle.dumps([1]), "holds a list"),
    "an image twice": (mini(IMAGES, {"a": [0], "b": [0, 1]}), "another class"),
    "an image too many": (mini(IMAGES, {"a": [0], "b": [1, 2]}), "not there"),
    "an image too few": (mini(IMAGES, {"a": [0]}), "image 1 is of no class"),
    "no indices": (mini(IMAGES, {"a": [0, 1], "b": []}), "list of indices"),
    "empty": (metaoptnet(IMAGES[:0], []), "as many labels"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_pickles_of_another_form_are_refused(root, kind):
    content, message = WRONG[kind]
    (root / "mini-imagenet-cache-val.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        MiniImageNet(root).load("validation")
    assert "mini-imagenet-cache-val.pkl" in str(caught.value)


class Malicious:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def test_malicious_photographs_do_not_run(root, tmp_path):
    content = pickle.dumps({"data": Malicious(tmp_path / "ran"), "labels": []})
    (root / "CIFAR_FS_test.pickle").write_bytes(content)
    with pytest.raises(ValueError, match=r"CIFAR_FS_test\.pickle is refused: it asks for .*system"):
        CIFARFS(root).load("test")
    assert not (tmp_path / "ran").exists()


def cifar100(folder, per_class=(2, 1)):
    """Write CIFAR-100 as its authors do (protocol 2, keys of bytes): red is the fine label."""
    folder.mkdir()
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


# Arrays


def labelled(num_classes=10, shape=(5, 6)):
    labels = np.tile(np.arange(num_classes), 3)
    images = np.zeros((len(labels), *shape), np.uint8)
    images.reshape(len(labels), -1)[:] = labels[:, None]
    return images, labels


@pytest.mark.parametrize("names", [int, str, "c{}".format])
@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1), (5, 6, 3)])
def test_arrays(names, shape):
    images, labels = labelled(shape=shape)
    texts = [names(label) for label in labels]
    loaded = splits(Arrays(images, texts))
    assert [classes.num_classes for classes in loaded.values()] == [6, 2, 2]
    for classes in loaded.values():
        assert classes.image_shape == (*shape, 1)[:3]
        values = classes.images[classes.offsets[:-1], 0, 0, 0]
        assert [str(names(value)) for value in values] == list(classes.names)
    assert {n for c in loaded.values() for n in c.names} == {str(text) for text in texts}


def test_arrays_with_given_classes():
    images, labels = labelled()
    source = Arrays(images, labels, {"train": [9, 1], "test": [4]})
    assert source.load("train").names == ("1", "9")
    assert source.load("test").images[:, 0, 0, 0].tolist() == [4, 4, 4]
    with pytest.raises(ValueError, match="classes names none for the split 'validation'"):
        source.load("validation")


def test_arrays_keep_labels_of_objects():
    images, _ = labelled(3)
    assert Arrays(images, np.array(["a", "b", "c"] * 3, object)).labels.dtype.kind == "U"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"images": np.zeros((9, 5, 6))}, "uint8"),
        ({"images": np.zeros((9, 5), np.uint8)}, r"\[9, 5\]"),
        ({"labels": np.arange(8)}, "9 images and 8 labels"),
        ({"labels": np.arange(9.0)}, "integers or texts"),
        ({"labels": np.zeros((9, 1), int)}, "integers or texts"),
        ({"images": np.zeros((0, 5, 6), np.uint8), "labels": np.zeros(0, int)}, "0 images"),
        ({"classes": {"train": [1], "test": [1]}}, "'train' and in 'test'"),
        ({"classes": {"train": [7]}}, "no image is labelled so"),
        ({"classes": {"val": [1]}}, "split must be one of"),
    ],
)
def test_arrays_refuse_what_does_not_fit(changed, message):
    images, labels = labelled(3)
    with pytest.raises(ValueError, match=message):
        Arrays(**{"images": images, "labels": labels} | changed)


def test_arrays_need_three_classes():
    with pytest.raises(ValueError, match="at least 3 classes, got 2"):
        Arrays(*labelled(2)).load("train")


def test_arrays_are_equal_to_themselves_only():
    first, second = Arrays(*labelled()), Arrays(*labelled())
    assert first == first
    assert first != second
    assert len({first, second}) == 2
    assert copy.deepcopy({"source": first})["source"] is first
    assert copy.copy(first) is first
    assert "array" not in repr(first)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(first)).images, first.images)


def test_array_file(root):
    images, labels = labelled()
    np.savez_compressed(root / "images.npz", images=images, labels=labels)
    expected = Arrays(images, labels)
    for split, classes in splits(ArrayFile(root / "images.npz")).items():
        assert isinstance(classes.images, np.memmap)
        assert classes.names == expected.load(split).names
        np.testing.assert_array_equal(classes.images, expected.load(split).images)


def test_array_file_refuses_what_is_something_else(root):
    path = root / "images.npz"
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"images\.npz must be an \.npz file"):
        ArrayFile(path).load("train")
    np.savez(path, images=labelled()[0])
    with pytest.raises(ValueError, match="labels"):
        ArrayFile(path).load("train")
    np.savez(path, images=labelled()[0], labels=np.array([Malicious(root / "ran")] * 30))
    with pytest.raises(ValueError, match=r"images\.npz"):
        ArrayFile(path).load("train")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"images\.npz"):
        ArrayFile(path).load("train")
    with path.open("wb") as file:
        np.save(file, labelled()[0])
    with pytest.raises(ValueError, match=r"images\.npz"):
        ArrayFile(path).load("train")
    with pytest.raises(ValueError, match="not a file"):
        ArrayFile(root).load("train")
    assert not (root / "ran").exists()


@pytest.mark.parametrize(
    ("total", "counts"), [(3, (1, 1, 1)), (4, (2, 1, 1)), (10, (6, 2, 2)), (100, (64, 16, 20))]
)
def test_classes_are_split_in_one_way(total, counts):
    names = [f"class {i}" for i in range(total)]
    split = split_classes(names)
    assert tuple(len(split[part]) for part in SPLITS) == counts
    assert sorted(name for part in SPLITS for name in split[part]) == sorted(names)
    assert split_classes(reversed(names)) == split


def test_the_split_of_classes_never_changes():
    assert split_classes("abcdefgh") == {
        "train": ("b", "c", "d", "e", "f"),
        "validation": ("h",),
        "test": ("a", "g"),
    }


# Folders


def class_folders(root, classes=range(5), channels=(), side=(6, 8)):
    for c in classes:
        for i in range(2):
            write_image(root / f"class {c}" / f"{i}.png", np.full((*side, *channels), 10 * c + i))
    (root / "class 0" if 0 in classes else root).joinpath("notes.txt").write_text("hello")


def test_folders(root):
    class_folders(root)
    (root / ".hidden").mkdir()
    (root / "empty").mkdir()
    loaded = splits(Folders(root))
    assert [classes.num_classes for classes in loaded.values()] == [3, 1, 1]
    for classes in loaded.values():
        assert classes.image_shape == (6, 8, 1)
        numbers = [10 * int(name.split()[1]) + i for name in classes.names for i in range(2)]
        assert classes.images[:, 3, 3, 0].tolist() == numbers


@pytest.mark.parametrize("validation", ["validation", "val"])
def test_folders_that_are_split(root, validation):
    for i, split in enumerate(("train", validation, "test")):
        class_folders(root / split, range(3 * i, 3 * i + 2), (3,))
    loaded = splits(Folders(root))
    assert [classes.names for classes in loaded.values()] == [
        ("class 0", "class 1"),
        ("class 3", "class 4"),
        ("class 6", "class 7"),
    ]
    assert loaded["test"].image_shape == (6, 8, 3)
    shutil.rmtree(root / validation)
    with pytest.raises(FileNotFoundError, match="but none `validation`"):
        Folders(root).load("train")


def test_folders_refuse_a_class_in_two_splits(root):
    for split in ("train", "validation", "test"):
        class_folders(root / split, range(2))
    with pytest.raises(ValueError, match="'class 0' is in train and in validation"):
        Folders(root).load("train")


def test_one_colour_image_makes_all_of_them_colour(root):
    class_folders(root)
    write_image(root / "class 4" / "0.jpeg", np.zeros((6, 8, 3)))
    assert {classes.image_shape for classes in splits(Folders(root)).values()} == {(6, 8, 3)}


def test_images_of_other_kinds(root):
    class_folders(root, range(3))
    grey = Image.fromarray(np.full((6, 8), 200, np.uint8))
    for name, mode in (("a.BMP", "L"), ("b.gif", "L"), ("c.jpg", "L"), ("d.png", "1")):
        grey.convert(mode).save(root / "class 0" / name)
    grey.convert("LA").save(root / "class 0" / "e.png")
    grey.save(root / "class 0" / "f.webp", lossless=True)
    clear = Image.fromarray(np.full((6, 8), 1, np.uint8), "P")
    clear.putpalette([0, 0, 0, 9, 9, 9])
    clear.save(root / "class 0" / "g.png", transparency=b"\x80\x40")
    images = {}
    for classes in splits(Folders(root)).values():
        for c, name in enumerate(classes.names):
            images[name] = classes.images[classes.offsets[c] : classes.offsets[c + 1]]
    assert [image[0, 0, 0] for image in images["class 0"][2:]] == [200, 200, 200, 255, 200, 200, 9]


def test_images_of_different_sizes_need_a_size(root):
    class_folders(root)
    write_image(root / "class 1" / "0.png", np.full((40, 20), 10))
    with pytest.raises(ValueError, match=r"0\.png is \(40, 20\) pixels .* give size="):
        Folders(root).load("train")
    for classes in splits(Folders(root, size=4)).values():
        assert classes.image_shape == (4, 4, 1)
        numbers = [10 * int(name.split()[1]) + i for name in classes.names for i in range(2)]
        assert classes.images[:, 2, 2, 0].tolist() == numbers


def test_photographs_are_turned_upright(root):
    class_folders(root, side=(8, 6))
    photograph = Image.new("L", (8, 6))
    exif = photograph.getexif()
    exif[0x0112] = 6
    photograph.save(root / "class 0" / "0.jpg", exif=exif)
    assert Folders(root).load("train").image_shape == (8, 6, 1)


def test_a_damaged_image_is_named(root):
    class_folders(root)
    path = root / "class 2" / "1.png"
    content = path.read_bytes()
    for damaged in (content[:-30], b"", b"hello", content[:40] + b"xxxx" + content[44:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"class 2.1\.png cannot be read as an image"):
            splits(Folders(root))
    Image.fromarray(np.zeros((6, 8), np.uint16)).save(path)
    with pytest.raises(ValueError, match="not 8 bits a channel"):
        splits(Folders(root))


def test_folders_without_images(root):
    with pytest.raises(FileNotFoundError, match="no class folders"):
        Folders(root).load("train")
    class_folders(root, range(2))
    with pytest.raises(ValueError, match="at least 3 classes"):
        Folders(root).load("train")
    with pytest.raises(ValueError, match="not a folder"):
        Folders(root / "class 0" / "0.png").load("train")
    with pytest.raises(ValueError, match="size must be a positive integer"):
        Folders(root, size=-1)


# All of them


@pytest.mark.parametrize("source", READERS)
def test_missing_data_are_explained(source, root):
    with pytest.raises(ValueError, match=r"Give root=, .*(folder|file)"):
        source().load("train")
    with pytest.raises(FileNotFoundError, match=r"there is no /.*nowhere; root must be"):
        source(root / "nowhere").load("train")
    with pytest.raises(ValueError, match="root must be a path, got 3"):
        source(3)
    with pytest.raises(ValueError, match="root must be a path, got ''"):
        source("")


@pytest.mark.parametrize("source", [Omniglot, CIFARFS, MiniImageNet])
@pytest.mark.parametrize("split", SPLITS)
def test_an_empty_folder_is_explained(source, split, root):
    with pytest.raises(FileNotFoundError, match=r"has nothing of .*root must be .*github\.com/"):
        source(root).load(split)


@pytest.mark.parametrize("source", [*READERS, lambda _: Glyphs(), lambda _: Arrays(*labelled())])
def test_splits_have_three_names(source):
    with pytest.raises(ValueError, match=r"split must be one of .*got 'val'"):
        source("x").load("val")


def test_the_users_home(root, monkeypatch):
    class_folders(root / "images")
    monkeypatch.setenv("HOME", str(root))
    assert Folders("~/images").load("test").num_classes == 1


@pytest.mark.parametrize("source", READERS)
def test_equal_sources(source):
    assert source("a") == source(Path("a"))
    assert hash(source("a")) == hash(source(Path("a")))
    assert source("a") != source("b")
    assert copy.deepcopy(source("a")) == source("a")
    assert pickle.loads(pickle.dumps(source("a"))) == source("a")
    assert Omniglot("a") != Omniglot("a", rotations=False)
    assert ArrayFile("a") != MiniImageNet("a")


def test_make_source():
    assert set(SOURCES) == {"glyphs", "omniglot", "cifar-fs", "mini-imagenet", "arrays", "folders"}
    assert make_source("glyphs", None) == Glyphs()
    for name in set(SOURCES) - {"glyphs"}:
        source = make_source(name, "x")
        assert isinstance(source, ImageSource)
        assert source == make_source(name, Path("x"))
        assert source.root == "x"
    own = Omniglot("x", size=20)
    assert make_source(own, None) is own


@pytest.mark.parametrize(
    ("source", "root", "message"),
    [
        ("glyphs", "x", "'glyphs' is drawn, not read; leave out root='x'"),
        ("cifar", None, "source must be one of .*'cifar-fs'.* got 'cifar'"),
        (None, None, "source must be one of"),
        (Omniglot, "x", "source must be one of"),
        (Omniglot("y"), "x", "root='x' is for sources by name"),
        ("omniglot", 3, "root must be a path"),
    ],
)
def test_make_source_refuses(source, root, message):
    with pytest.raises(ValueError, match=message):
        make_source(source, root)


def test_images_are_shared_within_a_process(small_omniglot):
    first = load_images(Omniglot(small_omniglot), "train")
    assert load_images(Omniglot(str(small_omniglot)), "train") is first
    assert load_images(Omniglot(small_omniglot), "test") is not first
    assert load_images(Omniglot(small_omniglot, size=14), "train") is not first
    arrays = Arrays(*labelled())
    assert load_images(copy.deepcopy(arrays), "train") is load_images(arrays, "train")
    assert load_images(Arrays(*labelled()), "train") is not load_images(arrays, "train")
