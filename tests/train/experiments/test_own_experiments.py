"""Tasks and networks that no experiment declares."""

import json
from dataclasses import replace

import pytest

from tests.train.tiny_experiments import NOISE, STEPS, rl_experiment
from train.experiments import own, published
from train.experiments.networks import with_networks
from train.experiments.own import find_experiment
from train.runs.run_folder import RunFolder

MODULE = '''
from dataclasses import dataclass

import torch
from torch import nn

from agents.plastic.rules import Hebbian
from plastic_envs.tasks import CueReward


@dataclass(frozen=True)
class Recall(CueReward):
    """Recall rewards."""

    length: int = 6

    def __post_init__(self):
        object.__setattr__(self, "episode_length", self.length)
        object.__setattr__(self, "num_cues", 2)
        super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class Slow(Hebbian):
    """Hebb's rule."""


class Average(nn.Module):
    """Remembers the mean of what it has seen."""

    def __init__(self, input_size: int, *, width: int = 4) -> None:
        super().__init__()
        self.layer, self.output_size = nn.Linear(input_size, width), width

    def initial_state(self, batch_size):
        return torch.zeros(batch_size, self.output_size)

    def step(self, x, state=None, episode_starts=None):
        state = self.initial_state(len(x)) if state is None else state
        state = 0.5 * state + self.layer(x)
        return state, state

    def forward(self, x, state=None, episode_starts=None):
        outputs = []
        for k in range(x.shape[1]):
            output, state = self.step(x[:, k], state)
            outputs.append(output)
        return torch.stack(outputs, dim=1), state
'''


@pytest.fixture(autouse=True)
def tiny_experiments(declared, here, monkeypatch):
    """Declare a tiny experiment of each kind, and run jobs here."""
    declared(NOISE, rl_experiment(lesson=False))
    monkeypatch.setattr(own, "_asked", set())


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Make a module of a user's own; returns where its runs go."""
    (tmp_path / "my_memory.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "runs"


def test_any_rule_cell_or_core_joins_an_experiment(command, mine):
    words = ("reproduce", "tiny", "--budget", "smoke", "--out", mine, "--seeds", 0, "--json")
    added = ("oja-gru", "gru", "gated-delta", "my_memory:Slow-rnn", "my_memory:Average")
    code, out = command(*words, "--only", "noise=0.5", "--networks", *added)
    assert code == 0
    found = {row["network"]: row for row in map(json.loads, out.splitlines()) if "runs" in row}
    titles = ["Oja GRU 8", "GRU 8", "gated-delta", "my_memory:Slow RNN 8", "my_memory:Average"]
    run = [row for row in found.values() if row["score"] is not None]
    assert [row["network"] for row in run] == titles
    configs = [RunFolder(path.parent).config() for path in mine.glob("smoke/*/config.json")]
    assert {(c.network.core, c.network.rule) for c in configs} == {
        ("plastic", "oja"),
        ("gru", None),
        ("gated-delta", None),
        ("plastic", "my_memory:Slow"),
        ("my_memory:Average", None),
    }


def test_networks_that_joined_stay(command, mine):
    words = ("reproduce", "tiny", "--budget", "smoke", "--out", mine, "--json")
    command(*words, "--seeds", 0, "--networks", "oja-rnn", "--only", "noise=0.5")
    out = command(*words, "--seeds", 0, "--only", "noise=0.5", "network=oja-rnn,none-rnn")[1]
    rows = [row for row in map(json.loads, out.splitlines()) if row.get("by_seed")]
    assert {row["network"] for row in rows} == {"Oja RNN 8", "no plasticity, RNN 12"}
    assert command("report", "--out", mine)[0] == 0
    assert "Oja RNN 8" in (mine / "report.md").read_text()


def test_agents_take_any_network_too(command, mine):
    pytest.importorskip("stable_baselines3", reason="it is not installed: the extra `sb3`")
    words = ("reproduce", "maze", "--budget", "smoke", "--out", mine, "--json")
    out = command(*words, "--networks", "oja-rnn", "lstm")[1]
    rows = [row for row in map(json.loads, out.splitlines()) if row.get("by_seed")]
    assert [row["network"] for row in rows] == ["Oja RNN 4", "LSTM 4"]


def test_a_network_that_does_not_exist_is_told(command, mine, caplog):
    words = ("reproduce", "tiny", "--budget", "smoke", "--out", mine, "--networks")
    for label, message in (("ojo-rnn", "did you mean oja"), ("gruu", "core must be one of")):
        assert command(*words, label)[0] == 1
        assert message in caplog.text
    assert not mine.exists()


def test_what_is_said_for_all_networks_is_left_out_where_there_is_no_such_setting():
    budget = NOISE.budgets["smoke"]
    settings = {**budget.settings, "network.rule_settings.base_eta": 0.5}
    settings["network.core_settings.extra_dim"] = 2
    experiment = replace(NOISE, budgets={"smoke": replace(budget, settings=settings)})
    runs = with_networks(experiment, ["oja-rnn", "lstm"]).runs("smoke")
    found = {run.point["network"]: run.config.network for run in runs}
    assert found["oja-rnn"].rule_settings["base_eta"] == 0.5
    assert found["oja-rnn"].core_settings["extra_dim"] == 2
    assert (found["lstm"].rule, found["lstm"].core_settings["hidden_size"]) == (None, 8)


def test_a_task_of_ones_own_is_an_experiment(command, mine, monkeypatch, caplog):
    experiment = find_experiment("my_memory:Recall")
    assert list(experiment.budgets) == ["paper", "laptop", "smoke"]
    budget = replace(experiment.budgets["smoke"], settings=STEPS)
    small = replace(experiment, budgets={"smoke": budget})
    monkeypatch.setitem(published.EXPERIMENTS, "my_memory.Recall", small)
    words = ("reproduce", "my_memory:Recall", "--budget", "smoke", "--out", mine, "--seeds", 0)
    words += ("--settings", "task_settings.length=4", "--networks", "hebbian-rnn", "--json")
    code, out = command(*words)
    assert code == 0
    [row] = [row for row in map(json.loads, out.splitlines()) if row.get("by_seed")]
    assert row["experiment"] == "my_memory.Recall"
    [path] = mine.glob("smoke/Recall-*/config.json")
    assert RunFolder(path.parent).config().task_settings["length"] == 4
    assert len(json.loads((path.parent / "test.json").read_text())["eta"]) == 4

    monkeypatch.delitem(published.EXPERIMENTS, "my_memory.Recall")
    assert command("report", "--out", mine)[0] == 1  # which imports nothing by itself
    assert "named by --tasks" in caplog.text
    monkeypatch.setitem(published.EXPERIMENTS, "my_memory.Recall", small)
    assert command("report", "--out", mine, "--tasks", "my_memory:Recall")[0] == 0
    assert "## my_memory.Recall, budget smoke" in (mine / "report.md").read_text()


def test_a_registered_task_is_an_experiment_of_either_kind():
    assert find_experiment("copy").settings == {"task": "copy"}
    bandit = find_experiment("bandit")
    assert bandit.settings == {"env": "PlasticBandit-v0"}
    assert bandit is find_experiment("bandit")
    assert {run.config.env for run in bandit.runs("smoke")} == {"PlasticBandit-v0"}


def test_networks_of_strangers_are_not_imported(command, mine, caplog, tmp_path):
    words = ("reproduce", "tiny", "--budget", "smoke", "--out", mine, "--seeds", 0)
    command(*words, "--only", "noise=0.5", "--networks", "my_memory:Average")
    own._asked.clear()
    assert command("report", "--out", mine)[0] == 1
    assert "'my_memory:Average', which is not known here" in caplog.text
    assert command("report", "--out", mine, "--networks", "my_memory:Average")[0] == 0


def test_settings_are_those_of_a_declared_experiment(command, mine, caplog):
    words = ("reproduce", "tiny", "--budget", "smoke", "--out", mine, "--settings")
    assert command(*words, "steps=3")[0] == 1
    assert "tiny is declared with its own" in caplog.text
