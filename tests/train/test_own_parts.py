"""Tasks, cores, rules and cells of the user's own, from modules of the working directory."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest

from plastic_envs.registration import ids
from train.places import seeing_working_directory
from train.runs.run_folder import RLRunFolder, RunFolder, open_run

MODULES = {
    "my_tasks": '''
from dataclasses import dataclass
import numpy as np
from gymnasium import spaces
from plastic_envs import Episodes, register_task
from plastic_envs.tasks import SequenceTask

@dataclass(frozen=True)
class Recall(SequenceTask):
    """Say in the end which of two came first."""

    length: int = 5
    """Steps of an episode."""
    steps: int = 1
    """Called as a setting of every run."""
    loud: bool = False
    """Twice as large inputs."""

    num_steps = property(lambda self: self.length)
    observation_space = property(lambda self: spaces.Box(-2, 2, (2,), np.float32))
    action_space = property(lambda self: spaces.Discrete(2))
    draws_per_episode = property(lambda self: 1)
    chance_score = property(lambda self: 0.5)
    random_score = property(lambda self: 0.5)
    optimal_score = property(lambda self: 1.0)

    def begin(self, draws):
        first = (draws[:, 0] < 0.5).astype(np.int64)
        observations = np.zeros((len(draws), self.length, 2), np.float32)
        observations[np.arange(len(draws)), 0, first] = 2 if self.loud else 1
        targets = np.repeat(first[:, None], self.length, axis=1)
        scored = np.zeros(targets.shape, np.bool_)
        scored[:, -1] = True
        return Episodes(observations, targets, scored)

register_task("MyRecall-v0", Recall)
''',
    "my_nets": '''
import torch
from agents.memories.torch_rnn import TorchCore

def make(input_size, *, width: int = 8, bias: bool = True, step_size: float = 0.5):
    """Make a GRU.

    Args:
        input_size: Entries.
        width: Units of it.
        bias: Whether it has biases.
        step_size: Not used.
    """
    return TorchCore(torch.nn.GRU(input_size, width, bias=bias, batch_first=True))

def seed(input_size, *, seed: int = 3):
    """Make a GRU of three units, with an option that every run has."""
    return make(input_size, width=seed)

def needs(input_size, *, width: int):
    return make(input_size, width=width)

def breaks(input_size):
    raise KeyError("no luck")

def odd(size):
    return make(size)
''',
    "my_rules": '''
from dataclasses import dataclass
from agents.plastic.rules import Hebbian

@dataclass(frozen=True, kw_only=True)
class Mine(Hebbian):
    """Hebb's, with a setting more."""

    my_setting: float = 0.25
    """How much of it."""
''',
    "my_cells": '''
from dataclasses import dataclass
import torch
from agents.plastic.cells import Cell, CellStep
from agents.plastic.state import RNNHidden

@dataclass(frozen=True)
class Mine(Cell):
    """A leaky tanh."""

    leak: float = 0.5
    """How much stays."""
    gates = 1

    def initial_hidden(self, zeros):
        return RNNHidden(zeros)

    def forward(self, from_input, from_hidden, hidden):
        h = torch.tanh(from_input + from_hidden)
        return CellStep(RNNHidden(h), h, h, hidden)

    def backward(self, grad_h, step):
        grad = grad_h * (1 - step.hidden.h**2)
        return grad, grad
''',
    "my_broken": "import numpy\n\nprint(nowhere)\n",
    "my_needy": "import absent_module\n",
}

SMALL = ["--batch-size", 4, "--steps", 4, "--eval-every", 2, "--eval-episodes", 4, "--threads", 1]
SMALL_RL = ["--steps", 40, "--eval-every", 20, "--num-envs", 4, "--n-steps", 5]
SMALL_RL += ["--eval-episodes", 4, "--n-epochs", 1, "--threads", 1]
OWN_TASK = ["--task", "my_tasks:Recall", "--length", 3]
OWN_CORE = ["--core", "my_nets:make", "--width", 3]
OWN_RULE = ["--rule", "my_rules:Mine", "--my-setting", 0.75]
OWN_CELL = ["--cell", "my_cells:Mine", "--leak", 0.3, "--hidden-size", 4]


@pytest.fixture(scope="session")
def modules(tmp_path_factory):
    """A folder with modules of the user's own."""
    folder = tmp_path_factory.mktemp("own")
    for name, source in MODULES.items():
        (folder / f"{name}.py").write_text(source)
    return folder


@pytest.fixture
def here(modules, monkeypatch):
    """Work in the folder of the modules; forget them in the end."""
    monkeypatch.chdir(modules)
    before = set(sys.modules)
    yield modules
    for name in set(sys.modules) - before:
        if name in MODULES:
            del sys.modules[name]
    gym.registry.pop("MyRecall-v0", None)


def test_a_run_of_own_parts_is_trained_scored_drawn_and_goes_on(here, command, tmp_path):
    run = tmp_path / "run"
    words = [*SMALL, *OWN_TASK, *OWN_RULE, *OWN_CELL, "--loud"]
    assert command("train", *words, "--out", run)[0] == 0
    with seeing_working_directory():
        config = RunFolder(run).config()
    assert (config.task, config.network.rule) == ("my_tasks:Recall", "my_rules:Mine")
    assert config.task_settings == {"length": 3, "steps": 1, "loud": True}
    assert config.network.cell_settings == {"leak": 0.3}
    assert config.network.rule_settings["my_setting"] == 0.75
    code, out = command("evaluate", run, "--episodes", 4, "--json", "--device", "cpu")
    assert code == 0
    assert json.loads(out)["agree"] is True
    assert command("plot", run, "--output", tmp_path / "curves.png")[0] == 0
    assert command("train", "--resume", run, "--steps", 6, "--device", "cpu")[0] == 0
    assert RunFolder(run).metrics()[-1]["step"] == 6


@pytest.mark.parametrize("task", ["MyRecall-v0", "my_tasks:MyRecall-v0", "my_tasks:MyRecall"])
def test_a_task_is_found_by_the_id_that_its_module_registers(here, command, tmp_path, task):
    words = [*SMALL, "--length", 3, *OWN_CORE, "--out", tmp_path / "run"]
    code, _ = command("train", "--task", task, *words)
    assert (code == 0) == task.startswith("my_tasks")  # nothing else registers it
    if code == 0:
        assert command("evaluate", tmp_path / "run", "--episodes", 4)[0] == 0
        assert RunFolder(tmp_path / "run").config().name.startswith("MyRecall")


def test_an_agent_of_own_parts_is_trained_scored_drawn_and_goes_on(here, command, tmp_path):
    run = tmp_path / "run"
    words = ["--env", "my_tasks:Recall", "--length", 6, *SMALL_RL, *OWN_CORE]
    assert command("train-rl", *words, "--out", run)[0] == 0
    config = RLRunFolder(run).config()
    assert (config.env_kwargs, config.network.core) == ({"length": 6}, "my_nets:make")
    assert config.network.core_settings == {"width": 3, "bias": True, "step_size": 0.5}
    assert command("evaluate", run, "--episodes", 4)[0] == 0
    assert command("plot", run, "--output", tmp_path / "curves.png")[0] == 0
    assert command("watch", run, "--output", tmp_path / "episode.png")[0] == 0
    assert command("train-rl", "--resume", run, "--steps", 60)[0] == 1  # the step size falls
    other = tmp_path / "other"
    words = ["--env", "my_tasks:MyRecall-v0", *SMALL_RL, *OWN_RULE, *OWN_CELL, "--loud"]
    assert command("train-rl", *words, "--schedule", "constant", "--out", other)[0] == 0
    assert command("train-rl", "--resume", other, "--steps", 60)[0] == 0
    assert RLRunFolder(other).metrics()[-1]["step"] == 60


def test_help_tells_the_options_of_own_parts_with_types_and_docstrings(here, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")

    def told(*words):
        code, out = command(*words, "--help")
        assert code == 0
        return " ".join(" ".join(line.strip("│") for line in out.splitlines()).split())

    said = told("train", *OWN_TASK[:2], *OWN_CORE[:2])
    assert "--length INT Steps of an episode. (default: 5)" in said
    assert "--loud, --no-loud Twice as large inputs. (default: False)" in said
    assert "--task.steps INT Called as a setting of every run. (default: 1)" in said
    assert "--width INT Units of it. (default: 8)" in said
    assert "--step-size FLOAT Not used. (default: 0.5)" in said
    assert "Say in the end which of two came first." in said
    assert "--rule" not in said
    assert "--num-cues" not in said
    said = told("train-rl", f"--rule={OWN_RULE[1]}", f"--cell={OWN_CELL[1]}", "--env", OWN_TASK[1])
    assert "--length INT Steps of an episode. (default: 5)" in said
    assert "--env.steps INT Called as a setting of every run. (default: 1)" in said
    assert "--my-setting FLOAT How much of it. (default: 0.25)" in said
    assert "--leak FLOAT How much stays. (default: 0.5)" in said
    assert "--hidden-size INT (default: 64)" in told("train-rl", "--core", "lstm")  # as by default


def test_an_option_that_two_have_is_written_with_its_part(here, command, tmp_path):
    words = [*OWN_TASK, "--task.steps", 9, "--core", "my_nets:seed", "--core.seed", 2]
    assert command("train", *SMALL, *words, "--seed", 5, "--out", tmp_path / "run")[0] == 0
    config = RunFolder(tmp_path / "run").config()
    assert (config.steps, config.task_settings["steps"]) == (4, 9)
    assert (config.seed, config.network.core_settings) == (5, {"seed": 2})


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--task", "my_task:Recall"], 2, "there is no module my_task, neither in the working dir"),
        (["--task", "my_tasks:Recal"], 2, "my_tasks.py) has no 'Recal' (did you mean Recall?)"),
        (["--task", "my_nets:make"], 2, "must be a class derived from Task"),
        (
            ["--core", "my_broken:x"],
            2,
            "NameError: name 'nowhere' is not defined, at {}my_broken.py:3",
        ),
        (["--core", "my_needy:x"], 2, "No module named 'absent_module', at {}my_needy.py:1"),
        (["--core", "my_nets:odd"], 2, "whose first argument is input_size"),
        (["--core", "os:system"], 2, "whose first argument is input_size"),
        (["--core", "my_nets:needs"], 2, "--width"),
        (["--core", "my_nets:breaks"], 1, "cannot be made: KeyError: 'no luck', at {}my_nets.py:"),
        (["--rule", "my_cells:Mine"], 2, "must be a class derived from Rule"),
        (["--cell", "my_rules:Mine"], 2, "must be a class derived from Cell"),
        (["--cell", "my rules:Mine"], 2, "must be named module:name"),
        ([*OWN_TASK[:2], "--length", "x"], 2, "Error parsing --length"),
        ([*OWN_TASK[:2], "--lenght", "3"], 2, "did you mean --length?"),
        ([*OWN_CORE[:2], "--rule", "oja"], 2, "core my_nets:make is made without a rule"),
        (["--task", "bandit"], 2, "plastic train-rl --env PlasticBandit-v0"),
        (["--env", "my_task:Recall"], 2, "env my_task:Recall: there is no module my_task, neither"),
        (["--env", "my_tasks:Recal"], 2, "my_tasks.py) has no 'Recal' (did you mean Recall?)"),
        (["--env", "my_nets:make"], 2, "env my_nets:make must be a class derived from Task"),
        (["--env", "my_broken:x"], 2, "NameError: name 'nowhere' is not defined, at {}my_broken."),
        (["--env", "my_tasks:Recall", "--length", "x"], 2, "Error parsing --length"),
        (["--env", "my_tasks:Recall", "--lenght", "3"], 2, "did you mean --length?"),
    ],
)
def test_what_is_wrong_with_own_parts_is_told_in_one_line(
    here, command, caplog, tmp_path, words, code, message
):
    program = "train-rl" if words[0] == "--env" else "train"
    assert command(program, *words, "--out", tmp_path / "run") == (code, "")
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert message.format(f"{here}{os.sep}") in record.getMessage()
    assert "\n" not in record.getMessage()
    assert not (tmp_path / "run").exists()


def test_a_run_whose_module_is_gone_says_what_is_missing(here, command, tmp_path, caplog):
    run = tmp_path / "run"
    assert command("train", *SMALL, *OWN_CORE, "--out", run)[0] == 0
    agent = tmp_path / "agent"
    assert command("train-rl", *SMALL_RL, "--env", "my_tasks:Recall", "--out", agent)[0] == 0
    del sys.modules["my_nets"], sys.modules["my_tasks"]
    os.chdir(tmp_path)
    for words in (("evaluate", run), ("plot", run), ("train", "--resume", run)):
        assert command(*words) == (1, "")
        assert f"{run / 'config.json'} cannot be read: core my_nets:make: there is no module" in (
            caplog.text
        )
        assert f"neither in the working directory, {tmp_path}, nor" in caplog.text
        caplog.clear()
    assert command("evaluate", agent) == (1, "")
    assert "env my_tasks:Recall: there is no module my_tasks, neither in the work" in caplog.text


EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize(
    ("supervised", "reinforced"),
    [
        (["--task", "own_task:Recall", "--length", 4], ["--env", "own_task:Recall", "--length", 4]),
        (["--core", "own_core:make", "--width", 3], ["--core", "own_core:make", "--width", 3]),
        (["--rule", "own_rule:BCM"], ["--rule", "own_rule:BCM"]),
        (["--cell", "own_cell:MinimalGatedUnit"], ["--cell", "own_cell:MinimalGatedUnit"]),
    ],
    ids=["task", "core", "rule", "cell"],
)
@pytest.mark.parametrize("reinforce", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_examples_are_trained_from_an_empty_folder(
    command, tmp_path, monkeypatch, supervised, reinforced, reinforce
):
    for path in EXAMPLES.glob("own_*.py"):
        shutil.copy(path, tmp_path)
        monkeypatch.delitem(sys.modules, path.stem, raising=False)
    monkeypatch.chdir(tmp_path)
    words = ["train-rl", *SMALL_RL, *reinforced] if reinforce else ["train", *SMALL, *supervised]
    assert command(*words, "--out", "run")[0] == 0
    assert command("evaluate", "run", "--episodes", 4)[0] == 0
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]
    gym.registry.pop("Recall-v0", None)


def test_programs_of_the_same_names_do_not_stand_in_the_way(modules, tmp_path):
    """In processes of their own, jobs of experiments among them."""
    for name in ("train", "agents", "plastic_envs"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('somebody else')")
    for name in ("my_tasks", "my_nets"):
        (tmp_path / f"{name}.py").write_text((modules / f"{name}.py").read_text())
    program = "import train.cli; train.cli.main()"  # as the script that pip installs
    words = [sys.executable, "-P", "-c", program, "train", *SMALL, *OWN_TASK, *OWN_CORE]
    process = subprocess.run(
        list(map(str, words)), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert "runs/Recall-make-seed0: validation score" in process.stdout


def test_runs_that_name_own_parts_are_opened_without_them(here, command, tmp_path):
    assert command("train", *SMALL, *OWN_TASK, "--out", tmp_path / "run")[0] == 0
    assert isinstance(open_run(tmp_path / "run"), RunFolder)
    assert "MyRecall-v0" in ids()
    assert str(Path.cwd()) not in sys.path  # the program is over
