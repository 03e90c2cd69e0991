"""The examples run, with a few steps instead of all."""

import math
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
STEPS = {
    "recurrent_ppo": 100,
    "dqn_with_history": 110,
    "foreign_environment": 1_024,
    "own_rule": 30,
    "own_cell": 30,
}
OWN = ("own_task", "own_core")


def test_every_example_is_run():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*STEPS, *OWN}


def test_the_task_of_ones_own_is_shown_and_made_by_its_name():
    program = EXAMPLES / "own_task.py"
    python = [sys.executable, "-W", "error"]
    shown = subprocess.run([*python, program], capture_output=True, text=True, check=True).stdout
    assert shown.endswith("after 7 of 7 steps\n")
    code = """
import gymnasium as gym, numpy as np, plastic_envs
task = plastic_envs.make_task("own_task:Recall-v0", length=7)
print(task.oracle_measures(50, 0)["score"], gym.make("own_task:Recall-v0", length=7).unwrapped.task)
"""
    said = subprocess.run(
        [*python, "-c", code], capture_output=True, text=True, check=True, cwd=EXAMPLES
    ).stdout
    assert said == "1.0 Recall(symbols=4, length=7)\n"


def test_the_core_of_ones_own_shows_its_shapes():
    python = [sys.executable, "-W", "error", EXAMPLES / "own_core.py"]
    said = subprocess.run(python, capture_output=True, text=True, check=True).stdout
    assert said == "outputs [2, 10, 4] {'matrix': [2, 4, 4], 'norm': [2, 4]}\n"


@pytest.mark.parametrize("name", STEPS)
def test_an_example_runs(name, monkeypatch):
    pytest.importorskip("stable_baselines3", reason="the examples need Stable-Baselines3")
    main = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]
    if evaluate := main.__globals__.get("evaluate_policy"):

        def briefly(*args, n_eval_episodes, **settings):
            return evaluate(*args, n_eval_episodes=2, **settings)

        monkeypatch.setitem(main.__globals__, "evaluate_policy", briefly)
    assert math.isfinite(main(steps=STEPS[name]))
