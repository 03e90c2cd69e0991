"""Updates reproduce what flash-linear-attention's literal functions made of the same numbers.

`recorded/*.npz` come from flash-linear-attention 0.5.2 (MIT, github.com/fla-org, commit
bc3b101dcb713ddc5bd8924b66754eb68b5ccf89): `delta_rule_recurrence`,
`naive_recurrent_gated_delta_rule` and `naive_mesa_net_exact` of `fla/ops/*/naive.py`, run elsewhere
in float64, for which their casts to float32 were replaced by casts to float64. `delta.npz` holds
[B, H, T, …], the others [B, T, H, …], B = H = 2, T = 12; keys of the delta rules have the length 1.
Each file has the inputs, drawn at random, under the names of the functions' parameters (`state`,
`h_kk` and `h_kv`: the initial state); the output `o`; the final state; and for each input
`grad.NAME`, the gradient of the sum of `weight.NAME` times each result.

How theirs are ours: β and the logarithm g of the decay are handed over as they are. Their delta
rules multiply queries by 1/√dk, which is up to the caller here. The decay comes before the error is
taken, as here, and multiplies H and G alone, not Λ, which is their `lamb`. `mesa.npz` has g = 0
throughout. They differentiate by every entry of H, here it is symmetric: the symmetric parts of the
gradients agree.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from agents.memories import naive
from agents.memories.updates import Delta, GatedDelta, MatrixState, Mesa, MesaState, Write

RECORDED = Path(__file__).parent / "recorded"
UPDATES = {
    "delta": Delta,
    "gated_delta": GatedDelta,
    "mesa": Mesa,
    "mesa_forgetting": lambda *sizes: Mesa(*sizes, keep=0.9),
}


def load(case):
    with np.load(RECORDED / f"{case}.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def our_results(update, compute, case, given):
    """Return what is recorded, by its name, from inputs of those names."""

    def heads_first(part):
        return part if case == "delta" else part.transpose(1, 2)

    q, k, v, beta = (heads_first(given[name]) for name in ("q", "k", "v", "beta"))
    if isinstance(update, Mesa):
        state = MesaState(given["h_kk"], given["h_kv"])
        update.log_ridge = (given["lamb"] - update.least_ridge).log()
        names = ["h_kk_final", "h_kv_final"]
    else:
        state, names = MatrixState(given["state"]), ["state_final"]
        q = q / update.key_size**0.5
    log_gamma = heads_first(given["g"]) if "g" in given else None
    reads, final = compute(Write(k, q, v, beta.log(), log_gamma), state)
    return {"o": heads_first(reads), **dict(zip(names, final, strict=True))}


@pytest.mark.parametrize("form", ["naive", "sequence", "chunks"])
@pytest.mark.parametrize("case", UPDATES)
def test_recorded_values_are_reproduced(case, form, monkeypatch):
    if form == "chunks":
        for module in ("delta", "mesa"):
            monkeypatch.setattr(f"agents.memories.updates.{module}._CHUNK", 5)
    recorded = load(case)
    given = {
        name.removeprefix("grad."): recorded[name.removeprefix("grad.")].requires_grad_()
        for name in recorded
        if name.startswith("grad.")
    }
    update = UPDATES[case](given["k"].shape[-1], given["v"].shape[-1], 2).double()
    for name, _ in list(update.named_parameters(recurse=False)):
        delattr(update, name)  # what is recorded takes their place

    def literal(*args):
        return naive.run(update, *args)

    results = our_results(update, literal if form == "naive" else update, case, given)
    total = sum((recorded[f"weight.{name}"] * part).sum() for name, part in results.items())
    gradients = torch.autograd.grad(total, list(given.values()))
    results |= {f"grad.{name}": part for name, part in zip(given, gradients, strict=True)}
    assert results.keys() | given.keys() | {f"weight.{n}" for n in results if "grad" not in n} == (
        recorded.keys()
    )
    for name, part in results.items():
        expected = recorded[name]
        if name == "grad.h_kk":
            part, expected = part + part.mT, expected + expected.mT
        error = (part - expected).abs().max() / expected.abs().max()
        assert error < 1e-9, name
