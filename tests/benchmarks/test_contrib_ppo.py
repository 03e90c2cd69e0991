import json
import sys

import pytest

pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed: the extra `bench`")

from benchmarks import contrib_ppo
from tests.train.tiny_experiments import rl_experiment
from train.experiments.networks import with_networks


def test_another_agent_learns_with_the_settings_of_an_experiment(monkeypatch, capsys):
    experiment = with_networks(rl_experiment("rl-bandit", lesson=False), ["lstm"])
    monkeypatch.setitem(contrib_ppo.EXPERIMENTS, "rl-bandit", experiment)
    words = ["contrib_ppo", "--experiment", "rl-bandit", "--budget", "smoke", "--json"]
    monkeypatch.setattr(sys, "argv", words)
    contrib_ppo.main()
    [row] = map(json.loads, capsys.readouterr().out.splitlines())
    assert (row["experiment"], row["seed"], row["step"]) == ("rl-bandit", 0, 48)
    assert [step for step, _ in row["curve"]] == [24, 48]
    assert row["curve"][-1][1] == row["val_score"]
