"""Tiny runs, made once and copied, and helpers to compare them."""

import shutil
import sys

import pytest
import torch

import train.supervised
from plastic_envs.tasks import Copy, CueReward, Regression
from train.config import NetworkConfig, TrainConfig
from train.plotting import new_figure
from train.run_folder import RunFolder

TASKS = {
    "copy": {"copy": Copy(length=2, delay=1)},
    "cue-reward": {"cue_reward": CueReward(num_cues=2, cue_size=3, episode_length=6)},
    "regression": {"regression": Regression(kind="mlp", num_support=3, num_query=2)},
}


@pytest.fixture(autouse=True)
def same_number_of_threads():
    """Put back torch's number of threads, which training sets for the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def small_figures():
    """Draw empty figures while training, which would take most of the time; yields the real one."""
    real = train.supervised.episode_figure
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.supervised, "episode_figure", lambda *_: new_figure(0.2, 0.2))
        yield real


@pytest.fixture(scope="session")
def make_config():
    """Return a function that makes the settings of a run that takes a fraction of a second."""

    def make(task="cue-reward", *, rule="gradient", cell="rnn", hidden_size=8, **settings):
        small = {"steps": 6, "batch_size": 4, "eval_every": 2, "eval_episodes": 8, "threads": 1}
        network = NetworkConfig(rule=rule, cell=cell, hidden_size=hidden_size)
        return TrainConfig(task=task, network=network, **{**small, **TASKS[task], **settings})

    return make


@pytest.fixture(scope="session")
def make_run(make_config, tmp_path_factory):
    """Return a function that trains once for the same settings, and copies the folder."""
    trained = {}

    def make(**settings):
        config = make_config(**settings)
        if config not in trained:
            trained[config] = RunFolder(tmp_path_factory.mktemp("trained") / "run")
            train.supervised.train(config, trained[config], progress=False)
        copy = tmp_path_factory.mktemp("copy") / "run"
        return RunFolder(shutil.copytree(trained[config].path, copy))

    return make


@pytest.fixture
def run(make_run):
    """A finished run."""
    return make_run()


@pytest.fixture(scope="session")
def assert_same_run():
    """Return a function that compares two runs bit for bit."""

    def check(one, other):
        assert one.metrics_path.read_bytes() == other.metrics_path.read_bytes()
        for name in ("best", "last"):
            left, right = one.load_checkpoint(name), other.load_checkpoint(name)
            del left["seconds"], right["seconds"]
            assert_equal(left, right)

    return check


@pytest.fixture
def command(monkeypatch, capsys):
    """Return a function that runs `plastic` in this process: exit code and stdout."""
    from train.cli import main

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["plastic", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        return code, capsys.readouterr().out

    return call


def assert_equal(left, right):
    """Compare nested containers of tensors and numbers, tensors bit for bit."""
    assert type(left) is type(right)
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_equal(left[key], right[key])
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_equal(one, other)
    else:
        assert left == right
