import random
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

import train.supervised.training as supervised
from tests.train.spread import spread
from train.runs import folder as folder_module
from train.runs.run_folder import RunFolder
from train.supervised.config import TrainConfig
from train.supervised.training import train_network

SETTINGS = {"steps": 7, "eval_every": 3}


@pytest.fixture
def interrupt(interrupted):
    """Return a function that trains until an attribute is used for the n-th time."""
    return partial(interrupted, train_network)


@pytest.mark.parametrize("steps", spread(range(7), {0, 2, 3, 6}))
def test_a_run_cut_off_after_any_step_ends_as_if_it_had_not_been(
    make_config, make_run, tmp_path, interrupt, assert_same_run, steps
):
    config, folder = make_config(**SETTINGS), RunFolder(tmp_path)
    interrupt(config, folder, supervised._Training, "_train_step", steps)
    record = train_network(folder.config(), folder, resume=True, progress=False)
    whole = make_run(**SETTINGS)
    assert_same_run(folder, whole)
    assert record == whole.metrics()[-1]


@pytest.mark.parametrize("count", spread(range(1, 6), {1, 4}))
def test_a_run_cut_off_while_it_saves_ends_as_if_it_had_not_been(
    make_config, make_run, tmp_path, interrupt, assert_same_run, count
):
    config, folder = make_config(**SETTINGS), RunFolder(tmp_path)
    interrupt(config, folder, RunFolder, "save_checkpoint", count)
    train_network(config, folder, resume=True, progress=False)
    assert_same_run(folder, make_run(**SETTINGS))


@pytest.mark.parametrize("method", ["_validate", "_log"])
def test_a_run_cut_off_in_its_first_validation_starts_over(
    make_config, make_run, tmp_path, interrupt, assert_same_run, method
):
    config, folder = make_config(**SETTINGS), RunFolder(tmp_path)
    interrupt(config, folder, supervised._Training, method, 0)
    assert not folder.checkpoint_path("last").exists()
    train_network(config, folder, resume=True, progress=False)
    assert_same_run(folder, make_run(**SETTINGS))


@pytest.mark.parametrize(
    "settings",
    [
        {"rule": "hebbian", "cell": "lstm", "schedule": "cosine"},
        pytest.param({"rule": "none", "cell": "lstm"}, marks=pytest.mark.slow),
        {"task": "few-shot", "core": "prototypical", "augment": True},
        pytest.param({"task": "few-shot", "augment": True}, marks=pytest.mark.slow),
        pytest.param(  # it drops at random
            {"task": "few-shot", "encoder": "resnet12", "filters": 1}, marks=pytest.mark.slow
        ),
    ],
    ids=str,
)
def test_a_run_may_be_cut_off_again_and_again(
    make_config, make_run, tmp_path, interrupt, assert_same_run, settings
):
    config, folder = make_config(**settings, **SETTINGS), RunFolder(tmp_path)
    for count, resume in ((4, False), (2, True), (3, True)):
        interrupt(config, folder, supervised._Training, "_train_step", count, resume=resume)
    train_network(config, folder, resume=True, progress=False)
    assert_same_run(folder, make_run(**settings, **SETTINGS))


@pytest.mark.parametrize(
    ("fine_tune", "elsewhere"),
    [(False, False), (True, False), pytest.param(False, True, marks=pytest.mark.slow)],
)
def test_a_run_with_the_encoder_of_another_goes_on_without_the_other(
    make_config, tmp_path, interrupt, assert_same_run, encoder_run, fine_tune, elsewhere
):
    """Also in a process that never saw the other."""
    other = RunFolder(shutil.copytree(encoder_run.path, tmp_path / "other"))
    settings = {"task": "few-shot", "fine_tune": fine_tune, **SETTINGS}
    config = make_config(encoder_run=str(other.path), **settings)
    whole, folder = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "run")
    train_network(config, whole, progress=False)
    interrupt(config, folder, supervised._Training, "_train_step", 4)
    shutil.rmtree(other.path)
    interrupt(config, folder, supervised._Training, "_train_step", 2, resume=True)
    if elsewhere:
        assert start_process(folder).wait() == 0
    else:
        train_network(folder.config(), folder, resume=True, progress=False)
    assert_same_run(folder, whole)


@pytest.mark.parametrize("fine_tune", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_cut_off_before_its_first_checkpoint_takes_the_encoder_of_the_other_again(
    make_config, make_run, tmp_path, interrupt, assert_same_run, encoder_run, fine_tune
):
    settings = {"task": "few-shot", "encoder_run": str(encoder_run.path), "fine_tune": fine_tune}
    config, folder = make_config(**settings, **SETTINGS), RunFolder(tmp_path)
    interrupt(config, folder, supervised._Training, "_validate", 0)
    assert not folder.checkpoint_path("last").exists()
    train_network(folder.config(), folder, resume=True, progress=False)
    assert_same_run(folder, make_run(**settings, **SETTINGS))


@pytest.mark.parametrize("lost", ['{"step": 6, "train_lo', '{"step": 6}\n', "\0\0\0\n\xff\n"])
def test_a_line_behind_the_checkpoint_is_written_anew(
    make_config, make_run, tmp_path, interrupt, assert_same_run, lost
):
    config, folder = make_config(**SETTINGS), RunFolder(tmp_path)
    interrupt(config, folder, supervised._Training, "_train_step", 5)
    for path in (folder.metrics_path, folder.timing_path):
        path.write_bytes(path.read_bytes() + lost.encode("latin-1"))
    train_network(config, folder, resume=True, progress=False)
    assert_same_run(folder, make_run(**SETTINGS))


def test_a_finished_run_stays_as_it_is(run):
    kept = (run.metrics_path, run.timing_path, run.config_path)
    kept += tuple(run.checkpoint_path(name) for name in ("best", "last"))
    before = {path: path.read_bytes() for path in kept}
    record = train_network(run.config(), run, resume=True, progress=False)
    assert {path: path.read_bytes() for path in kept} == before
    assert record == run.metrics()[-1]


def test_a_folder_with_settings_only_starts_from_the_beginning(
    make_config, make_run, tmp_path, command, assert_same_run
):
    folder = RunFolder(tmp_path / "run")
    folder.create(make_config())
    assert command("train", "--resume", folder.path)[0] == 0
    assert_same_run(folder, make_run())


@pytest.mark.parametrize(
    "settings", [["--seed", "3"], ["--hidden-size", "9"], ["--out", "elsewhere"]]
)
def test_a_run_does_not_go_on_with_other_settings(run, command, caplog, settings):
    before = run.metrics_path.read_bytes()
    code, out = command("train", "--resume", run.path, *settings)
    assert (code, out) == (1, "")
    assert "--resume goes on with the settings of its run" in caplog.text
    assert run.metrics_path.read_bytes() == before


@pytest.mark.parametrize("exists", [True, False])
def test_what_is_no_run_is_not_resumed(tmp_path, command, caplog, exists):
    path = tmp_path if exists else tmp_path / "absent"
    assert command("train", "--resume", path) == (1, "")
    assert f"{path} is no run folder" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_checkpoint_is_not_resumed(run, command, caplog):
    path = run.checkpoint_path("last")
    path.write_bytes(b"")
    assert command("train", "--resume", run.path) == (1, "")
    assert f"{path} cannot be read" in caplog.text


@pytest.mark.slow
def test_a_killed_process_is_resumed_and_ends_as_if_it_had_not_been(
    make_config, tmp_path, assert_same_run
):
    """Long enough to be hit in the middle, with validations as frequent as steps allow."""
    settings = {"steps": 40, "eval_every": 2}
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    train_network(make_config(**settings), whole, progress=False)
    killed.create(make_config(**settings))  # the first process starts from settings alone
    rng = random.Random(0)
    for lines in (4, 12):
        process = start_process(killed)
        try:
            wait_for_lines(process, killed, lines)
            time.sleep(rng.uniform(0, 0.1))
        finally:
            process.kill()
        assert process.wait() == -signal.SIGKILL
        assert len(killed.metrics()) < len(whole.metrics()), "it had ended before it was killed"
    assert start_process(killed).wait() == 0
    assert_same_run(killed, whole)


def start_process(folder):
    return subprocess.Popen(
        [sys.executable, "-m", "train.cli", "train", "--resume", str(folder.path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_for_lines(process, folder, count):
    deadline = time.monotonic() + 120
    while len(folder.metrics()) < count:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_an_option_that_equals_its_default_is_refused_too(run, command, caplog):
    default = TrainConfig().seed
    assert command("train", "--resume", run.path, "--seed", default) == (1, "")
    assert "cannot be combined with --seed" in caplog.text


@pytest.mark.parametrize("first", spread([3, 5, 6], {3, 5}))
@pytest.mark.parametrize(
    "settings",
    [pytest.param({}, marks=pytest.mark.slow), {"learning_rate": 0.1, "seed": 2}],
    ids=str,
)
def test_a_run_with_more_steps_ends_as_if_it_had_had_them_from_the_start(
    make_config, make_run, tmp_path, command, assert_same_run, first, settings
):
    """Also where it had ended, and was perhaps best, between two validations."""
    settings = {"eval_every": 3, **settings}
    folder = make_run(steps=first, **settings)
    assert command("train", "--resume", folder.path, "--steps", 9)[0] == 0
    whole = make_run(steps=9, **settings)
    assert folder.config() == whole.config()
    assert_same_run(folder, whole)


@pytest.mark.parametrize("count", spread(range(4), {0, 2}))
def test_a_run_that_is_cut_off_with_more_steps_goes_on_with_them(
    make_config, make_run, tmp_path, interrupt, assert_same_run, monkeypatch, count
):
    folder = make_run(steps=5, eval_every=3)
    more = make_config(steps=9, eval_every=3)
    interrupt(more, folder, folder_module, "write_bytes", count, resume=True)
    train_network(more if count == 0 else folder.config(), folder, resume=True, progress=False)
    assert_same_run(folder, make_run(steps=9, eval_every=3))


def test_more_steps_are_refused_where_they_would_change_those_before(
    run, make_run, command, caplog
):
    for folder, steps, message in (
        (run, 5, "steps must be at least those that .* has already, 6, got 5"),
        (make_run(schedule="cosine"), 9, "falls over its 6 steps .*cannot go on to 9"),
    ):
        before = {path: path.read_bytes() for path in folder.path.iterdir()}
        assert command("train", "--resume", folder.path, "--steps", steps) == (1, "")
        assert re.search(message, caplog.text)
        assert {path: path.read_bytes() for path in folder.path.iterdir()} == before


@pytest.mark.parametrize("name", ["last-regular", "best-regular", "metrics.jsonl"])
def test_a_damaged_run_gets_no_more_steps(make_run, make_config, name):
    folder = make_run(steps=5, eval_every=3)
    path = folder.path / name if "." in name else folder.checkpoint_path(name)
    path.write_bytes(path.read_bytes()[:-50])
    before = {path: path.read_bytes() for path in folder.path.iterdir()}
    with pytest.raises(ValueError, match=re.escape(str(path))):
        train_network(make_config(steps=9, eval_every=3), folder, resume=True, progress=False)
    assert {path: path.read_bytes() for path in folder.path.iterdir()} == before
