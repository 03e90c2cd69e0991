"""Whatever is lost or damaged in a run folder: the exact result or one clear error, no new loss."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.figures import runs as plot
from train.figures.recording import record
from train.reinforcement import training as reinforcement
from train.runs.run_folder import RLRunFolder, RunFolder
from train.scoring.evaluation import evaluate
from train.supervised import training as supervised

KINDS = ("supervised", "reinforced")
FILES = ("config.json", "versions.json", "metrics.jsonl", "timing.jsonl", "best", "last", "events")

UNREAD = ("versions.json", "events")


def removed(path):
    path.unlink()


def emptied(path):
    path.write_bytes(b"")


def halved(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garbled(path):
    content = bytearray(path.read_bytes())
    for part in range(1, 8):  # one alone may fall on padding, which nobody reads
        content[part * len(content) // 8] ^= 0xFF
    path.write_bytes(content)


def made_a_folder(path):
    path.unlink()
    path.mkdir()


def without_last_line(path):
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def without_first_line(path):
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))


def changed_number(path):
    """Still JSON, and still in order; of seconds, those of the clock, which checkpoints know."""
    text = path.read_text()
    end = text.rfind(', "cpu_seconds"') if path.name == "timing.jsonl" else len(text)
    place = max(k for k, character in enumerate(text[:end]) if character in "12345678")
    path.write_text(text[:place] + "9" + text[place + 1 :])


RARE = (emptied, made_a_folder)
DAMAGES = (removed, emptied, halved, garbled, made_a_folder)
OF_LINES = (without_last_line, without_first_line, changed_number)
CASES = [
    pytest.param(file, damage, marks=[pytest.mark.slow] if damage in RARE else [])
    for file in FILES
    for damage in DAMAGES
    if file not in UNREAD
]
CASES += [(file, removed) for file in UNREAD]
CASES += [(file, damage) for file in ("metrics.jsonl", "timing.jsonl") for damage in OF_LINES]
CASES += [("config.json", changed_number)]


@pytest.fixture
def make_folder(make_run, make_rl_run):
    """Return a function that makes a run of a kind whose best validation is not its last."""

    def make(kind):
        if kind == "supervised":
            return make_run(learning_rate=3.0, steps=8)
        return make_rl_run("TestCountdown-v0", learning_rate=0.1, steps=96, eval_every=48)

    return make


@pytest.fixture
def programs(monkeypatch, tmp_path):
    """Return a function that names what can be done with a run, each of which returns a result."""
    monkeypatch.setattr(plot, "comparison_figure", lambda axis, curves: curves)
    monkeypatch.setattr(plot, "save", lambda figure, path: drawn.append(figure))
    drawn = []

    def plotted(folder):
        plot.plot_runs([folder], tmp_path / "figure.png")
        return [{name: str(part) for name, part in asdict(curve).items()} for curve in drawn.pop()]

    def resumed(folder):
        is_network = isinstance(folder, RunFolder)
        train_run = supervised.train_network if is_network else reinforcement.train_agent
        train_run(folder.config(), folder, resume=True, progress=False)
        return [path.read_bytes() for path in state_of(folder)]

    def scored(folder):
        return {**evaluate(folder, num_episodes=2), "run": None}

    def watched(folder):
        return record(folder, tmp_path / "episode.gif").read_bytes()

    def of(folder):
        common = [resumed, scored, plotted]
        return common if isinstance(folder, RunFolder) else [*common, watched]

    return of


def state_of(folder):
    paths = [folder.checkpoint_path(name) for name in ("best", "last")]
    return [folder.metrics_path, folder.timing_path, *paths]


def content_of(folder):
    return {path: path.read_bytes() for path in sorted(folder.path.rglob("*")) if path.is_file()}


def named(folder, file):
    if file == "events":
        return next(folder.path.glob("events*"))
    return folder.checkpoint_path(file) if file in ("best", "last") else folder.path / file


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("file", "damage"), CASES)
def test_a_damaged_folder_gives_the_exact_result_or_one_error(
    make_folder, programs, tmp_path, kind, file, damage
):
    whole = make_folder(kind)
    for program in programs(whole):
        folder = type(whole)(Path(shutil.copytree(whole.path, tmp_path / program.__name__)))
        damage(named(folder, file))
        before = content_of(folder)
        error = result = None
        try:
            result = program(folder)
        except (ValueError, FileNotFoundError) as caught:
            error = str(caught)
        if error is None:
            assert result == program(whole)
        else:
            assert str(folder.path) in error
            assert "\n" not in error
            assert content_of(folder) == before


LOST = [
    ("metrics.jsonl", removed),
    ("metrics.jsonl", without_last_line),
    ("metrics.jsonl", changed_number),
    ("timing.jsonl", without_last_line),
    ("best", removed),
    ("last", removed),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("file", "damage"), LOST)
def test_a_run_that_lost_something_does_not_go_on(make_folder, kind, file, damage):
    folder = make_folder(kind)
    path, train_run = named(folder, file), supervised.train_network
    damage(path)
    if kind == "reinforced":
        train_run = reinforcement.train_agent
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        train_run(folder.config(), folder, resume=True, progress=False)
    assert str(path) in str(caught.value)
    assert file == "best" or "copy, or start again in another folder (--out)" in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_another_run_are_found(make_folder, make_run, make_rl_run, kind):
    """All whole, and of the same form."""
    other = (
        make_run(learning_rate=3.0, steps=8, seed=1)
        if kind == "supervised"
        else make_rl_run("TestCountdown-v0", learning_rate=0.1, steps=96, eval_every=48, seed=1)
    )
    for file in ("config.json", "metrics.jsonl", "best", "last"):
        folder = make_folder(kind)
        shutil.copy(named(other, file), named(folder, file))
        with pytest.raises(ValueError, match=r"seed was|is not|are not"):
            folder.check_whole()


def test_records_are_read_or_refused_with_their_line(run):
    for line, message in (
        ("3", "line 1, is no record with step and val_score: 3"),
        ('{"step": "x", "val_score": 1}', "no record"),
        ('{"step": 1, "val_score": null}', "no record"),
        ("[" * 100_000, "line 1, is no JSON"),
        ("{", "line 1, is no JSON"),
    ):
        run.metrics_path.write_text(line + "\n")
        with pytest.raises(ValueError, match=f"{run.metrics_path}, line 1.*") as caught:
            run.metrics()
        assert message in str(caught.value)
        assert len(str(caught.value)) < 600


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_settings_file_is_read_or_refused(data, tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    folder.config_path.write_bytes(data)
    for kind in (RunFolder, RLRunFolder):
        with pytest.raises(ValueError, match=r"config\.json cannot be read"):
            kind(folder.path).config()


@pytest.mark.parametrize(
    "text", ['{"steps": NaN}', '{"a":' * 50_000, '{"seed": ' + "9" * 5_000, "{" + " " * 2**21 + "}"]
)
def test_settings_that_are_hostile_are_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json cannot be read") as caught:
        RunFolder(tmp_path).config()
    assert len(str(caught.value)) < 400


def test_a_finished_run_counts_its_lines(make_folder):
    """The lines and their digest are in the checkpoint, and on the disk before it."""
    for kind in KINDS:
        folder = make_folder(kind)
        standing = folder.check_whole()
        assert standing.metrics["records"] == len(folder.metrics())
        assert standing.step == folder.metrics()[-1]["step"]
        assert json.loads(standing.config) == json.loads(folder.config_path.read_text())
        assert np.isclose(folder.timing()[-1]["seconds"], standing.seconds, atol=1e-3)
