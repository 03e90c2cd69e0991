"""Training over several processes: two real ones, started by torchrun, against one."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import train.supervised.training as supervised
from tests.train.supervised.one_step import one_step
from train.runs.run_folder import RunFolder
from train.supervised.batches import whole
from train.supervised.distributed import ALONE, Processes, launched
from train.supervised.training import loss_mask, train_network

STEP = Path(__file__).with_name("one_step.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
COMMAND = [*TORCHRUN, "-m", "train.cli"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}  # which torchrun would set, with a warning

ONE, BOTH = (0, 1), [(0, 2), (1, 2)]  # rank and size
CASES = {
    "gradient-rnn": {"rule": "gradient", "max_grad_norm": 0.05},
    "gradient-lstm-closed": {"rule": "gradient", "cell": "lstm", "form": "closed"},
    "gradient-scored": {"rule": "gradient", "task": "regression"},
    "hebbian-lstm": {"rule": "hebbian", "cell": "lstm", "task": "copy"},
    "none-rnn": {"rule": "none"},
    "none-lstm": {"rule": "none", "cell": "lstm", "task": "regression"},
    "frozen-slow-weights": {"rule": "gradient", "freeze_slow_weights": True},
    "frozen-encoder": {"task": "few-shot"},
}
OTHERS = {
    "spoiled": {},  # the last episode is not a number
    "normalised": {"task": "few-shot", "encoder": "resnet12", "filters": 1},  # by each share
}


def run(*arguments):
    return subprocess.run(
        [*map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env=ENVIRONMENT,
    )


@pytest.fixture(scope="module")
def steps(make_config, encoder_run, tmp_path_factory):
    """What one process and both of two processes have after one training step, by case."""
    folder = tmp_path_factory.mktemp("settings")
    for name, settings in {**CASES, **OTHERS}.items():
        encoder = str(encoder_run.path) if name == "frozen-encoder" else None
        config = make_config(**settings, encoder_run=encoder)
        (folder / f"{name}.json").write_text(config.to_json())
    out = tmp_path_factory.mktemp("out")
    process = run(*TORCHRUN, STEP, folder, out)
    assert process.returncode == 0, process.stderr
    return {
        name: {
            (rank, size): torch.load(out / f"{name}-{rank}-{size}.pt", weights_only=True)
            for rank, size in (ONE, *BOTH)
        }
        for name in (*CASES, *OTHERS)
    }


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_two_processes_have_the_gradient_of_one_with_the_joint_batch(steps, case):
    one, *two = (steps[case][who] for who in (ONE, *BOTH))
    assert not one["parallel"]
    for process in two:
        assert process["parallel"]
        assert process["loss"] == pytest.approx(one["loss"], rel=1e-12)
        assert process["norm"] == pytest.approx(one["norm"], rel=1e-9)
        assert process["gradients"].keys() == one["gradients"].keys()
        for name, gradient in one["gradients"].items():
            other = process["gradients"][name]
            assert (gradient is None) == (other is None), name
            if gradient is not None:
                torch.testing.assert_close(other, gradient, rtol=1e-9, atol=1e-14, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("case", [*CASES, "normalised"])
def test_both_processes_take_the_same_step(steps, case):
    first, second = (steps[case][who] for who in BOTH)
    assert (first["loss"], first["norm"]) == (second["loss"], second["norm"])
    for name, parameter in first["parameters"].items():
        assert torch.equal(parameter, second["parameters"][name]), name


@pytest.mark.slow
def test_each_process_draws_noise_of_its_own(steps):
    assert len({steps["normalised"][who]["seed"] for who in (ONE, *BOTH)}) == 3


@pytest.mark.slow
def test_a_loss_that_is_not_finite_in_one_process_stops_both(steps):
    for who in (ONE, *BOTH):
        assert "stopped at step 0: the training loss is nan" in steps["spoiled"][who]["error"]
        parameters = steps["spoiled"][who]["parameters"]
        assert all(parameter.isfinite().all() for parameter in parameters.values())


@pytest.mark.parametrize("case", ["gradient-scored", "hebbian-lstm"])
def test_the_gradients_of_both_shares_have_that_of_the_joint_batch_as_mean(
    make_config, tmp_path, monkeypatch, case
):
    """Without processes: only who averages them is left out."""
    monkeypatch.setattr(Processes, "parallel", lambda self, network: network)
    monkeypatch.setattr(Processes, "mean", lambda self, value: value.detach())
    monkeypatch.setattr(Processes, "on_first", lambda self, call, *args, **kw: call(*args, **kw))
    path = tmp_path / f"{case}.json"
    path.write_text(make_config(**CASES[case], max_grad_norm=1e9).to_json())
    joint, *shares = (one_step(path, tmp_path, Processes(*who)) for who in (ONE, *BOTH))
    assert shares[0]["loss"] != shares[1]["loss"]
    assert sum(share["loss"] for share in shares) / 2 == pytest.approx(joint["loss"], rel=1e-12)
    for name, gradient in joint["gradients"].items():
        both = [share["gradients"][name] for share in shares]
        assert (gradient is None) == (None in both), name
        if gradient is not None:
            mean = (both[0] + both[1]) / 2
            torch.testing.assert_close(mean, gradient, rtol=1e-9, atol=1e-14, msg=name)


@pytest.mark.parametrize("task", ["copy", "cue-reward", "few-shot", "regression"])
@pytest.mark.parametrize("loss_on", ["scored", "all"])
def test_all_episodes_have_equally_many_steps_in_the_loss(make_config, task, loss_on):
    """Hence the mean over equal shares of their mean losses is the mean over the joint batch."""
    config = make_config(task, loss_on=loss_on)
    batch = whole(config.task_for("train"))(50, 0)
    assert len(loss_mask(config, batch).sum(dim=1).unique()) == 1


@pytest.fixture(scope="module")
def finished(make_config, tmp_path_factory):
    """A run of the command over two processes, and what it printed."""
    folder = RunFolder(tmp_path_factory.mktemp("command") / "run")
    options = ("--hidden-size", 8, "--batch-size", 4, "--steps", 6, "--eval-every", 2)
    options += ("--eval-episodes", 8, "--threads", 1, "--json", "--out", folder.path)
    options += ("--num-cues", 2, "--cue-size", 3)
    process = run(*COMMAND, "train", *options, "--episode-length", 6)
    assert process.returncode == 0, process.stderr
    return folder, process


@pytest.mark.slow
def test_the_command_gives_the_run_of_one_process(finished, make_config, make_run):
    folder, process = finished
    assert folder.config() == make_config()
    assert_close_runs(folder, make_run())
    assert json.loads(process.stdout) == {"run": str(folder.path), **folder.metrics()[-1]}
    assert process.stderr.count("INFO") == 1
    assert len(folder.timing()) == len(folder.metrics())
    assert len(list(folder.path.glob("events.out.tfevents*"))) == 1
    assert not list(folder.path.glob("*.tmp"))


@pytest.mark.slow
def test_a_folder_that_holds_a_run_is_refused_once(finished, tmp_path):
    folder = RunFolder(shutil.copytree(finished[0].path, tmp_path / "run"))
    before = folder.metrics()
    process = run(*COMMAND, "train", "--out", folder.path)
    assert process.returncode != 0
    assert process.stdout == ""
    assert process.stderr.count("holds a run already") == 1
    assert process.stderr.count("ERROR") == 1
    assert process.stderr.count("Traceback") == 1  # torchrun's own
    assert folder.metrics() == before


@pytest.mark.slow
def test_two_processes_go_on_with_the_run_of_one(make_config, make_run, tmp_path, interrupted):
    folder = RunFolder(tmp_path / "run")
    interrupted(train_network, make_config(), folder, supervised._Training, "_train_step", 3)
    folder.append(folder.metrics_path, {"step": 4})  # as if cut off before its checkpoint
    process = run(*COMMAND, "train", "--resume", folder.path)
    assert process.returncode == 0, process.stderr
    assert_close_runs(folder, make_run())


@pytest.mark.slow
def test_one_process_goes_on_with_the_run_of_two(make_config, make_run, tmp_path):
    settings = {"steps": 60, "eval_every": 2}
    folder, whole = RunFolder(tmp_path / "run"), make_run(**settings)
    folder.create(make_config(**settings))  # the processes start from settings alone
    resume = [*COMMAND, "train", "--resume", str(folder.path)]
    process = subprocess.Popen(resume, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
    deadline = time.monotonic() + 120
    while len(folder.metrics()) < 4:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.terminate()
    assert process.wait() != 0
    assert len(folder.metrics()) < len(whole.metrics()), "it had ended before it was ended"
    train_network(folder.config(), folder, resume=True, progress=False)
    assert_close_runs(folder, whole)


def assert_close_runs(one, other):
    """Compare metrics up to rounding."""
    for left, right in zip(one.metrics(), other.metrics(), strict=True):
        assert left.keys() == right.keys()
        for name, value in right.items():
            assert left[name] == (value and pytest.approx(value, rel=1e-4)), name


@pytest.mark.parametrize("rank", [0, 1])
def test_a_batch_that_cannot_be_shared_equally_is_refused(make_config, tmp_path, rank):
    folder = RunFolder(tmp_path / "run")
    config = replace(make_config(), batch_size=7)
    with pytest.raises(ValueError, match="divisible by the number of processes, 2, got 7"):
        train_network(config, folder, progress=False, processes=Processes(rank, 2))
    assert not folder.path.exists()


def test_torchrun_alone_says_that_there_are_several_processes(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert launched() == ALONE == Processes(0, 1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert launched() == Processes(1, 3)


@pytest.mark.parametrize("arguments", [("reproduce", "--list"), ("train-rl",), ()])
def test_other_commands_refuse_several_processes(monkeypatch, command, caplog, arguments):
    for name, value in {"TORCHELASTIC_RUN_ID": "none", "RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert command(*arguments) == (1, "")
    assert "torchrun is for plastic train alone" in caplog.text
