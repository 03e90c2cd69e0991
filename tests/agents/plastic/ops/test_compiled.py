"""The compiled form where it differs from the others: threads, fallback, custom gradients."""

import copy

import pytest
import torch

from agents import Gradient, Hebbian, PlasticNetwork, builds
from agents.plastic.ops.cpu import form as compiled
from agents.plastic.ops.cpu import library
from tests.agents.plastic.comparison import numbers

needs_kernel = pytest.mark.skipif(library.load() is None, reason="the kernel was not built")


def network(rule="gradient", cell="rnn", **kwargs):
    generator = torch.Generator().manual_seed(0)
    return PlasticNetwork(3, 2, 5, cell, rule, generator=generator, **kwargs).double()


def sequence(batch, steps, *, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, steps, 3, generator=generator, dtype=torch.float64)


@needs_kernel
def test_is_what_a_network_uses_by_default():
    assert network().supported_forms()[0] == "compiled"


@needs_kernel
@pytest.mark.parametrize("cell", ["rnn", "lstm"])
@pytest.mark.parametrize("rule", [Gradient(base_eta=0.5), Hebbian(base_eta=0.5, max_norm=0.1)])
def test_gradients_are_those_of_finite_differences(rule, cell):
    net = network(rule, cell, form="compiled")
    x = sequence(2, 4)
    starts = torch.tensor([[False, False, True, False], [False] * 4])
    state = net.initial_state(2).map(lambda leaf: (leaf + 0.1).requires_grad_())
    names, parameters = zip(*net.named_parameters(), strict=True)
    parameters = [p.detach().clone().requires_grad_() for p in parameters]

    def outputs(x, *leaves):
        count = len(parameters)
        flat = dict(zip(state.to_dict(), leaves[count:], strict=True))
        call = (x, state.from_dict(flat), starts)
        y, final = torch.func.functional_call(
            net, dict(zip(names, leaves[:count], strict=True)), call
        )
        return y, *final.to_dict().values()

    inputs = [x.requires_grad_(), *parameters, *state.to_dict().values()]
    assert torch.autograd.gradcheck(outputs, inputs, fast_mode=True, atol=1e-6)


@needs_kernel
@pytest.mark.parametrize("rule", ["gradient", "hebbian"])
@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_threads_change_nothing_but_the_order_of_sums(monkeypatch, rule, cell):
    net, x = network(rule, cell), sequence(7, 9)
    starts = torch.rand(7, 9, generator=torch.Generator().manual_seed(3)) < 0.2
    alone = numbers(net, "compiled", x, starts)
    monkeypatch.setattr(library, "_PARALLEL_WORK", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    together = numbers(net, "compiled", x, starts)
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


@needs_kernel
@pytest.mark.parametrize("steps", [1, 2, 16, 17, 50])
def test_segments_of_the_backward_pass_join_without_a_seam(steps):
    net, x = network(), sequence(2, steps)
    actual, expected = (numbers(net, form, x) for form in ("compiled", "closed"))
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@needs_kernel
def test_gradient_of_the_state_alone_is_found():
    net, x = network(), sequence(2, 4)
    gradients = []
    for form in ("compiled", "naive"):
        net.form = form
        net.zero_grad()
        net(x)[1].fast["cell_input"].weight.sum().backward()
        gradients.append(net.layers["encoder"].weight.grad.clone())
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


@needs_kernel
def test_inputs_may_be_views():
    net, x = network(), sequence(4, 6)
    base = numbers(net, "compiled", x)
    strided = x.transpose(0, 1).contiguous().transpose(0, 1)
    again = numbers(net, "compiled", strided)
    assert all(torch.equal(again[name], base[name]) for name in base)


@needs_kernel
def test_what_it_cannot_do_falls_to_the_closed_form():
    net = network(Gradient(weight_clip=0.1))
    assert net.supported_forms() == ["closed", "naive"]
    net.form = "compiled"
    with pytest.raises(ValueError, match="weight_clip"):
        net(torch.zeros(1, 1, 3, dtype=torch.float64))
    assert "compiled" not in network().to(torch.bfloat16).supported_forms()


def test_without_a_build_everything_still_computes(monkeypatch):
    x = sequence(2, 5)
    expected, _ = network()(x)
    monkeypatch.setattr(builds, "_instruction_sets", list)
    library._search.cache_clear()
    monkeypatch.setattr(library, "_search", library._search.__wrapped__)
    net = network()
    assert "built" in compiled.obstacle(net.rule, net.cell, [x])
    assert net.supported_forms()[0] == "closed"
    torch.testing.assert_close(net(x)[0], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("form", ["auto", "closed"])
def test_autocast_leaves_the_precision_of_the_parameters(form):
    net = PlasticNetwork(3, 2, 5, form=form)
    x = torch.randn(2, 6, 3)
    expected, _ = net(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = net(x.bfloat16().float())
        z, _ = net(x.bfloat16())
    assert y.dtype == torch.float32
    assert state.fast["readout"].weight.dtype == torch.float32
    torch.testing.assert_close(y, expected, rtol=0.05, atol=0.05)  # x was rounded to bfloat16
    assert torch.equal(y, z)


def test_wrong_precision_is_refused_clearly():
    net = PlasticNetwork(3, 2, 5)
    with pytest.raises(ValueError, match=r"torch\.float32 on cpu, but its input is torch\.float64"):
        net(torch.zeros(1, 1, 3, dtype=torch.float64))
    state = copy.deepcopy(net).double().initial_state(1)
    with pytest.raises(ValueError, match="the state holds"):
        net(torch.zeros(1, 1, 3), state)
