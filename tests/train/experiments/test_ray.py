"""Jobs on a cluster, by Ray: they end as those of this machine do, whatever is killed."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import Future
from itertools import chain
from pathlib import Path

import pytest
import torch

from tests.train.tiny_experiments import (
    HereExecutor,
    few_shot_experiment,
    jobs_of,
    make_experiment,
    plan_of,
    wait_until,
)
from train.experiments.executors import JobError, log_path
from train.experiments.job import is_finished, prepare, run_job
from train.experiments.reproduce import run_missing
from train.runs.run_folder import RunFolder

SECONDS = 300  # for what takes a few on an idle machine


def test_without_ray_it_is_said_how_to_get_it(command, caplog, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "train.experiments.ray_executor", raising=False)
    assert command("reproduce", "copy", "--ray", "auto", "--out", tmp_path / "out")[0] == 1
    assert "pip install 'plastic-envs[ray]'" in caplog.text
    assert "Traceback" not in caplog.text
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "jobs", "message"),
    [("auto", 3, "jobs cannot be given for the cluster auto"), ("local", 0, "at least 1, got 0")],
)
def test_jobs_are_counted_for_a_local_ray_only(command, caplog, tmp_path, address, jobs, message):
    pytest.importorskip("ray", reason="Ray is not installed: the extra `ray`")
    words = ("reproduce", "copy", "--ray", address, "--jobs", jobs)
    assert command(*words, "--out", tmp_path / "out")[0] == 1
    assert message in caplog.text
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:{}", r"no Ray at 127\.0\.0\.1:\d+: .*refused"),
        ("ray://127.0.0.1:{}", r"no Ray at ray://127\.0\.0\.1:\d+: .*refused"),
        ("nowhere", "no Ray at nowhere: Invalid address"),
    ],
)
def test_an_address_without_a_cluster_is_refused(command, caplog, tmp_path, address, message):
    pytest.importorskip("ray", reason="Ray is not installed: the extra `ray`")
    words = ("reproduce", "copy", "--ray", address.format(free_port()))
    assert command(*words, "--out", tmp_path / "out")[0] == 1
    assert re.search(message, caplog.text)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_cluster_of_this_machine_that_is_gone_is_not_waited_for(
    command, caplog, tmp_path, monkeypatch
):
    pytest.importorskip("ray", reason="Ray is not installed: the extra `ray`")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{free_port()}\n")
    assert command("reproduce", "copy", "--ray", "auto", "--out", tmp_path / "out")[0] == 1
    assert re.search(r"no Ray at 127\.0\.0\.1:\d+: .*refused", caplog.text)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_cluster_that_is_gone_fails_its_jobs():
    pytest.importorskip("ray", reason="Ray is not installed: the extra `ray`")
    from train.experiments.ray_executor import _settle

    ours, theirs = Future(), Future()
    theirs.set_exception(ConnectionError("the other side is gone"))
    _settle(ours, theirs)
    with pytest.raises(JobError, match="ConnectionError: the other side is gone"):
        ours.result(timeout=0)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def cluster():
    """Start a cluster of two cores on this machine; yields its address."""
    pytest.importorskip("ray", reason="Ray is not installed: the extra `ray`")
    port = free_port()
    options = ["--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=2", "--block"]
    options += ["--include-dashboard=false", "--object-store-memory=100000000"]
    words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", *options]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        said = ""
        while "--block" not in said:  # the last thing that it says once it is up
            line = process.stdout.readline()
            assert line, said
            said += line
        yield f"127.0.0.1:{port}"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=SECONDS)


@pytest.fixture
def executor(cluster):
    """Connect to the cluster."""
    from train.experiments.ray_executor import RayExecutor

    executor = RayExecutor(cluster)
    yield executor
    executor.stop()


def at_work(folder):
    """Return the ids of the processes that hold the lock of a run."""
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(link.readlink()) == str(folder.path / "lock"):
                found.append(int(link.parts[2]))
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.timeout(3 * SECONDS)
def test_runs_are_those_of_this_process(
    executor, image_file, tmp_path, monkeypatch, assert_same_run
):
    monkeypatch.chdir(tmp_path)  # which the settings of the encoders' runs count from
    torch.set_num_threads(1)
    jobs, ours = (
        jobs_of(plan_of(few_shot_experiment(image_file), Path(out))) for out in ("ray", "here")
    )
    assert executor.cores == 2
    assert run_missing(jobs, executor, progress=False) == {}
    assert run_missing(ours, HereExecutor(), progress=False) == {}
    for (folder, config), (whole, _) in zip(chain(*jobs), chain(*ours), strict=True):
        assert is_finished(folder, config)
        assert_same_run(folder, whole)
        assert "at work on" in log_path(folder.path).read_text()
        texts = [(run.path / "test.json").read_text() for run in (folder, whole)]
        assert texts[0] == texts[1]


@pytest.mark.slow
@pytest.mark.timeout(3 * SECONDS)
def test_a_failed_job_leaves_the_others_alone_and_is_legible(executor, tmp_path):
    jobs = jobs_of(plan_of(make_experiment(rules=("none",)), tmp_path))
    [[(bad, config), (good, _)]] = jobs
    bad.create(config)
    bad.checkpoint_path("last").write_bytes(b"rubbish")
    failures = run_missing(jobs, executor, progress=False)
    assert list(failures) == [bad.path]
    message = failures[bad.path]
    assert re.match(r"ValueError: .* not a checkpoint .*; more in .*/log\.txt$", message), message
    assert log_path(bad.path).read_text().count("Traceback") >= 1
    assert log_path(bad.path).read_text().count("at work on") == 1  # it was not tried again
    assert is_finished(good, config)


@pytest.mark.slow
@pytest.mark.timeout(3 * SECONDS)
def test_a_killed_worker_loses_nothing_but_time(executor, tmp_path, assert_same_run):
    settings = {"steps": 400, "eval_every": 4}
    experiment = make_experiment(rules=("none",), settings=settings)
    [(folder, config), *_] = jobs_of(plan_of(experiment, tmp_path))[0]
    whole = RunFolder(tmp_path / "whole")
    prepare(folder, config)
    future = executor.submit(folder.path)
    wait_until(lambda: len(folder.timing()) > 10, SECONDS)
    [worker] = at_work(folder)
    os.kill(worker, signal.SIGKILL)
    before = folder.timing()[:9]  # of what surely was in a checkpoint
    future.result(timeout=SECONDS)
    assert folder.timing()[:9] == before  # seconds never come out the same twice
    assert log_path(folder.path).read_text().count("at work on") == 2
    assert is_finished(folder, config)
    torch.set_num_threads(1)
    prepare(whole, config)
    run_job(whole)
    assert_same_run(folder, whole)
    scores = [json.loads((run.path / "test.json").read_text()) for run in (folder, whole)]
    assert scores[0] == scores[1]


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
@pytest.mark.timeout(3 * SECONDS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "killed"])
def test_jobs_and_a_ray_of_its_own_end_with_the_program(number, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: the extra `ray`")
    options = ["--only", "network=none-rnn", "--budget", "laptop", "--out", str(tmp_path)]
    words = ["reproduce", "cue-reward", *options, "--ray", "local", "--jobs", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "train.cli", *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a terminal sends Ctrl-C to all of its processes
    )
    wait_until(lambda: any(tmp_path.glob("laptop/*/metrics.jsonl")), SECONDS)
    folders = [RunFolder(path.parent) for path in tmp_path.glob("laptop/*/config.json")]
    assert any(at_work(folder) for folder in folders)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.kill()
    out, errors = process.communicate(timeout=SECONDS)
    wait_until(lambda: not any(at_work(folder) for folder in folders), 60)
    assert not any(tmp_path.glob("laptop/*/test.json"))
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "the same command goes on" in errors
        assert "Traceback" not in errors + out
