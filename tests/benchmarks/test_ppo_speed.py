"""The benchmark measures every agent on every environment."""

import json
import sys

from benchmarks import ppo_speed


def test_measures_every_agent(monkeypatch, capsys):
    sizes = ["--num-envs", "4", "--n-steps", "8", "--n-epochs", "1", "--hidden-size", "8"]
    repeats = ["--rollouts", "1", "--repeats", "2", "--json"]
    monkeypatch.setattr(sys, "argv", ["ppo_speed", *sizes, *repeats])
    ppo_speed.main()
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["env"] for row in rows} == {"PlasticCueReward-v0", "CartPole-v1"}
    agents = {"SB3 PPO, no memory", "ours, LSTM", "ours, gradient RNN", "ours, attention"}
    assert agents <= {row["agent"] for row in rows}
    assert all(0 < row["worst"] <= row["median"] <= row["best"] for row in rows)
    assert all(0 < row["rollout_mb"] < 1 for row in rows)
