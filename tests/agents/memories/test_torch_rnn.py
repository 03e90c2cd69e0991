"""Torch's recurrent modules as cores equal a loop over time, wherever episodes start."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from agents import TorchCore
from agents.memories.torch_rnn import HiddenCellState, HiddenState

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


def test_batch_first_or_not():
    core = TorchCore(nn.LSTM(3, 4, batch_first=False))
    assert core(torch.zeros(2, 5, 3))[0].shape == (2, 5, 4)
