"""Training classes that are turned are further classes; nothing else changes."""

import copy
import pickle

import numpy as np
import pytest

from plastic_envs.images import Arrays, Folders, Glyphs, Omniglot, Rotated, load_images, make_source
from tests.plastic_envs.image_files import class_folders, labelled, splits

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def plain():
    images, labels = labelled(shape=(6, 6))
    images[:, :2, :3] = 200 + labels[:, None, None]
    return Arrays(images, labels)


def test_each_training_class_is_there_in_four_positions(plain):
    classes, turned = plain.load("train"), Rotated(plain).load("train")
    assert turned.num_classes == 4 * classes.num_classes
    assert len(set(turned.names)) == turned.num_classes
    np.testing.assert_array_equal(turned.counts, np.tile(classes.counts, 4))
    for turns, suffix in enumerate(("", "/90", "/180", "/270")):
        for c, name in enumerate(classes.names):
            place = turned.names.index(name + suffix)
            images = turned.images[turned.offsets[place] : turned.offsets[place + 1]]
            expected = classes.images[classes.offsets[c] : classes.offsets[c + 1]]
            np.testing.assert_array_equal(images, np.rot90(expected, turns, (1, 2)))


def test_other_splits_are_as_they_are(plain):
    for split in ("validation", "test"):
        ours, theirs = Rotated(plain).load(split), plain.load(split)
        assert ours.names == theirs.names
        np.testing.assert_array_equal(ours.images, theirs.images)


def test_no_class_is_in_two_splits(plain):
    names = [set(classes.names) for classes in splits(Rotated(plain)).values()]
    assert len(set.union(*names)) == sum(map(len, names))


def test_it_is_the_same_as_what_omniglot_does(small_omniglot):
    itself = Omniglot(small_omniglot).load("train")
    around = Rotated(Omniglot(small_omniglot, rotations=False)).load("train")
    assert around.names == itself.names
    np.testing.assert_array_equal(around.images, itself.images)
    np.testing.assert_array_equal(around.offsets, itself.offsets)


def test_turned_images_are_kept_until_the_source_changes(root, cache):
    class_folders(root, side=(6, 6))
    first = Rotated(Folders(root)).load("train")
    assert isinstance(first.images, np.memmap)
    assert isinstance(Rotated(Folders(root)).load("train").images, np.memmap)
    assert len(list(cache.glob("rotated-*.npy"))) == 1
    class_folders(root, classes=range(6), side=(6, 6))
    assert Rotated(Folders(root)).load("train").num_classes > first.num_classes


def test_images_that_are_not_square_are_refused():
    with pytest.raises(ValueError, match="only square images can be turned, got 5×6"):
        Rotated(Arrays(*labelled())).load("train")


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="source must be an ImageSource, got 'glyphs'"):
        Rotated("glyphs")


def test_equal_sources_are_equal(plain):
    turned = Rotated(Glyphs())
    assert turned == Rotated(Glyphs()) == pickle.loads(pickle.dumps(turned)) == copy.copy(turned)
    assert hash(turned) == hash(Rotated(Glyphs()))
    assert Rotated(plain) != plain
    assert load_images(Rotated(plain), "train") is load_images(Rotated(plain), "train")


def test_a_named_source_is_asked_for_rotations():
    assert make_source("glyphs") == make_source("glyphs", rotations=False) == Glyphs()
    assert make_source("glyphs", rotations=True) == Rotated(Glyphs())
    assert make_source("folders", "x", 20, True) == Rotated(Folders("x", size=20))
    assert make_source("omniglot", "x") == make_source("omniglot", "x", rotations=True)
    assert make_source("omniglot", "x", rotations=True) == Omniglot("x")
    assert make_source("omniglot", "x", rotations=False) == Omniglot("x", rotations=False)
    with pytest.raises(ValueError, match="rotations must be True or False, got 1"):
        make_source("glyphs", rotations=1)
    with pytest.raises(ValueError, match="rotations=True is for sources by name"):
        make_source(Glyphs(), rotations=True)
