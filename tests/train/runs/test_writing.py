"""One process writes a run folder at a time, whole files or none, and says what stops it."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from train.experiments.job import prepare, run_job
from train.reinforcement import training as reinforcement
from train.runs import files
from train.runs.files import append_text, locked, write_bytes, write_text
from train.runs.run_folder import RLRunFolder, RunFolder
from train.supervised import training as supervised

HOLD = """
import sys, time
from pathlib import Path
from train.runs.files import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def hold():
    """Return a function that lets another process hold a folder until the test ends."""
    started = []

    def call(path):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "locked\n"
        return process

    yield call
    for process in started:
        process.kill()
        process.communicate()


def contents(path):
    return {each: each.read_bytes() for each in path.iterdir() if each.name != "lock"}


def test_a_run_that_another_process_writes_is_left_alone(run, make_rl_run, make_config, hold):
    agent = make_rl_run(steps=48)
    both = (run, supervised.train_network), (agent, reinforcement.train_agent)
    for folder, train_run in both:
        process, before = hold(folder.path), contents(folder.path)
        message = rf"{folder.path} is in use: another process \({process.pid} on "
        with pytest.raises(BlockingIOError, match=message):
            train_run(folder.config(), folder, resume=True, progress=False)
        assert contents(folder.path) == before
        process.send_signal(signal.SIGKILL)  # its lock dies with it
        process.wait()
        assert (folder.path / "lock").exists()
        train_run(folder.config(), folder, resume=True, progress=False)
        assert contents(folder.path).keys() >= before.keys()
        assert not (folder.path / "lock").exists()


def test_a_job_and_a_new_run_find_the_lock_of_each_other(make_config, tmp_path, hold):
    folder = RunFolder(tmp_path)
    process = hold(folder.path)
    for begin in (
        lambda: supervised.train_network(make_config(), folder, progress=False),
        lambda: folder.create(make_config()),
        lambda: run_job(folder),
        lambda: run_job(folder, patience=0.3),
    ):
        with pytest.raises(BlockingIOError, match=f"{tmp_path} is in use"):
            begin()
    assert {path.name for path in tmp_path.iterdir()} == {"lock"}
    process.kill()
    process.wait()
    prepare(folder, make_config())
    run_job(folder)
    assert not (tmp_path / "lock").exists()


@pytest.mark.slow
def test_of_two_at_once_one_trains_and_the_other_says_so(
    make_config, make_run, tmp_path, assert_same_run
):
    folder = RunFolder(tmp_path / "run")
    folder.create(make_config(steps=40))
    arguments = [sys.executable, "-m", "train.cli", "train", "--resume", str(folder.path)]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(arguments, **pipes) for _ in range(2)]
    said = [process.communicate()[1] for process in processes]
    for process, text in zip(processes, said, strict=True):
        assert process.returncode == 0 or "is in use" in text
        assert "Traceback" not in text
    assert 0 in [process.returncode for process in processes]
    assert_same_run(folder, make_run(steps=40))


def test_new_runs_in_one_folder_are_one(make_config, tmp_path):
    folders = [RunFolder(tmp_path / "run") for _ in range(4)]
    outcomes = []

    def create(folder, seed):
        try:
            folder.create(make_config(seed=seed))
            outcomes.append("made")
        except (FileExistsError, BlockingIOError) as error:
            outcomes.append(type(error).__name__)

    threads = [
        threading.Thread(target=create, args=(folder, seed)) for seed, folder in enumerate(folders)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("made") == 1
    assert len(outcomes) == 4
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.json", "versions.json"}


def test_whoever_waits_gets_the_lock_when_it_is_free(tmp_path):
    order = []

    def work(number):
        with locked(tmp_path, patience=30):
            order.append(number)
            time.sleep(0.02)
            order.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order[::2] == order[1::2], "two were inside at once"
    assert sorted(order[::2]) == [0, 1, 2, 3]


@pytest.mark.slow
def test_without_fcntl_everything_can_be_imported_and_windows_locks(tmp_path):
    """As on Windows, with its own module in place."""
    program = """
import sys, types
sys.modules["fcntl"] = None
import train.cli, train.experiments.job, train.reinforcement.training
from pathlib import Path
from train.runs.files import locked
held = []
def locking(descriptor, mode, count):
    if mode == 2 and held:
        raise OSError(13, "Permission denied")
    held.append(descriptor)
sys.modules["msvcrt"] = types.SimpleNamespace(LK_NBLCK=2, locking=locking)
path = Path(sys.argv[1])
with locked(path):
    try:
        with locked(path):
            print("both")
    except BlockingIOError as error:
        print("one")
del sys.modules["msvcrt"]
with locked(path):
    print("warned")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "one\nwarned\n"
    assert f"{tmp_path} cannot be locked" in done.stderr


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_where_nothing_can_be_locked_it_is_logged(tmp_path, monkeypatch, caplog, number):
    import fcntl

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path):
        assert f"{tmp_path} cannot be locked ([Errno {number}]" in caplog.text
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_files():
    """Let no file grow beyond some size: writing more fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_leaves_what_was_there(tmp_path, small_files):
    path = tmp_path / "file"
    write_text(path, "before")
    small_files(1000)
    with pytest.raises(OSError, match=f"{path} cannot be written: File too large"):
        write_bytes(path, bytes(5000))
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match=f"{path} cannot be written: File too large"):
        append_text(path, "x" * 5000)


@pytest.mark.parametrize("kind", ["supervised", "reinforced"])
def test_a_full_disk_is_told_in_a_line_and_costs_no_checkpoint(
    make_config, make_rl_config, make_run, make_rl_run, tmp_path, monkeypatch, kind, request
):
    """Wherever it fails, more room lets the run go on as if nothing had happened."""
    folder_of, train_run = {
        "supervised": (RunFolder, supervised.train_network),
        "reinforced": (RLRunFolder, reinforcement.train_agent),
    }[kind]
    config = make_config() if kind == "supervised" else make_rl_config()
    whole = make_run() if kind == "supervised" else make_rl_run()
    same = "assert_same_run" if kind == "supervised" else "assert_same_agents"
    original, left = files._write, []

    def full(descriptor, content):
        left.append(1)
        if len(left) > room:
            os.write(descriptor, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(descriptor, content)

    monkeypatch.setattr(files, "_write", full)
    for room in range(0, 14, 1 if kind == "supervised" else 3):
        folder = folder_of(tmp_path / f"{room}")
        left.clear()
        with pytest.raises(OSError, match="cannot be written: No space left on device") as caught:
            train_run(config, folder, progress=False)
        assert "\n" not in str(caught.value)
        assert str(folder.path) in str(caught.value)
        if not folder.checkpoint_path("last").exists():
            assert not folder.path.exists()
        elif room % 3 == 0:
            left[:] = [1] * -1000
            room = 10**6
            train_run(config, folder, resume=True, progress=False)
            request.getfixturevalue(same)(folder, whole)


def test_events_that_cannot_be_written_are_named(make_config, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("train.supervised.training.SummaryWriter.flush", full)
    with pytest.raises(OSError, match=r"events\.out\.tfevents cannot be written: No space left"):
        supervised.train_network(make_config(), RunFolder(tmp_path / "run"), progress=False)


def test_metrics_are_on_the_disk_before_the_checkpoint_that_counts_them(
    make_config, tmp_path, monkeypatch
):
    order = []

    def synced(descriptor, original=os.fsync):
        order.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        original(descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    supervised.train_network(make_config(steps=2), RunFolder(tmp_path / "run"), progress=False)
    kept = [name for name in order if name in ("metrics.jsonl", "timing.jsonl", "last.pt.tmp")]
    assert kept == ["metrics.jsonl", "timing.jsonl", "last.pt.tmp"] * 2


def test_the_lock_says_who_holds_it(tmp_path):
    with locked(tmp_path):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
