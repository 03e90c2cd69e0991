"""How closely the forms of networks and memories agree with each other and with recorded values.

    python -m benchmarks.parity --json
    python -m benchmarks.parity --golden DIRECTORY --json

With `--golden`, every form runs the recorded cases of a directory of `.npz` files (keys: `meta`,
`x`, `target`, `h0`, `c0`, `param.*`, `output`, `loss`, `h_final`, `c_final`, `fast_final.*`,
`eta_before_clip`, `inner_loss`, `grad.*`). Without, small random cases of its own, of plastic
networks and of associative memories (`benchmarks.memory_parity`), run in every form and are
compared with `naive`. A relative error is the largest deviation of a tensor over the largest
magnitude in its reference; float64 throughout.
"""

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor

from agents import LSTMHidden, PlasticNetwork, PlasticState, RNNHidden
from agents.plastic.cells import CELLS
from agents.plastic.network import FormName
from agents.plastic.rules import RULES, AlphaInit
from benchmarks.memory_parity import memory_cases


@dataclass
class Args:
    """Compare the forms of networks and memories with recorded values, or the literal form."""

    golden: Path | None = None
    """Directory of recorded cases; without it, small cases of its own."""
    json: bool = False
    """Print JSON lines instead of a table."""


Results = dict[str, Tensor]
"""Every number of a case, by the names that the recorded files use."""

Errors = Mapping[str, dict[str, float]]
"""By form, the relative error of every number."""


def main() -> None:
    """Run the comparison and print it."""
    args = tyro.cli(Args)
    if args.golden:
        cases = golden_errors(args.golden)
    else:
        cases = itertools.chain(own_errors(), memory_errors())
    worst, count = 0.0, 0
    for name, errors in cases:
        count += 1
        case_worst = max(max(form.values()) for form in errors.values())
        worst = max(worst, case_worst)
        if args.json:
            by_form = {form: max(values.values()) for form, values in errors.items()}
            print(json.dumps({"file": name, "worst_relative_error": case_worst, "forms": by_form}))
        else:
            print(f"{name:40s} {case_worst:.1e}")
    if args.json:
        print(json.dumps({"files": count, "worst_relative_error": worst}))
    else:
        print(f"{count} cases, worst relative error {worst:.1e}")


def golden_errors(directory: Path) -> Iterator[tuple[str, Errors]]:
    """Yield, for each recorded case, its file name and the error of each number in each form.

    Raises:
        FileNotFoundError: If there are no cases.
    """
    paths = sorted(directory.glob("*.npz"))
    if not paths:
        raise FileNotFoundError(f"no .npz files in {directory}")
    for path in paths:
        yield path.name, golden_case_errors(path)


def golden_case_errors(path: Path) -> Errors:
    """Return the relative error of every number of one recorded case, in every form."""
    with np.load(path) as file:
        meta = json.loads(str(file["meta"]))
        case = {key: torch.from_numpy(file[key]) for key in file.files if key != "meta"}
    rule = RULES[meta["rule"]](
        base_eta=meta["base_eta"],
        base_decay=meta["base_decay"],
        max_norm=meta["max_norm"],
        weight_clip=meta["weight_clip"],
        modulation=meta["modulation"],
        alpha="off" if meta["alpha_init"] == "none" else "random",
    )
    net = PlasticNetwork(
        meta["input_size"],
        meta["output_size"],
        meta["hidden_size"],
        meta["cell"],
        rule,
        extra_dim=meta["extra_dim"],
    ).double()
    own: dict[str, Tensor] = {**_named_parameters(net), "output_weight": net.output_weight}
    recorded = {key.removeprefix("param."): v for key, v in case.items() if "param." in key}
    for name, parameter in own.items():
        if name in recorded:
            parameter.data.copy_(recorded[name])
        elif name != "output_weight":
            raise KeyError(f"{path.name} has no parameter {name}")
    hidden = LSTMHidden(case["h0"], case["c0"]) if "c0" in case else RNNHidden(case["h0"])
    state = net.initial_state(len(case["x"]))._replace(hidden=hidden)
    if "output_weight" not in recorded:
        net.output_weight.data.copy_(_fitted_output_weight(net, case, state))
    given = ("x", "target", "h0", "c0", *(key for key in case if key.startswith("param.")))
    expected = {key: value for key, value in case.items() if key not in given}
    return {
        form: _errors(run_case(net, form, case["x"], case["target"], state), expected)
        for form in net.supported_forms()
    }


def _errors(actual: Results, expected: Results) -> dict[str, float]:
    """Return the error of each expected number; a gradient that is not there counts as zero."""
    absent = [key for key in expected if key not in actual and key.startswith("grad.")]
    actual = actual | {key: torch.zeros_like(expected[key]) for key in absent}
    return {key: relative_error(actual[key], value) for key, value in expected.items()}


def own_errors() -> Iterator[tuple[str, Errors]]:
    """Yield, for small random cases, a name and the error of each number against `naive`."""
    rules = [rule for rule in RULES.values() if rule.plastic]
    settings: tuple[tuple[bool, float, AlphaInit], ...] = (
        (True, 1.0, "random"),
        (False, 0.05, "random"),
        (True, 0.05, "off"),
    )
    cases = itertools.product(CELLS, rules, settings)
    for index, (cell, rule_class, (modulation, max_norm, alpha)) in enumerate(cases):
        rule = rule_class(base_eta=0.3, modulation=modulation, max_norm=max_norm, alpha=alpha)
        generator = torch.Generator().manual_seed(index)
        net = PlasticNetwork(4, 2, 7, cell, rule, generator=generator).double()
        x = torch.randn(3, 12, 4, generator=generator, dtype=torch.float64)
        target = torch.randn(3, 12, 2, generator=generator, dtype=torch.float64)
        starts = torch.rand(3, 12, generator=generator) < 0.15
        state = net.initial_state(3).map(
            lambda leaf: torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype) * 0.1  # noqa: B023
        )
        expected = run_case(net, "naive", x, target, state, starts)
        errors: Errors = {
            form: _errors(run_case(net, form, x, target, state, starts), expected)
            for form in net.supported_forms()
            if form != "naive"
        }
        clip = "clipped" if max_norm < 1 else "unclipped"
        kind = "modulated" if modulation else "unmodulated"
        yield f"{cell} {rule_class.__name__.lower()} {kind} {clip} alpha={alpha}", errors


def memory_errors() -> Iterator[tuple[str, Errors]]:
    """Yield the same of cases of the associative memories."""
    for name, expected, forms in memory_cases():
        yield (
            name,
            {
                form: _errors(actual, {key: expected[key] for key in actual})
                for form, actual in forms.items()
            },
        )


def run_case(
    net: PlasticNetwork,
    form: FormName,
    x: Tensor,
    target: Tensor,
    state: PlasticState,
    episode_starts: Tensor | None = None,
) -> Results:
    """Run one form forwards and backwards and return all its numbers."""
    net.form = form
    net.zero_grad(set_to_none=True)
    leaves = state.map(lambda leaf: leaf.detach().clone().requires_grad_())
    x = x.detach().clone().requires_grad_()
    output, final, probes = net.probe(x, leaves, episode_starts)
    loss = (output - target).square().mean()
    loss.backward()  # type: ignore[no-untyped-call]
    results = {"output": output, "loss": loss, "h_final": final.hidden.h}
    if isinstance(final.hidden, LSTMHidden):
        results["c_final"] = final.hidden.c
    for name, leaf in final.to_dict().items():
        if not name.startswith("hidden."):
            results[name.replace("fast.", "fast_final.", 1)] = leaf
    results |= probes._asdict()
    results |= {
        f"grad.{name}": p.grad for name, p in _named_parameters(net).items() if p.grad is not None
    }
    results |= {
        f"grad.initial.{k}": v.grad for k, v in leaves.to_dict().items() if v.grad is not None
    }
    if x.grad is not None:
        results["grad.x"] = x.grad
    return {name: value.detach().clone() for name, value in results.items()}


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Return the largest deviation over the largest magnitude of the reference (or over 1 at 0)."""
    if actual.shape != expected.shape:
        raise ValueError(f"shapes differ: {list(actual.shape)} and {list(expected.shape)}")
    scale = float(expected.abs().max()) or 1.0
    return float((actual - expected).abs().max()) / scale


def _fitted_output_weight(net: PlasticNetwork, case: Results, state: PlasticState) -> Tensor:
    """Return the ω that explains the recorded inner losses best.

    The non-plastic cases record an inner loss, but not its ω. As there are more steps than readout
    units, losses that no ω explains would still show.
    """
    with torch.no_grad():
        units = net.readout_units(case["x"], state).flatten(0, 1)
    losses = case["inner_loss"].flatten()[:, None]
    squared: Tensor = torch.linalg.lstsq(units.square() / units.shape[1], losses).solution[:, 0]
    return squared.clamp(min=0).sqrt()


def _named_parameters(net: PlasticNetwork) -> dict[str, torch.nn.Parameter]:
    return {name.removeprefix("layers."): p for name, p in net.named_parameters()}


if __name__ == "__main__":
    main()
