"""Tiny runs, made once and copied, and helpers to compare them."""

import json
import shutil
import signal
import sys
from dataclasses import fields

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

import train.supervised.training
from plastic_envs.images.sources.arrays import split_classes
from train.figures.drawing import new_figure
from train.network import NetworkConfig
from train.parts import find_task
from train.reinforcement.config import PPOConfig, RLConfig
from train.runs.run_folder import RLRunFolder, RunFolder
from train.supervised.config import TrainConfig

TASKS = {
    "copy": {"length": 2, "delay": 1},
    "cue-reward": {"num_cues": 2, "cue_size": 3, "episode_length": 6},
    "regression": {"kind": "mlp", "num_support": 3, "num_query": 2},
}

RL_TASKS = {
    "PlasticBandit-v0": {"num_arms": 2, "num_trials": 6},
    "PlasticCueReward-v0": {"num_cues": 2, "cue_size": 3, "episode_length": 6},
    "PlasticMaze-v0": {"size": 5, "episode_length": 6},
}

NUM_CLASSES = 16  # 10 of them for training, 3 for validation, 3 for testing


class StoppedError(BaseException):
    """Stands for whatever stops a program from outside, at any moment."""


@pytest.fixture(autouse=True)
def same_number_of_threads():
    """Put back torch's number of threads, which training sets for the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def small_figures():
    """Draw empty figures while training, which would take most of the time; yields the real one."""
    real = train.supervised.training.episode_figure
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.supervised.training, "episode_figure", lambda *_: new_figure(0.2, 0.2))
        yield real


@pytest.fixture(scope="session")
def image_file(tmp_path_factory):
    """Images of 16 classes, six of each; the first pixel of an image says its class."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 160, (NUM_CLASSES, 1, 16, 16))
    images = (patterns + rng.integers(0, 96, (NUM_CLASSES, 6, 16, 16))).astype(np.uint8)
    images[..., 0, 0] = np.arange(NUM_CLASSES)[:, None]
    path = tmp_path_factory.mktemp("images") / "images.npz"
    np.savez(path, images=images.reshape(-1, 16, 16), labels=np.repeat(np.arange(NUM_CLASSES), 6))
    return path


@pytest.fixture(scope="session")
def classes_of():
    """The classes of each split of `image_file`."""
    splits = split_classes(map(str, range(NUM_CLASSES)))
    return {split: {int(name) for name in names} for split, names in splits.items()}


def network_of(settings, **defaults):
    """Take the settings of a network out of others, by their names as on the command line."""
    known = {f.name for f in fields(NetworkConfig)}
    given = {name: settings.pop(name) for name in known if name in settings}
    given = {**{name: value for name, value in defaults.items() if name in known}, **given}
    for kind, part in NetworkConfig(**given).parts.items():
        named = {name: defaults[name] for name in part.options if name in defaults}
        named |= {name: settings.pop(name) for name in part.options if name in settings}
        given[f"{kind}_settings"] = named | given.get(f"{kind}_settings", {})
    return NetworkConfig(**given)


@pytest.fixture(scope="session")
def make_config(image_file):
    """Return a function that makes the settings of a run that takes a fraction of a second.

    Settings of task and network are given by their names, as on the command line.
    """
    images = {"n_way": 3, "n_query": 3, "source": "arrays", "root": str(image_file)}
    tasks = {**TASKS, "few-shot": images}

    def make(task="cue-reward", **settings):
        small = {"steps": 6, "batch_size": 4, "eval_every": 2, "eval_episodes": 8, "threads": 1}
        sizes = {"hidden_size": 12, "filters": 4} if task == "few-shot" else {"hidden_size": 8}
        network = network_of(settings, **sizes)
        options = find_task(task).options
        own = {name: settings.pop(name) for name in options if name in settings}
        task_settings = {**tasks.get(task, {}), **own}
        return TrainConfig(
            task=task, task_settings=task_settings, network=network, **{**small, **settings}
        )

    return make


@pytest.fixture(scope="session")
def make_run(make_config, tmp_path_factory):
    """Return a function that trains once for the same settings, and copies the folder."""
    trained = {}

    def make(**settings):
        config = make_config(**settings)
        key = config.to_json()
        if key not in trained:
            trained[key] = RunFolder(tmp_path_factory.mktemp("trained") / "run")
            train.supervised.training.train_network(config, trained[key], progress=False)
        copy = tmp_path_factory.mktemp("copy") / "run"
        return RunFolder(shutil.copytree(trained[key].path, copy))

    return make


@pytest.fixture
def run(make_run):
    """A finished run."""
    return make_run()


@pytest.fixture(scope="session")
def encoder_run(make_config, tmp_path_factory):
    """A prototypical network's run whose encoder others take over; not best at its last step."""
    config = make_config("few-shot", core="prototypical", learning_rate=0.1, seed=2)
    folder = RunFolder(tmp_path_factory.mktemp("encoder") / "run")
    train.supervised.training.train_network(config, folder, progress=False)
    return folder


@pytest.fixture(scope="session")
def assert_same_run():
    """Return a function that compares two runs bit for bit; their encoders may lie elsewhere."""

    def check(one, other):
        assert one.metrics_path.read_bytes() == other.metrics_path.read_bytes()
        for name in ("best", "last"):
            left, right = one.load_checkpoint(name), other.load_checkpoint(name)
            for content in (left, right):
                del content["seconds"]
                content["config"] = json.loads(content["config"]) | {"encoder_run": None}
            assert_equal(left, right)

    return check


@pytest.fixture(scope="session")
def make_rl_config():
    """Return a function that makes the settings of an agent's run, a fraction of a second long.

    Settings of network and algorithm are given by their names, as on the command line. There are
    three evaluations after the first one, with two rollouts of 48 steps before each.
    """

    def make(env="PlasticMaze-v0", **settings):
        network = network_of(settings, hidden_size=6, rule="hebbian")
        small = {"n_steps": 12, "minibatches": 2, "n_epochs": 1}
        small |= {"steps": 288, "num_envs": 4, "eval_every": 96, "eval_episodes": 6, "threads": 1}
        small |= {"env_kwargs": RL_TASKS.get(env, {}), **settings}
        ppo = PPOConfig(**{f.name: small.pop(f.name) for f in fields(PPOConfig) if f.name in small})
        return RLConfig(env=env, network=network, ppo=ppo, **small)

    return make


@pytest.fixture(scope="session")
def make_rl_run(make_rl_config, tmp_path_factory):
    """Return a function that trains once for the same settings, and copies the folder."""
    from train.reinforcement.training import train_agent

    trained = {}

    def make(*args, **settings):
        config = make_rl_config(*args, **settings)
        key = config.to_json()
        if key not in trained:
            trained[key] = RLRunFolder(tmp_path_factory.mktemp("trained") / "run")
            train_agent(config, trained[key], progress=False)
        copy = tmp_path_factory.mktemp("copy") / "run"
        return RLRunFolder(shutil.copytree(trained[key].path, copy))

    return make


@pytest.fixture(scope="session")
def assert_same_agents():
    """Return a function that compares two runs of agents bit for bit."""

    def check(one, other):
        assert one.metrics_path.read_bytes() == other.metrics_path.read_bytes()
        steps = [[record["step"] for record in run.timing()] for run in (one, other)]
        assert steps[0] == steps[1]
        for name in ("best", "last"):
            left, right = one.load_model(name), other.load_model(name)
            assert left.num_timesteps == right.num_timesteps
            assert_equal(left.policy.state_dict(), right.policy.state_dict())
            states = [model.policy.optimizer.state_dict() for model in (left, right)]
            assert_equal(*states)

    return check


class Countdown(gym.Env):
    """Foreign to this package: ends after some steps, each of which brings 1 and turns brighter."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012 (as Gymnasium has it)
    observation_space = spaces.Box(0, 9, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, length=None, render_mode=None):
        self.length, self.render_mode = length, render_mode

    def _observation(self):
        return np.array([self.left, 1], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.left = 0, self.length or int(self.np_random.integers(2, 6))
        return self._observation(), {}

    def step(self, action):
        self.time, self.left = self.time + 1, self.left - 1
        return self._observation(), 1.0, self.left == 0, False, {}

    def render(self):
        return np.full((8, 8, 3), 40 * self.time, np.uint8)


@pytest.fixture(scope="session", autouse=True)
def countdown():
    """Register an environment of unequal episodes as TestCountdown-v0."""
    gym.register("TestCountdown-v0", Countdown)
    yield "TestCountdown-v0"
    del gym.registry["TestCountdown-v0"]


@pytest.fixture
def interrupted(monkeypatch):
    """Return a function that trains, in either way, until an attribute is used once too often."""

    def call(train_run, config, folder, owner, name, count, *, resume=False):
        original, calls = getattr(owner, name), []

        def stopping(*args, **kwargs):
            calls.append(1)
            if len(calls) > count:
                raise StoppedError
            return original(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, stopping)
            with pytest.raises(StoppedError):
                train_run(config, folder, resume=resume, progress=False)

    return call


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


@pytest.fixture
def interruptible():
    """Let processes that a test starts hear Ctrl-C, though the tests run in the background.

    Shells start background commands with the signal ignored, which is passed on to their processes.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


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
