"""What can be given to sources of images: it works, or a ValueError names it."""

import tempfile
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plastic_envs.images import (
    CIFARFS,
    SOURCES,
    ArrayFile,
    Arrays,
    Folders,
    Glyphs,
    ImageClasses,
    ImageSource,
    MiniImageNet,
    Omniglot,
    load_images,
    make_source,
)
from plastic_envs.tasks.sequences.few_shot import FewShot
from tests.plastic_envs.image_files import SMALL1, class_folders, labelled, omniglot_archive

pytestmark = pytest.mark.usefixtures("cache")


class Place:
    """A path of bytes, which `os.PathLike` allows."""

    def __fspath__(self):
        return b"x"


class Rude:
    """Stands for objects that fail at whatever is asked of them."""

    def __repr__(self):
        raise RuntimeError

    def __array__(self, *args, **kwargs):
        raise RuntimeError

    def __eq__(self, other):
        raise RuntimeError

    def __hash__(self):
        raise RuntimeError


ODD = [
    *(None, True, -1, 0, 3, 2.5, float("nan"), float("inf"), 10**400, 1j, "", "x", "\0", "\udc80"),
    *("x" * 10**6, b"x", b"", Path("x"), Place(), Rude(), object(), print, int, ..., np.int64(5)),
    *(np.bool_(True), np.float32(1), np.str_("train"), np.zeros(3), np.array("train"), [], [1], ()),
    *({}, {"train": 5}, {"train": Rude()}, {5: [1]}, set(), range(3), iter([1]), slice(2), 2**31),
    [[1], 2],
]

CALLS = {
    "root of Omniglot": lambda value: Omniglot(value).load("train"),
    "root of CIFARFS": lambda value: CIFARFS(value).load("train"),
    "root of MiniImageNet": lambda value: MiniImageNet(value).load("train"),
    "root of ArrayFile": lambda value: ArrayFile(value).load("train"),
    "root of Folders": lambda value: Folders(value).load("train"),
    "size of Omniglot": lambda value: Omniglot("x", size=value),
    "rotations": lambda value: Omniglot("x", rotations=value),
    "size of Folders": lambda value: Folders("x", size=value),
    "split": lambda value: Arrays(*labelled()).load(value),
    "split of Folders": lambda value: Folders("x").load(value),
    "split of load_images": lambda value: load_images(Arrays(*labelled()), value),
    "source of load_images": lambda value: load_images(value, "train"),
    "images": lambda value: Arrays(value, labelled()[1]).load("train"),
    "labels": lambda value: Arrays(labelled()[0], value).load("train"),
    "classes": lambda value: Arrays(*labelled(), value).load("train"),
    "classes of a split": lambda value: Arrays(*labelled(), {"train": value}).load("train"),
    "label of classes": lambda value: Arrays(*labelled(), {"train": [value]}).load("train"),
    "source": lambda value: make_source(value, "x"),
    "root": lambda value: make_source("omniglot", value),
    "root for glyphs": lambda value: make_source("glyphs", value),
    "root for a source": lambda value: make_source(Glyphs(), value),
    "size": lambda value: make_source("folders", "x", value),
    "size for glyphs": lambda value: make_source("glyphs", None, value),
    "size for a source": lambda value: make_source(Omniglot("x"), None, value),
    "images of classes": lambda value: ImageClasses(value, np.array([0, 1]), ("a",)),
    "offsets": lambda value: ImageClasses(np.zeros((1, 2, 2, 1), np.uint8), value, ("a",)),
    "names": lambda value: ImageClasses(np.zeros((1, 2, 2, 1), np.uint8), np.array([0, 1]), value),
}


@pytest.mark.parametrize("name", CALLS)
def test_odd_arguments(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argument = name.split()[0]
    names = {argument, {"label": "classes", "size": "image_size"}.get(argument, argument)}
    for value in ODD:
        try:
            CALLS[name](value)
        except FileNotFoundError as error:
            assert "root must be" in str(error)  # noqa: PT017 (it may work as well)
        except ValueError as error:
            words = str(error).replace("=", " ").replace("[", " ").split()
            assert names & set(words), str(error)  # noqa: PT017
            assert len(str(error)) < 1_500  # noqa: PT017


def test_integers_and_truth_values_of_numpy():
    assert Omniglot("x", np.int64(20), np.bool_(True)) == Omniglot("x", 20)
    assert type(Omniglot("x", np.int16(20)).size) is int
    assert hash(Folders("x", np.uint8(20))) == hash(Folders("x", 20))
    assert type(Folders(np.str_("x")).root) is str
    assert make_source("folders", "x", np.int32(9)) == Folders("x", 9)


@pytest.mark.parametrize("size", [0, -1, 4097, 2.0, True, "28", np.array([28])])
@pytest.mark.parametrize("source", [Omniglot, Folders])
def test_sizes_are_integers_within_limits(source, size):
    with pytest.raises(ValueError, match=r"size must be an integer of at least 1 and at most 4096"):
        source("x", size=size)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    labels=st.lists(st.integers() | st.text(max_size=3) | st.floats() | st.none(), max_size=9),
    shape=st.lists(st.integers(0, 4), max_size=5),
    dtype=st.sampled_from(["u1", "i1", "f4", "O", "U3", "?", "V2"]),
)
def test_any_arrays(labels, shape, dtype):
    images = np.zeros((len(labels), *shape[1:]), dtype)
    try:
        loaded = Arrays(images, labels).load("train")
    except ValueError as error:
        assert "images" in str(error) or "labels" in str(error) or "3 classes" in str(error)  # noqa: PT017
    else:
        assert loaded.images.dtype == np.uint8


def test_classes_from_an_iterator_are_read_once():
    images, labels = labelled()
    source = Arrays(images, labels, {"train": iter([1, 2]), "test": (c for c in [3])})
    for _ in range(2):
        assert source.load("train").names == ("1", "2")
        assert source.load("test").names == ("3",)


def test_classes_leave_the_arrays_of_the_caller_as_they_are():
    images, offsets = np.zeros((2, 3, 3, 1), np.uint8), np.array([0, 1, 2])
    classes = ImageClasses(images, offsets, ("a", "b"))
    images[:] = 1
    offsets[:] = 0
    assert not classes.images.flags.writeable
    assert classes.offsets.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="labels"):
        ImageClasses.from_labels(images, [1])


class Changing(ImageSource):
    """A source as a user may write it, with what is easily forgotten."""

    def load(self, split):
        return [1, 2]


class Unhashable(Changing):
    __hash__ = None


@pytest.mark.parametrize("source", [Changing(), Unhashable()])
def test_sources_of_others(source):
    with pytest.raises(ValueError, match=r"load must return ImageClasses|source must be hashable"):
        load_images(source, "train")


def test_the_error_of_long_paths_is_short():
    for root in ("x" * 300, "x" * 4_000, "~" + "x" * 300, "x/" * 2_000):
        with pytest.raises((ValueError, OSError)) as caught:
            Folders(root).load("train")
        assert len(str(caught.value)) < 6_000


# Images of different sizes


def mixed(root):
    class_folders(root)
    class_folders(root, range(2), side=(9, 9))
    class_folders(root, range(2, 3), side=(9, 20))
    return root


def test_mixed_sizes_can_be_resized_as_the_error_says(root):
    with pytest.raises(ValueError, match=r"size=84\)`, or image_size=84 with source='folders'"):
        FewShot(source="folders", root=mixed(root), n_way=2, n_query=1)
    env = gym.make(
        "PlasticFewShot-v0", source="folders", root=root, n_way=2, n_query=1, image_size=12
    )
    assert env.observation_space["image"].shape == (12, 12, 1)
    task = FewShot(source="folders", root=root, n_way=2, n_query=1, image_size=np.int64(12))
    assert task.images is FewShot(source=Folders(root, 12), n_way=2, n_query=1).images


def test_image_size_belongs_to_sources_by_name(root):
    omniglot_archive(root / "images_background_small1.zip", SMALL1, drawings=3)
    sized = FewShot(source="omniglot", root=root, image_size=14, n_way=2, n_query=1)
    assert sized.images.image_shape == (14, 14, 1)
    for source in sorted(set(SOURCES) - {"omniglot", "folders"}):
        place = None if source == "glyphs" else root
        with pytest.raises(ValueError, match=f"image_size=14 is for .* the images of '{source}'"):
            FewShot(source=source, root=place, image_size=14)
    with pytest.raises(ValueError, match="image_size=14 is for sources by name; Omniglot"):
        FewShot(source=Omniglot(root), image_size=14)
    with pytest.raises(ValueError, match="image_size must be an integer"):
        FewShot(source="omniglot", root=root, image_size=0)


def test_a_home_is_found_wherever_a_place_is_given(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root))
    class_folders(root / "images")
    np.savez(root / "images.npz", images=labelled()[0], labels=labelled()[1])
    for source, place in (("folders", "~/images"), ("arrays", "~/images.npz")):
        for given_as in (place, Path(place)):
            assert FewShot(source=source, root=given_as, n_way=2, n_query=2).images.num_classes
    with tempfile.TemporaryDirectory() as empty, pytest.raises(FileNotFoundError, match=empty):
        Omniglot(empty).load("train")
