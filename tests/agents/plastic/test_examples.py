"""The rule and the cell of examples/, as a user's own module."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from agents import PlasticNetwork

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_rule_slides_its_thresholds(cell, x):
    rule = load("own_rule").BCM(threshold_rate=0.5)
    net = PlasticNetwork(3, 2, 5, cell, rule).double()
    _, state = net(x[:, :1])
    units = net.readout_units(x[:, :1])[:, 0]
    torch.testing.assert_close(state.rule["readout"]["threshold"], (1 + units.square()) / 2)
    net(x, state)[0].sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())
    assert net.supported_forms() == ["closed"]


def test_the_cell_says_its_gradient(plastic_rule_class, x):
    net = PlasticNetwork(3, 2, 5, load("own_cell").MinimalGatedUnit(), plastic_rule_class())
    net = net.double()
    y, _ = net(x)
    net.form = "naive"
    torch.testing.assert_close(y, net(x)[0], rtol=1e-10, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["own_rule", "own_cell"])
def test_a_script_learns_and_leaves_no_file(name, tmp_path):
    script = EXAMPLES / f"{name}.py"
    done = subprocess.run([sys.executable, script], cwd=tmp_path, text=True, capture_output=True)
    errors = [float(line.split("error ")[1].split()[0]) for line in done.stdout.splitlines()]
    assert errors[-1] < 0.5 < errors[0], done.stderr
    assert not list(tmp_path.iterdir())
