import json
import logging
from pathlib import Path

import numpy as np
import pytest

from plastic_envs.images import cache
from plastic_envs.images.base import SPLITS
from plastic_envs.images.sources import glyphs
from plastic_envs.images.sources.glyphs import DRAWINGS, SCRIPTS, SIZE, Glyphs, draw, letters

SAMPLE = "აאⵣ"  # three scripts; in 12, 4 and 2 faces


@pytest.fixture(scope="module")
def splits():
    """The classes of every split, drawn by this run of the tests."""
    return {split: Glyphs().load(split) for split in SPLITS}


@pytest.fixture
def few(tmp_path, monkeypatch):
    """An empty cache, and a split of three letters; returns where its two files will be."""
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(glyphs, "letters", lambda split: SAMPLE)
    return lambda ending: next(tmp_path.glob(f"glyphs-test-*.{ending}"))


def _cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


def _flip(path):
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)


def _same(one, other):
    return one.names == other.names and np.array_equal(one.images, other.images)


def test_a_drawing_depends_on_nothing_but_its_letter():
    whole = draw(SAMPLE)
    assert _same(draw(SAMPLE), whole)
    turned = draw(SAMPLE[::-1])
    np.testing.assert_array_equal(
        turned.images.reshape(3, DRAWINGS, -1)[::-1], whole.images.reshape(3, DRAWINGS, -1)
    )
    np.testing.assert_array_equal(draw(SAMPLE[1]).images, whole.images[DRAWINGS : 2 * DRAWINGS])


def test_a_split_that_is_loaded_is_the_one_that_is_drawn(splits):
    chosen = [0, 100, -1]
    kept = letters("test")
    again = draw("".join(kept[i] for i in chosen))
    loaded = splits["test"].images.reshape(-1, DRAWINGS, SIZE, SIZE, 1)[chosen]
    np.testing.assert_array_equal(loaded.reshape(again.images.shape), again.images)


def test_numbers_of_classes(splits):
    assert {split: splits[split].num_classes for split in SPLITS} == {
        "train": 808,
        "validation": 172,
        "test": 178,
    }


@pytest.mark.parametrize("split", SPLITS)
def test_form(splits, split):
    classes = splits[split]
    assert classes.images.shape == (classes.num_classes * DRAWINGS, SIZE, SIZE, 1)
    assert classes.images.dtype == np.uint8
    np.testing.assert_array_equal(classes.counts, DRAWINGS)


@pytest.mark.parametrize("split", SPLITS)
def test_every_drawing_is_there_and_is_another(splits, split):
    flat = splits[split].images.reshape(-1, SIZE * SIZE)
    ink = (flat > 127).mean(axis=1)
    assert ink.min() > 0.005
    assert ink.max() < 0.8
    assert len({row.tobytes() for row in flat}) == len(flat)


def test_no_letter_is_the_box_of_a_missing_one():
    for split in SPLITS:
        for character in letters(split):
            assert any(ord(character) in face.codes for face in glyphs._faces()), character


def test_splits_share_neither_scripts_nor_names(splits):
    scripts = [script for split in SPLITS for script in SCRIPTS[split]]
    assert len(set(scripts)) == len(scripts)
    names = [name for split in SPLITS for name in splits[split].names]
    assert len(set(names)) == len(names)
    for split in SPLITS:
        used = {s for s in SCRIPTS[split] for n in splits[split].names if n.startswith(f"{s} ")}
        assert used == set(SCRIPTS[split])


def test_no_two_letters_look_alike():
    looks = np.stack([glyphs._look(c) for split in SPLITS for c in letters(split)])
    alike = looks @ looks.T - 2 * np.eye(len(looks))
    assert alike.max() < glyphs._LOOKALIKE
    assert "A" in letters("train")
    assert not set("ΑАoOОՕⵔ") & set("".join(map(letters, SPLITS))) - {"O"}


@pytest.mark.parametrize("split", SPLITS)
def test_pixels_do_not_tell_the_classes(splits, split):
    """One nearest neighbour, five ways, one shot: above chance, and little else."""
    classes, rng = splits[split], np.random.default_rng(0)
    images = classes.images.reshape(-1, DRAWINGS, SIZE * SIZE).astype(np.float32) / 255
    right = []
    for _ in range(2000):
        ways = rng.choice(classes.num_classes, 5, replace=False)
        pick = rng.permuted(np.tile(np.arange(DRAWINGS), (5, 1)), axis=1)[:, :4]
        support = images[ways, pick[:, 0]]
        query = images[ways[:, None], pick[:, 1:]]  # [5, 3, pixels]
        near = np.square(query[:, :, None] - support).sum(-1).argmin(-1)
        right.append((near == np.arange(5)[:, None]).mean())
    assert 0.3 < np.mean(right) < 0.5


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match=r"split must be one of .*'valid'"):
        Glyphs().load("valid")


def test_equal_sources_are_equal():
    assert Glyphs() == Glyphs()
    assert hash(Glyphs()) == hash(Glyphs())


def test_the_second_time_it_is_read_and_not_drawn(few, monkeypatch, caplog):
    first = Glyphs().load("test")
    monkeypatch.setattr(glyphs, "draw", pytest.fail)
    with caplog.at_level(logging.WARNING):
        second = Glyphs().load("test")
    assert isinstance(second.images, np.memmap)
    assert not second.images.flags.writeable
    assert _same(first, second)
    assert not caplog.records


@pytest.mark.parametrize("change", ["_VERSION", "fonts", "Pillow"])
def test_what_the_drawings_depend_on_is_in_the_name(few, monkeypatch, tmp_path, change):
    Glyphs().load("test")
    if change == "_VERSION":
        monkeypatch.setattr(glyphs, "_VERSION", 10**6)
    elif change == "fonts":
        other = tmp_path / "other.ttf"
        other.write_bytes(b"other")
        monkeypatch.setattr(glyphs, "_font_files", lambda: [other])
    else:
        monkeypatch.setattr("PIL.__version__", "0")
    Glyphs().load("test")
    assert len(list(tmp_path.glob("glyphs-test-*.npy"))) == 2


@pytest.mark.parametrize(
    ("ending", "damage"),
    [
        ("npy", _cut),
        ("npy", _flip),
        ("npy", lambda path: path.write_bytes(b"")),
        ("json", lambda path: path.write_text('{"format": ')),
        ("json", lambda path: path.write_text("{}")),
        ("json", lambda path: path.write_text("[]")),
        ("json", lambda path: path.write_bytes(b"\xff\xfe")),
        (
            "json",
            lambda path: path.write_text(
                json.dumps(json.loads(path.read_text()) | {"names": ["one"]})
            ),
        ),
    ],
    ids=["cut", "flipped", "empty", "half", "other json", "list", "bytes", "few names"],
)
def test_a_damaged_entry_is_made_anew(few, caplog, ending, damage):
    drawn = draw(SAMPLE)
    Glyphs().load("test")
    damage(few(ending))
    with caplog.at_level(logging.WARNING):
        assert _same(Glyphs().load("test"), drawn)
    assert ["damaged" in record.message for record in caplog.records] == [True]
    caplog.clear()
    assert _same(Glyphs().load("test"), drawn)  # what was made anew is whole
    assert not caplog.records


@pytest.mark.parametrize("ending", ["npy", "json"])
def test_half_an_entry_is_made_anew(few, ending):
    Glyphs().load("test")
    few(ending).unlink()
    assert _same(Glyphs().load("test"), draw(SAMPLE))
    assert few(ending).exists()


def test_without_a_folder_to_write_in_the_drawings_stay_in_memory(
    few, tmp_path, monkeypatch, caplog
):
    taken = tmp_path / "taken"
    taken.write_text("a file, where the folder would be; root may write anywhere else")
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(taken))
    with caplog.at_level(logging.WARNING):
        classes = Glyphs().load("test")
    assert _same(classes, draw(SAMPLE))
    assert not isinstance(classes.images, np.memmap)
    assert any("cannot be kept" in record.message for record in caplog.records)


def test_a_write_that_fails_leaves_no_entry(few, tmp_path, monkeypatch, caplog):
    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with caplog.at_level(logging.WARNING):
        assert _same(Glyphs().load("test"), draw(SAMPLE))
    assert not [*tmp_path.glob("*.npy"), *tmp_path.glob("*.json")]
    assert ["cannot be kept" in record.message for record in caplog.records] == [True]
