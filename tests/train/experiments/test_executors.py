"""Jobs in processes of their own, which fail and are killed."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from tests.train.tiny_experiments import (
    LONG,
    HereExecutor,
    begun,
    jobs_of,
    make_experiment,
    plan_of,
    processes_of,
    wait_until,
)
from train.experiments.executors import JobError, LocalProcesses
from train.experiments.job import TEST_EPISODES, is_finished, prepare
from train.experiments.reproduce import run_missing
from train.runs.run_folder import RunFolder


@pytest.mark.slow
def test_jobs_of_this_machine_fail_alone_with_their_log(tmp_path, monkeypatch):
    (tmp_path / "train.py").write_text("raise SystemExit('somebody else's program')")
    monkeypatch.chdir(tmp_path)
    jobs = jobs_of(plan_of(make_experiment(rules=("none",)), tmp_path))
    [[(bad, config), (good, _)]] = jobs
    bad.create(config)
    bad.checkpoint_path("last").write_bytes(b"rubbish")
    failures = run_missing(jobs, LocalProcesses(2), progress=False)
    assert list(failures) == [bad.path]
    assert "exit code 1" in failures[bad.path]
    assert "not a checkpoint" in failures[bad.path]
    assert str(bad.path / "log.txt") in failures[bad.path]
    assert is_finished(good, config)
    assert json.loads((good.path / "test.json").read_text())["episodes"] == TEST_EPISODES


def test_a_job_that_was_killed_says_so(tmp_path):
    settings = {"steps": 10_000, "eval_every": 4}
    [(folder, config), *_] = jobs_of(plan_of(make_experiment(settings=settings), tmp_path))[0]
    prepare(folder, config)
    (folder.path / "log.txt").write_text("what was said before\n")
    executor = LocalProcesses(1)
    future = executor.submit(folder.path)
    wait_until(lambda: folder.metrics_path.exists())
    [process] = processes_of(tmp_path)
    os.kill(process, signal.SIGKILL)
    with pytest.raises(JobError, match="killed by signal 9") as raised:
        future.result(timeout=90)
    executor.stop()
    assert "what was said before" not in str(raised.value)


PROGRAM = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    sys.path.insert(0, {root!r})
    from tests.train.tiny_experiments import LONG, jobs_of, plan_of
    from train.experiments.executors import LocalProcesses
    from train.experiments.reproduce import run_missing

    failures = run_missing(jobs_of(plan_of(LONG, Path(sys.argv[1]))), LocalProcesses(2))
    sys.exit(len(failures))
    """
)


@pytest.mark.slow
def test_killed_it_goes_on_where_it_was(tmp_path, assert_same_run):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(root=str(Path(__file__).parents[3])))
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    process = subprocess.Popen([sys.executable, program, cut], stderr=subprocess.DEVNULL)
    wait_until(lambda: begun(cut, 5))
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: processes_of(cut) == [])
    assert not all(path.with_name("test.json").exists() for path in cut.glob("*/*/config.json"))
    subprocess.run([sys.executable, program, cut], check=True, capture_output=True)
    torch.set_num_threads(1)
    run_missing(jobs_of(plan_of(LONG, whole)), HereExecutor(), progress=False)
    for path in whole.glob("smoke/*"):
        assert_same_run(RunFolder(cut / "smoke" / path.name), RunFolder(path))


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_all_processes_and_says_how_to_go_on(tmp_path):
    options = ["--only", "network=none-rnn", "--budget", "laptop", "--out", tmp_path, "--jobs", 2]
    arguments = [sys.executable, "-m", "train.cli", "reproduce", "cue-reward", *options]
    process = subprocess.Popen(
        [*map(str, arguments)], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    wait_until(lambda: any(tmp_path.glob("laptop/*/metrics.jsonl")))
    os.kill(process.pid, signal.SIGINT)
    out, errors = process.communicate(timeout=90)
    assert process.returncode == 130
    assert "the same command goes on" in errors
    assert "Traceback" not in errors + out
    assert processes_of(tmp_path) == []
    assert not any(tmp_path.glob("laptop/*/test.json"))
