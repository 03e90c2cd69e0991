"""Small networks, states and inputs in float64, and fixtures that run a test in every variant."""

from functools import cache

import pytest
import torch

from agents import PlasticNetwork
from agents.plastic.cells import CELLS
from agents.plastic.network import FORMS
from agents.plastic.ops.cpu import library
from agents.plastic.rules import RULES


@pytest.fixture(scope="session", params=list(FORMS))
def form(request):
    return request.param


@pytest.fixture(scope="session", params=list(CELLS))
def cell(request):
    return request.param


@pytest.fixture(scope="session", params=list(RULES))
def rule_class(request):
    return RULES[request.param]


@pytest.fixture(scope="session", params=[name for name, rule in RULES.items() if rule.plastic])
def plastic_rule_class(request):
    return RULES[request.param]


def pytest_collection_modifyitems(config, items):
    """Leave most pairs of a rule and a cell to the slow tests, and out what a form cannot compute.

    Each is tried with the RNN, or the gradient rule; in the literal form, which is slow, each rule
    with one cell; the compiled form has few pairs.
    """
    kept, impossible = [], []
    for item in items:
        chosen = getattr(getattr(item, "callspec", None), "params", {})
        rule = chosen.get("rule_class", chosen.get("plastic_rule_class"))
        cell, form = chosen.get("cell"), chosen.get("form", chosen.get("fast_form"))
        if rule in RULES and cell in CELLS:
            if form == "compiled":
                if not compiled(rule, cell):
                    impossible.append(item)
                    continue
            elif not _is_fast(rule, cell, form):
                item.add_marker(pytest.mark.slow)
        kept.append(item)
    if impossible:
        config.hook.pytest_deselected(items=impossible)
        items[:] = kept


def _is_fast(rule, cell, form):
    if form == "naive":
        return list(CELLS)[list(RULES).index(rule) % len(CELLS)] == cell
    return cell == "rnn" or rule == "gradient"


@cache
def compiled(rule, cell):
    """Return whether the compiled form, if there is one, has a pair of a rule and a cell."""
    return (
        library.load() is None
        or "compiled" in PlasticNetwork(1, 1, 2, cell, rule).supported_forms()
    )


@pytest.fixture(scope="session")
def make_net():
    """Return a function that makes a network in float64, the same for the same arguments.

    It skips the test if the form asked for cannot compute that network.
    """

    def make(cell="rnn", rule="gradient", *, sizes=(3, 2, 5), seed=0, **kwargs):
        generator = torch.Generator().manual_seed(seed)
        net = PlasticNetwork(*sizes, cell, rule, generator=generator, **kwargs).double()
        if net.output_weight.requires_grad:
            net.output_weight.data.uniform_(0.5, 1.5, generator=generator)
        if net.teaching_weight is not None:
            net.teaching_weight.data.uniform_(-1, 1, generator=generator)
        if net.form not in ("auto", *net.supported_forms()):
            pytest.skip(f"{net.form} does not compute this network")
        return net

    return make


@pytest.fixture(scope="session")
def random_state():
    """Return a function that draws a state of a network, fast weights within ±`bound`."""

    def draw(net, batch, *, seed=1, bound=0.3):
        generator = torch.Generator().manual_seed(seed)
        return net.initial_state(batch).map(
            lambda leaf: torch.empty_like(leaf).uniform_(-bound, bound, generator=generator)
        )

    return draw


@pytest.fixture
def net(make_net, form, cell, rule_class):
    """A network of every form, cell and rule, with strong writes that are bounded now and then."""
    return make_net(cell, rule_class(base_eta=0.4, base_decay=0.2, max_norm=0.9), form=form)


@pytest.fixture
def plastic_net(make_net, form, cell, plastic_rule_class):
    """Like `net`, for the rules that write."""
    rule = plastic_rule_class(base_eta=0.4, base_decay=0.2, max_norm=0.9)
    return make_net(cell, rule, form=form)


@pytest.fixture
def x():
    """Inputs of 3 samples and 8 steps."""
    return torch.randn(3, 8, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.fixture(scope="session")
def assert_close():
    """Return a function that compares tensors or states up to rounding, NaN equal to NaN."""

    def check(actual, expected, tolerance=1e-12):
        if not isinstance(actual, torch.Tensor):
            actual, expected = actual.to_dict(), expected.to_dict()
        torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance, equal_nan=True)

    return check
