"""What all sources have in common: what they refuse, how they are shared."""

import copy
import pickle
from pathlib import Path

import pytest

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
from tests.plastic_envs.image_files import class_folders, labelled

pytestmark = pytest.mark.usefixtures("cache")


READERS = (Omniglot, CIFARFS, MiniImageNet, ArrayFile, Folders)


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
