import json
import sys
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("stable_baselines3", reason="reinforcement learning needs Stable-Baselines3")

from benchmarks import foreign_env, rl_tasks


@pytest.fixture
def rows(monkeypatch, capsys):
    """Return a function that runs a benchmark in this process and returns its JSON lines."""

    def call(program, *arguments):
        monkeypatch.setattr(sys, "argv", [program.__name__, *map(str, arguments), "--json"])
        program.main()
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return call


@pytest.fixture
def small(monkeypatch):
    """Make the tasks that have a lesson small."""
    for tasks in (rl_tasks.TASKS, rl_tasks.LESSONS):
        config = tasks["target-search"]
        config = replace(
            config, num_envs=4, eval_episodes=4, ppo=replace(config.ppo, n_steps=30), steps=240
        )
        monkeypatch.setitem(tasks, "target-search", config)


@pytest.mark.slow
def test_agents_take_a_lesson_learn_and_are_scored(rows, small, tmp_path, monkeypatch):
    arguments = ["--tasks", "target-search", "--agents", "hebbian-rnn", "mlp", "--seeds", 0, 1]
    arguments += ["--episodes", 4, "--out", tmp_path, "--processes", 1]
    found = rows(rl_tasks, *arguments)
    assert [row["seed"] for row in found] == [0, 1, [0, 1]] * 2
    assert [row["agent"] for row in found] == ["hebbian-rnn"] * 3 + ["mlp"] * 3
    assert {row["trained_steps"] for row in found if "trained_steps" in row} == {480}
    for name in ("score", "last_five"):
        first, second, mean = (row[name] for row in found[:3])
        assert mean == pytest.approx((first + second) / 2)
        assert found[2][f"{name}_spread"] == pytest.approx(np.std([first, second], ddof=1))
    lesson = json.loads((tmp_path / "target-search-mlp-seed1-lesson/config.json").read_text())
    assert lesson["env_kwargs"]["num_cues"] == 2
    assert not lesson["previous_action_reward"]
    assert (tmp_path / "target-search.png").is_file()

    monkeypatch.setattr(rl_tasks, "ProcessPoolExecutor", None)  # nothing is trained
    again = rows(rl_tasks, *arguments, "--evaluate-only")
    assert again == found
    with pytest.raises(SystemExit, match=f"no trained runs in {tmp_path / 'other'}"):
        rows(rl_tasks, "--evaluate-only", "--out", tmp_path / "other")


def test_runs_with_other_settings_are_not_taken_for_these(small, tmp_path):
    path, config = rl_tasks._run(rl_tasks.Args(out=tmp_path), "target-search", "mlp", seed=0)
    rl_tasks._train(rl_tasks._lesson(path), replace(config, start_from=None))
    with pytest.raises(ValueError, match="other settings"):
        rl_tasks._train(rl_tasks._lesson(path), replace(config, start_from=None, num_envs=5))


def test_every_task_and_agent_can_be_trained():
    for task in rl_tasks.TASKS:
        for agent in rl_tasks.AGENTS:
            _, config = rl_tasks._run(rl_tasks.Args(), task, agent, seed=0)
            assert config.n_steps % config.task.num_steps == 0


@pytest.mark.slow
def test_agents_are_compared_on_a_foreign_environment(rows, tmp_path):
    pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed")
    arguments = ["--env", "CartPole-v1", "--steps", 2_048, "--seeds", 0, "--out", tmp_path]
    found = rows(foreign_env, *arguments)
    assert [row["agent"] for row in found] == [*foreign_env.AGENTS, foreign_env.CONTRIB]
    assert {row["step"] for row in found} == {2_048}
    assert (tmp_path / "curves.png").is_file()
    assert rows(foreign_env, *arguments) == found  # what is there is not trained again
