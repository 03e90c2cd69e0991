"""Torch's recurrent modules as cores equal a loop over time, wherever episodes start."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from agents import Gradient, PlasticNetwork
from agents.memories.torch_rnn import HiddenCellState, HiddenState, TorchCore
from agents.sb3.cores import Feedforward, make_core
from agents.tree import leaves, map_tree, to_arrays

MODULES = {
    "lstm": lambda: nn.LSTM(3, 5),
    "lstm-batch-first": lambda: nn.LSTM(3, 5, batch_first=True),
    "lstm-layers": lambda: nn.LSTM(3, 5, num_layers=2),
    "lstm-projection": lambda: nn.LSTM(3, 5, proj_size=2, batch_first=True),
    "gru": lambda: nn.GRU(3, 5, batch_first=True),
    "gru-layers": lambda: nn.GRU(3, 5, num_layers=2),
    "rnn": lambda: nn.RNN(3, 5, nonlinearity="relu"),
}


def make(name, seed=0):
    torch.manual_seed(seed)
    return TorchCore(MODULES[name]()).double()


def loop(module, x, state, starts):
    """Run torch's module alone, step by step, one sample at a time."""
    outputs, finals = [], []
    for k in range(len(x)):
        parts = [leaf[k].unsqueeze(1) for leaf in state]  # [layers, 1, size]
        row = []
        for t in range(x.shape[1]):
            if starts[k, t]:
                parts = [torch.zeros_like(part) for part in parts]
            step = x[k, t].view(1, 1, -1)
            output, after = module(step, tuple(parts) if len(parts) == 2 else parts[0])
            parts = list(after) if len(parts) == 2 else [after]
            row.append(output.flatten())
        outputs.append(torch.stack(row))
        finals.append([part.squeeze(1) for part in parts])
    return torch.stack(outputs), type(state)(*(torch.stack(part) for part in zip(*finals)))  # noqa: B905


def problem(core, batch, steps, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, steps, 3, generator=generator, dtype=torch.float64)
    state = core.initial_state(batch)
    state = state.map(lambda leaf: torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype))
    return x.requires_grad_(), state.map(torch.Tensor.requires_grad_)


def gradients(core, x, state, output, final):
    weights = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output)
    loss = (output * weights).sum() + sum((leaf**2).sum() for leaf in final)
    inputs = [x, *state, *core.parameters()]
    return torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("share", [0.0, 0.15, 0.5, 1.0])
def test_equals_a_loop_with_all_gradients(name, share):
    core = make(name)
    x, state = problem(core, 4, 17)
    starts = torch.rand(4, 17, generator=torch.Generator().manual_seed(3)) < share
    actual, expected = core(x, state, starts), loop(core.module, x, state, starts)
    torch.testing.assert_close(actual[0], expected[0])
    assert type(actual[1]) is type(expected[1])
    torch.testing.assert_close(actual[1], expected[1])
    torch.testing.assert_close(
        gradients(core, x, state, *actual), gradients(core, x, state, *expected)
    )
    outputs, expected = core.outputs(x, state, starts), loop(core.module, x, state, starts)
    torch.testing.assert_close(outputs, expected[0])
    torch.testing.assert_close(
        gradients(core, x, state, outputs, ()), gradients(core, x, state, expected[0], ())
    )


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_starts(data):
    core = make("lstm")
    batch, steps = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 12))
    rows = st.lists(st.booleans(), min_size=steps, max_size=steps)
    starts = torch.tensor(data.draw(st.lists(rows, min_size=batch, max_size=batch)))
    x, state = problem(core, batch, steps)
    actual, expected = core(x, state, starts), loop(core.module, x, state, starts)
    torch.testing.assert_close(actual[0], expected[0])
    torch.testing.assert_close(actual[1], expected[1])
    torch.testing.assert_close(core.outputs(x, state, starts), expected[0])


@pytest.mark.parametrize("name", MODULES)
def test_steps_equal_the_sequence(name):
    core = make(name)
    x, state = problem(core, 3, 9)
    starts = torch.rand(3, 9, generator=torch.Generator().manual_seed(3)) < 0.3
    whole, final = core(x, state, starts)
    for t in range(9):
        output, state = core.step(x[:, t], state, starts[:, t])
        torch.testing.assert_close(output, whole[:, t])
    torch.testing.assert_close(state, final)


def test_no_leak_across_episodes():
    core = make("lstm")
    x, state = problem(core, 2, 8)
    starts = torch.zeros(2, 8, dtype=torch.bool)
    starts[0, 5] = True
    output, final = core(x, state, starts)
    (gradient,) = torch.autograd.grad(output[0, 5:].sum() + final.c[0].sum(), x)
    assert not gradient[0, :5].any()
    assert not gradient[1].any()
    fresh, _ = core(x[:1, 5:])
    torch.testing.assert_close(output[:1, 5:], fresh)


def test_starts_from_zeros_without_a_state():
    core = make("gru-layers")
    x, _ = problem(core, 2, 4)
    torch.testing.assert_close(core(x), core(x, core.initial_state(2)))
    assert core.initial_state(2).h.shape == (2, 2, 5)


def test_a_feedforward_core_sees_each_step_alone():
    torch.manual_seed(0)
    core = make_core("mlp", 3, 5)
    assert isinstance(core, Feedforward)
    assert core.output_size == 5
    x = torch.randn(2, 7, 3)
    starts = torch.rand(2, 7) < 0.3
    outputs, state = core(x, core.initial_state(2), starts)
    torch.testing.assert_close(outputs, (x @ core.layer.weight.T + core.layer.bias).tanh())
    for t in range(7):
        output, after = core.step(x[:, t], state, starts[:, t])
        torch.testing.assert_close(output, outputs[:, t])
        assert after == state == core.initial_state(2) == ()


def test_states_map_detach_and_move():
    core = make("lstm-projection")
    _, state = problem(core, 2, 3)
    assert isinstance(state, HiddenCellState)
    assert [leaf.shape[-1] for leaf in state] == [2, 5]
    assert not any(leaf.requires_grad for leaf in state.detach())
    assert state.to("cpu") == state
    gru = make("gru").initial_state(1)
    assert isinstance(gru.map(lambda leaf: leaf + 1).detach().to("cpu"), HiddenState)


@pytest.mark.parametrize(
    ("module", "problem"),
    [
        (nn.LSTM(2, 2, bidirectional=True), "bidirectional"),
        (nn.GRU(2, 2, num_layers=2, dropout=0.1), "dropout"),
        (nn.Linear(2, 2), "LSTM, GRU or RNN"),
    ],
)
def test_refuses_modules(module, problem):
    with pytest.raises(ValueError, match=problem):
        TorchCore(module)


def test_make_core():
    net = make_core("plastic", 3, 16, rule=Gradient(base_eta=0.3), cell="lstm", extra_dim=2)
    assert isinstance(net, PlasticNetwork)
    assert (net.output_size, net.extra_dim, net.rule.base_eta) == (32, 2, 0.3)
    assert make_core("plastic", 16, 16, encoded=True).encoder is not None
    lstm = make_core("lstm", 3, 16, num_layers=2)
    assert lstm.module.num_layers == 2
    assert isinstance(make_core(lambda i, h: nn.GRU(i, h), 3, 16), TorchCore)
    own = make_core(lambda i, h: PlasticNetwork(i, 2, h, rule="none"), 3, 4)
    assert own.output_size == 2


@pytest.mark.parametrize(
    ("core", "kwargs", "problem"),
    [
        ("transformer", {}, "core must be one of"),
        ("lstm", {"rule": "hebbian"}, "rule belongs to core='plastic'"),
        ("mlp", {"cell": "lstm"}, "cell belongs to core='plastic'"),
        (lambda i, h: nn.Linear(i, h), {}, "without output_size"),
        (lambda i, h: object(), {}, "RecurrentCore"),
    ],
)
def test_make_core_refuses(core, kwargs, problem):
    with pytest.raises(ValueError, match=problem):
        make_core(core, 3, 4, **kwargs)


def test_trees():
    net = PlasticNetwork(2, 1, 3)
    state = net.initial_state(2)
    one_more = map_tree(lambda leaf: leaf + 1, state)
    assert type(one_more) is type(state)
    assert all((leaf == 1).all() for leaf in leaves(one_more))
    assert len(list(leaves(state))) == len(state.to_dict())
    arrays = to_arrays([one_more, (torch.zeros(1), 2)])
    assert arrays[0].hidden.h.sum() == 6
    back = map_tree(torch.as_tensor, arrays)
    torch.testing.assert_close(back[0].to_dict(), one_more.to_dict())
