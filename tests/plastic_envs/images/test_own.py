"""Images of the user's own: arrays, array files, folders."""

import copy
import pickle
import shutil

import numpy as np
import pytest
from PIL import Image

from plastic_envs.images import SPLITS, ArrayFile, Arrays, Folders
from plastic_envs.images.sources.arrays import split_classes
from tests.plastic_envs.image_files import Malicious, class_folders, labelled, splits, write_image

pytestmark = pytest.mark.usefixtures("cache")


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
        ({"labels": np.arange(8)}, r"9 images \[5, 6, 1\] and 8 labels"),
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
    with pytest.raises(
        ValueError, match=r"0\.png is \(40, 20\) pixels .* give a size .*image_size=84"
    ):
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
    with pytest.raises(ValueError, match="size must be an integer of at least 1"):
        Folders(root, size=-1)
