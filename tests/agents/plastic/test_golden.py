"""Every form reproduces the recorded values of the published implementation.

They are `.npz` files with the keys `meta`, `x`, `target`, `h0`, `c0`, `param.*`, and what was
computed of them: `output`, `loss`, `h_final`, `c_final`, `fast_final.*`, `eta_before_clip`,
`inner_loss`, `grad.*`. A gradient that was not recorded is not compared.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from agents import LSTMHidden, PlasticNetwork, RNNHidden
from agents.plastic.rules import RULES
from tests.agents.plastic.comparison import differences

DEFAULT = Path(__file__).resolve().parents[3].parent / "shared" / "golden"
DIRECTORY = Path(os.environ.get("PLASTIC_GOLDEN", DEFAULT))
CASES = sorted(path.name for path in DIRECTORY.glob("*.npz"))

pytestmark = pytest.mark.skipif(
    not DIRECTORY.is_dir(), reason=f"no recorded values in {DIRECTORY} (see PLASTIC_GOLDEN)"
)


def test_all_recorded_cases_are_found():
    assert len(CASES) == 26


@pytest.mark.parametrize("name", CASES)
def test_every_recorded_number_is_reproduced(name):
    with np.load(DIRECTORY / name) as file:
        meta = json.loads(str(file["meta"]))
        case = {key: torch.from_numpy(file[key]) for key in file.files if key != "meta"}
    net, state = recorded_network(meta, case)
    given = ("x", "target", "h0", "c0", *(key for key in case if key.startswith("param.")))
    expected = {key: value for key, value in case.items() if key not in given}
    assert {"output", "loss", "h_final", "inner_loss"} <= set(expected)
    assert {"closed", "naive"} <= set(net.supported_forms())
    for form in net.supported_forms():
        found = run(net, form, case["x"], case["target"], state)
        absent = [key for key in expected if key not in found and key.startswith("grad.")]
        found |= {key: torch.zeros_like(expected[key]) for key in absent}
        assert differences({key: found[key] for key in expected}, expected, 1e-9) == {}, form


def recorded_network(meta, case):
    """Return the network of a case and the state from which it ran."""
    rule = RULES[meta["rule"]](
        base_eta=meta["base_eta"],
        base_decay=meta["base_decay"],
        max_norm=meta["max_norm"],
        weight_clip=meta["weight_clip"],
        modulation=meta["modulation"],
        alpha="off" if meta["alpha_init"] == "none" else "random",
    )
    sizes = (meta["input_size"], meta["output_size"], meta["hidden_size"])
    net = PlasticNetwork(*sizes, meta["cell"], rule, extra_dim=meta["extra_dim"]).double()
    for name, parameter in parameters(net).items():
        if name != "output_weight" or "param.output_weight" in case:
            parameter.data.copy_(case[f"param.{name}"])
    hidden = LSTMHidden(case["h0"], case["c0"]) if "c0" in case else RNNHidden(case["h0"])
    state = net.initial_state(len(case["x"]))._replace(hidden=hidden)
    if "param.output_weight" not in case:
        net.output_weight.data.copy_(fitted_output_weight(net, case, state))
    return net, state


def parameters(net):
    named = {name.removeprefix("layers."): p for name, p in net.named_parameters()}
    return named | {"output_weight": net.output_weight}


def fitted_output_weight(net, case, state):
    """Return the ω that explains the recorded inner losses best.

    The non-plastic cases record an inner loss, but not its ω. As there are more steps than readout
    units, losses that no ω explains would still show.
    """
    with torch.no_grad():
        units = net.readout_units(case["x"], state).flatten(0, 1)
    losses = case["inner_loss"].flatten()[:, None]
    squared = torch.linalg.lstsq(units.square() / units.shape[1], losses).solution[:, 0]
    return squared.clamp(min=0).sqrt()


def run(net, form, x, target, state):
    """Run a form forwards and backwards; returns its numbers by their recorded names."""
    net.form = form
    net.zero_grad()
    x = x.clone().requires_grad_()
    output, final, probes = net.probe(x, state)
    loss = (output - target).square().mean()
    loss.backward()
    found = {"output": output, "loss": loss, "grad.x": x.grad, **probes._asdict()}
    found |= {f"{name}_final": leaf for name, leaf in final.hidden._asdict().items()}
    leaves = final.to_dict().items()
    found |= {k.replace("fast.", "fast_final.", 1): leaf for k, leaf in leaves if "fast." in k}
    grads = {name: p.grad for name, p in parameters(net).items()}
    found |= {f"grad.{name}": g for name, g in grads.items() if g is not None}
    return {name: value.detach() for name, value in found.items()}
