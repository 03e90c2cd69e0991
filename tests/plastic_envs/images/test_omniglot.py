"""Omniglot, zipped and not, and the cache in which it is kept."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from plastic_envs.images import Folders, Omniglot
from tests.plastic_envs.image_files import (
    SMALL1,
    class_folders,
    drawing,
    omniglot_archive,
    splits,
    write_image,
)

pytestmark = pytest.mark.usefixtures("cache")


OMNIGLOT = Path(__file__).parents[4] / "shared" / "data" / "omniglot"

needs_omniglot = pytest.mark.skipif(
    not (OMNIGLOT / "images_background_small1.zip").is_file(),
    reason=f"Omniglot is not in {OMNIGLOT}",
)


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
    with pytest.raises(ValueError, match=r"'Balinese/character02' has only 2 drawings"):
        Omniglot(root).load("test")
    with zipfile.ZipFile(path, "w") as archive:
        small = io.BytesIO()
        Image.new("1", (28, 28)).save(small, "PNG")
        archive.writestr("images_background_small1/Latin/character01/1_1.png", small.getvalue())
    with pytest.raises(
        ValueError, match=r"1_1\.png cannot be read as an image: it has the size \(28, 28\)"
    ):
        Omniglot(root).load("train")


@pytest.mark.parametrize(
    "arguments", [{"size": 0}, {"size": 2.5}, {"size": True}, {"rotations": 1}]
)
def test_omniglot_checks_its_arguments(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Omniglot("x", **arguments)


def test_images_are_read_once_and_mapped(small_omniglot, cache, monkeypatch):
    first = Omniglot(small_omniglot).load("test")
    monkeypatch.setattr("plastic_envs.images.sources.omniglot._read_characters", None)
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
