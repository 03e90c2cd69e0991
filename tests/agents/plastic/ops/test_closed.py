"""The closed form where it differs from the others: memory in segments, devices."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from agents import PlasticNetwork
from agents.plastic.ops import closed


@pytest.fixture
def segments(monkeypatch):
    """Return a function that says from how many bytes on sequences go in segments, and a count."""
    calls = []
    original = closed.checkpoint

    def counted(*args, **kwargs):
        calls.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(closed, "checkpoint", counted)

    def choose(on):
        calls.clear()
        monkeypatch.setattr(closed, "_LARGE", 0 if on else 2**60)
        return calls

    return choose


def network(rule="gradient", cell="rnn", hidden_size=5):
    generator = torch.Generator().manual_seed(0)
    return PlasticNetwork(3, 2, hidden_size, cell, rule, form="closed", generator=generator)


def inputs(batch, steps):
    generator = torch.Generator().manual_seed(1)
    starts = torch.rand(batch, steps, generator=generator) < 0.1
    return torch.randn(batch, steps, 3, generator=generator).requires_grad_(), starts


def numbers(net, x, starts, *, twice):
    y, final, probes = net.probe(x, None, starts)
    loss = y.square().sum() + sum(leaf.sin().sum() for leaf in final.to_dict().values())
    sources = [x, *(p for p in net.parameters() if p.requires_grad)]
    grads = torch.autograd.grad(loss, sources, create_graph=twice)
    made = [y, *final.to_dict().values(), *probes, *grads]
    if twice:
        penalty = sum(grad.square().sum() for grad in grads)
        made += torch.autograd.grad(penalty, sources)
    return made


@pytest.mark.parametrize("steps", [1, 3, 11])
@pytest.mark.parametrize("twice", [False, True])
def test_segments_change_no_bit(steps, twice, cell, plastic_rule_class, segments):
    net, (x, starts) = network(plastic_rule_class(), cell), inputs(2, steps)
    calls = segments(on=True)
    actual = numbers(net, x, starts, twice=twice)
    assert len(calls) == {1: 0, 3: 1, 11: 2}[steps]  # the last segment is computed once
    assert segments(on=False) == []
    expected = numbers(net, x, starts, twice=twice)
    if not twice:
        assert all(torch.equal(one, other) for one, other in zip(actual, expected, strict=True))
    torch.testing.assert_close(actual, expected)


def test_small_sequences_and_those_without_gradients_are_computed_at_once(segments, monkeypatch):
    net, (x, starts), calls = network(), inputs(2, 9), segments(on=True)
    net(x, None, starts)
    assert len(calls) == 2
    with torch.no_grad():
        net(x, None, starts)
    torch.func.vmap(lambda x: net(x)[0])(torch.stack([x, x]))
    fast = [leaf for layer in net.initial_state(2).fast.values() for leaf in layer]
    monkeypatch.setattr(closed, "_LARGE", 9 * sum(leaf.nbytes for leaf in fast) + 1)
    net(x, None, starts)
    assert len(calls) == 2
    monkeypatch.setattr(closed, "_LARGE", closed._LARGE - 1)
    net(x, None, starts)
    assert len(calls) == 4


@pytest.mark.filterwarnings("ignore")  # the profiler's own
def test_memory_grows_with_the_root_of_the_number_of_steps(segments):
    net = network(hidden_size=60)

    def peak(steps):
        x, _ = inputs(8, steps)
        with torch.autograd.profiler.profile(profile_memory=True) as profile:
            net(x)[0].square().sum().backward()
        size = most = 0
        for event in profile.kineto_results.events():
            if event.name() == "[memory]":
                size += event.nbytes()
                most = max(most, size)
        return most

    segments(on=True)
    short, long = peak(4), peak(36)
    assert 2 < long / short < 4  # √9 = 3
    segments(on=False)
    assert peak(36) > 2 * long


class OneDevice(TorchDispatchMode):
    """Refuse operations that make a tensor on another device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, torch.Tensor):
                assert leaf.device.type == "meta", f"{func} made a tensor on {leaf.device}"
        return made


def test_every_tensor_is_on_the_device_of_the_input(rule_class, cell, segments):
    net = network(rule_class(), cell).to("meta")
    x, starts = (leaf.detach().to("meta") for leaf in inputs(2, 4))
    with OneDevice():
        y, state, probes = net.probe(x, None, starts)
        net.step(x[:, 0], state, starts[:, 0])
        y.sum().backward()
    assert {leaf.device.type for leaf in [y, *probes, *state.to_dict().values()]} == {"meta"}
    calls = segments(on=True)
    net(x, state.detach(), starts)[0].sum().backward()
    assert len(calls) == int(net.rule.plastic)


def test_the_watch_over_devices_sees_one():
    with pytest.raises(AssertionError, match="made a tensor on cpu"), OneDevice():
        torch.zeros(2)
