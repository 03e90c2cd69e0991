"""How closely the forms of plastic networks and associative memories agree with the literal ones.

    python -m benchmarks.parity --json

Small random cases run in every form and are compared with `naive`: outputs, last states, probes and
all gradients; those of the memories (`benchmarks.memory_parity`) with their formulas in NumPy, too.
A relative error is the largest deviation of a tensor over the largest magnitude in its reference;
float64 throughout.
"""

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
import tyro
from torch import Tensor

from agents import PlasticNetwork, PlasticState
from agents.plastic.cells import CELLS
from agents.plastic.network import FormName
from agents.plastic.rules import RULES, AlphaInit
from benchmarks.memory_parity import memory_cases


@dataclass
class Args:
    """Compare the forms of networks and memories with the literal ones."""

    json: bool = False
    """Print JSON lines instead of a table."""


Results = dict[str, Tensor]
"""Every number of a case."""

Errors = Mapping[str, dict[str, float]]
"""By form, the relative error of every number."""


def main() -> None:
    """Run the comparison and print it."""
    args = tyro.cli(Args)
    worst, count = 0.0, 0
    for name, errors in itertools.chain(own_errors(), memory_errors()):
        count += 1
        case_worst = max(max(form.values()) for form in errors.values())
        worst = max(worst, case_worst)
        if args.json:
            by_form = {form: max(values.values()) for form, values in errors.items()}
            print(json.dumps({"case": name, "worst_relative_error": case_worst, "forms": by_form}))
        else:
            print(f"{name:40s} {case_worst:.1e}")
    if args.json:
        print(json.dumps({"cases": count, "worst_relative_error": worst}))
    else:
        print(f"{count} cases, worst relative error {worst:.1e}")


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
        starts = torch.rand(3, 12, generator=generator) < 0.15
        state = net.initial_state(3).map(
            lambda leaf: torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype) * 0.1  # noqa: B023
        )
        expected = run_case(net, "naive", x, starts, state)
        errors: Errors = {
            form: {
                key: relative_error(value, expected[key])
                for key, value in run_case(net, form, x, starts, state).items()
            }
            for form in net.supported_forms()
            if form != "naive"
        }
        clip = "clipped" if max_norm < 1 else "unclipped"
        kind = "modulated" if modulation else "unmodulated"
        yield f"{cell} {rule_class.__name__.lower()} {kind} {clip} alpha={alpha}", errors


def memory_errors() -> Iterator[tuple[str, Errors]]:
    """Yield the same of cases of the associative memories."""
    for name, expected, forms in memory_cases():
        errors: Errors = {
            form: {key: relative_error(value, expected[key]) for key, value in actual.items()}
            for form, actual in forms.items()
        }
        yield name, errors


def run_case(
    net: PlasticNetwork, form: FormName, x: Tensor, starts: Tensor, state: PlasticState
) -> Results:
    """Run one form forwards and backwards and return all its numbers."""
    net.form = form
    state = state.map(lambda leaf: leaf.detach().requires_grad_())
    sources = {"x": x.detach().requires_grad_(), **state.to_dict()}
    sources |= {name: p for name, p in net.named_parameters() if p.requires_grad}
    output, final, probes = net.probe(sources["x"], state, starts)
    results = {"output": output, **final.to_dict(), **probes._asdict()}
    loss = torch.stack([value.square().mean() for value in (output, *final.to_dict().values())])
    grads = torch.autograd.grad(loss.sum(), list(sources.values()), materialize_grads=True)
    results |= {f"gradient of {k}": grad for k, grad in zip(sources, grads, strict=True)}
    return {name: value.detach() for name, value in results.items()}


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Return the largest deviation over the largest magnitude of the reference (or over 1 at 0)."""
    if actual.shape != expected.shape:
        raise ValueError(f"shapes differ: {list(actual.shape)} and {list(expected.shape)}")
    scale = float(expected.abs().max()) or 1.0
    return float((actual - expected).abs().max()) / scale


if __name__ == "__main__":
    main()
