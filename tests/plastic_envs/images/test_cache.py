"""The cache of images: whatever stands in its place, the images come out right."""

import json
import logging
import os
import pwd
import shutil
import struct
import subprocess
import sys
import threading
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import plastic_envs  # noqa: F401 (registers the environments)
from plastic_envs.images import ArrayFile, Folders, sources
from plastic_envs.images.cache import FOLDER_VARIABLE, cache_folder, cached
from tests.plastic_envs.image_files import class_folders, labelled

HEADER = "{'descr': '|u1', 'fortran_order': False, 'shape': (18, 5, 6, 1), }"


@pytest.fixture
def source(root, cache):
    images, labels = labelled()
    np.savez(root / "images.npz", images=images + np.arange(6, dtype=np.uint8), labels=labels)
    return ArrayFile(root / "images.npz")


@pytest.fixture
def expected(source):
    classes = source.load("train")
    assert isinstance(classes.images, np.memmap)
    return np.array(classes.images), classes.names


def entry(cache, suffix):
    (path,) = cache.glob(f"*{suffix}")
    return path


def notes(**changed):
    def change(cache):
        path = entry(cache, ".json")
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))

    return change


def json_of(text):
    return lambda cache: entry(cache, ".json").write_text(text)


def header(changed, length=None):
    """Another header, of the same length or so."""

    def change(cache):
        path = entry(cache, ".npy")
        body = path.read_bytes()[-18 * 30 :]
        text = changed.encode().ljust(118) + b"\n"
        text = b"\x93NUMPY\x01\0" + struct.pack("<H", length or len(text)) + text
        path.write_bytes(text + body)

    return change


def replaced(suffix, make):
    def change(cache):
        path = entry(cache, suffix)
        path.unlink()
        make(path)

    return change


DAMAGE = {
    "deep JSON": json_of("[" * 100_000),
    "no JSON": json_of("hello"),
    "empty JSON": json_of(""),
    "other JSON": json_of("[1, 2]"),
    "number": json_of("5"),
    "bytes": lambda cache: entry(cache, ".json").write_bytes(b"\xff\xfe\x00"),
    "huge offsets": notes(offsets=[0, 10**30]),
    "huger offsets": notes(offsets=[0, int("9" * 400)]),
    "real offsets": notes(offsets=[0.0, 3.5, 18.0]),
    "texts as offsets": notes(offsets=["0", "18"]),
    "no offsets": notes(offsets=None),
    "deep offsets": notes(offsets=[[[0]]]),
    "other names": notes(names=["a", "b", "c", "d", "e", "f"]),
    "numbers as names": notes(names=[1, 2, 3, 4, 5, 6]),
    "one text as names": notes(names="abcdef"),
    "old format": notes(format="plastic-images-1"),
    "other checksum": notes(checksum="x"),
    "not closed": header(HEADER[:40]),
    "deep header": header("(" * 200),
    "Fortran order": header(HEADER.replace("False", "True")),
    "huge shape": header(HEADER.replace("18", "1800000000000")),
    "huger shape": header(HEADER.replace("18", "9" * 40)),
    "negative shape": header(HEADER.replace("18", "-18")),
    "objects": header(HEADER.replace("|u1", "|O")),
    "structures": header("{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (540,), }"),
    "signed": header(HEADER.replace("|u1", "|i1")),
    "flat": header(HEADER.replace("(18, 5, 6, 1)", "(540,)")),
    "another shape": header(HEADER.replace("(18, 5, 6, 1)", "(18, 6, 5, 1)")),
    "length of header": header(HEADER, 60_000),
    "empty array": lambda cache: entry(cache, ".npy").write_bytes(b""),
    "cut array": lambda cache: os.truncate(entry(cache, ".npy"), 300),
    "long array": lambda cache: os.truncate(entry(cache, ".npy"), 10**6),
    "another file": lambda cache: entry(cache, ".npy").write_bytes(b"PK\x03\x04" + bytes(600)),
    "no array": lambda cache: entry(cache, ".npy").unlink(),
    "no notes": lambda cache: entry(cache, ".json").unlink(),
    "link to nowhere": replaced(".npy", lambda path: path.symlink_to("nowhere")),
    "link to itself": replaced(".json", lambda path: path.symlink_to(path)),
    "link to a device": replaced(".json", lambda path: path.symlink_to("/dev/zero")),
    "pipe": replaced(".npy", os.mkfifo),
    "pipe of notes": replaced(".json", os.mkfifo),
    "huge notes": lambda cache: os.truncate(entry(cache, ".json"), 2**40),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_entry_is_made_anew(source, expected, cache, kind):
    DAMAGE[kind](cache)
    made = source.load("train")
    np.testing.assert_array_equal(made.images, expected[0])
    assert made.names == expected[1]
    assert isinstance(made.images, np.memmap)  # kept again
    assert isinstance(source.load("train").images, np.memmap)
    assert not list(cache.glob("*.tmp"))


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_every_byte_of_an_entry_counts(source, expected, cache, suffix):
    content = entry(cache, suffix).read_bytes()
    random = np.random.default_rng(0)
    for place in random.choice(len(content), 40):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(random.integers(8))
        entry(cache, suffix).write_bytes(damaged)
        made = source.load("train")
        np.testing.assert_array_equal(made.images, expected[0])
        assert made.names == expected[1]


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_a_folder_in_the_place_of_an_entry(source, expected, cache, suffix):
    replaced(suffix, Path.mkdir)(cache)
    np.testing.assert_array_equal(source.load("train").images, expected[0])
    assert entry(cache, suffix).is_dir()
    assert not list(cache.glob("*.tmp"))


def test_a_full_disk(source, cache, caplog, monkeypatch):
    def full(file, *args, **kwargs):
        file.write(b"some")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    classes = source.load("train")
    assert classes.num_classes == 6
    assert "No space left" in caplog.text
    assert not list(cache.iterdir())


def test_a_cache_that_is_a_file(source, cache, caplog):
    cache.write_text("hello")
    assert source.load("train").num_classes == 6
    assert "cannot be kept" in caplog.text
    assert cache.read_text() == "hello"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written(source, cache):
    cache.mkdir()
    cache.chmod(0o500)
    assert source.load("train").num_classes == 6


def test_threads_and_processes_at_once(source, expected, cache, root):
    shutil.rmtree(cache)
    read = []
    program = f"from plastic_envs.images import ArrayFile; ArrayFile({str(root / 'images.npz')!r})"
    other = subprocess.Popen([sys.executable, "-c", f"{program}.load('train')"])
    threads = [threading.Thread(target=lambda: read.append(source.load("train"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert other.wait() == 0
    assert len(read) == 8
    for classes in read:
        np.testing.assert_array_equal(classes.images, expected[0])
    assert sorted(path.suffix for path in cache.iterdir()) == [".json", ".npy"]


# Where the cache is


@pytest.fixture
def homeless(monkeypatch):
    """A user of whom the system knows nothing, as in some containers."""

    def unknown(_):
        raise KeyError("no such user")

    for name in ("HOME", "XDG_CACHE_HOME", FOLDER_VARIABLE, "USERPROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(pwd, "getpwnam", unknown)


def test_images_stay_in_memory_without_a_home(homeless, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    class_folders(tmp_path / "images")
    assert Folders("images").load("train").num_classes == 3
    assert f"set {FOLDER_VARIABLE}" in caplog.text
    assert not any(path.name.startswith("~") for path in tmp_path.iterdir())
    with pytest.raises(ValueError, match="there is no home for the `~` of '~/images'"):
        Folders("~/images").load("train")
    monkeypatch.setenv(FOLDER_VARIABLE, "~/cache")
    assert Folders("images").load("train").num_classes == 3
    with pytest.raises(ValueError, match="no home"):
        cache_folder()
    monkeypatch.setenv(FOLDER_VARIABLE, "here")
    assert isinstance(Folders("images").load("train").images, np.memmap)
    assert (tmp_path / "here").is_dir()


def test_few_shot_without_a_home(homeless, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "_load", sources._load.__wrapped__)  # not what is loaded already
    monkeypatch.setattr("plastic_envs.images.sources.glyphs.letters", lambda split: "ΑΒΓΔΕ")
    env = gym.make("PlasticFewShot-v0")
    assert env.reset(seed=0)[0]["image"].shape == (28, 28, 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("variable", ["HOME", "XDG_CACHE_HOME"])
@pytest.mark.parametrize("value", ["relative", "~nobody_of_this_name/x", "/dev/null", "/proc/x"])
def test_odd_homes(source, monkeypatch, tmp_path, variable, value):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(FOLDER_VARIABLE)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(variable, value)
    before = set(tmp_path.iterdir())
    assert source.load("train").num_classes == 6
    assert set(tmp_path.iterdir()) == before


def test_a_working_directory_that_is_gone(source, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    monkeypatch.setenv(FOLDER_VARIABLE, "relative")
    (tmp_path / "gone").rmdir()
    assert source.load("train").num_classes == 6


def test_the_variable_moves_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.delenv(FOLDER_VARIABLE)
    default = cache_folder()
    assert tmp_path in default.parents
    monkeypatch.setenv(FOLDER_VARIABLE, "")
    assert cache_folder() == default
    monkeypatch.setenv(FOLDER_VARIABLE, "~/images")
    assert cache_folder() == tmp_path / "images"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(FOLDER_VARIABLE, "here")
    assert cache_folder() == tmp_path / "here"


def test_what_cannot_be_built_is_told(cache, caplog):
    def build():
        raise ValueError("no images")

    with caplog.at_level(logging.INFO), pytest.raises(ValueError, match=r"^no images$"):
        cached("name", build)
    assert not cache.exists()
