"""The examples run, with a few steps instead of all."""

import math
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
STEPS = {"recurrent_ppo": 100, "dqn_with_history": 150, "foreign_environment": 1_024}


def test_every_example_is_run():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(STEPS)


@pytest.mark.parametrize("name", STEPS)
def test_an_example_runs(name):
    pytest.importorskip("stable_baselines3", reason="the examples need Stable-Baselines3")
    main = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]
    assert math.isfinite(main(steps=STEPS[name]))
