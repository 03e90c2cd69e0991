"""Cells: their step and its gradient."""

import pytest
import torch
from torch import nn

from agents import GRUCell, LSTMCell, LSTMHidden, RNNCell, RNNHidden
from agents.plastic.cells import CELLS

REFERENCES = {
    "rnn": nn.RNNCell(5, 4, nonlinearity="relu").double(),
    "lstm": nn.LSTMCell(5, 4).double(),
    "gru": nn.GRUCell(5, 4).double(),
}


@pytest.fixture(params=list(CELLS))
def cell(request):
    return CELLS[request.param]()


def draw(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def draw_hidden(cell, seed=0):
    """Return a hidden state of 3 samples and 4 units."""
    return type(cell.initial_hidden(draw(3, 4, seed=seed)))(
        *(draw(*leaf.shape, seed=seed + i) for i, leaf in enumerate(hidden_of(cell)))
    )


def hidden_of(cell):
    return cell.initial_hidden(torch.zeros(3, 4, dtype=torch.float64))


def draw_inputs(cell):
    return draw(3, 4 * cell.gates, seed=3), draw(3, 4 * cell.gates, seed=5)


def test_backward_is_the_gradient_of_forward(cell):
    inputs = [leaf.requires_grad_() for leaf in draw_inputs(cell)]
    grad_h = draw(3, 4, seed=4)
    step = cell.forward(*inputs, draw_hidden(cell))
    expected = torch.autograd.grad(step.hidden.h, inputs, grad_h, retain_graph=True)
    torch.testing.assert_close(cell.backward(grad_h, step), expected, rtol=1e-12, atol=1e-12)


def test_backward_can_be_differentiated(cell):
    kind = type(hidden_of(cell))

    def backward(from_input, from_hidden, grad_h, *hidden):
        return cell.backward(grad_h, cell.forward(from_input, from_hidden, kind(*hidden)))

    inputs = [*draw_inputs(cell), draw(3, 4, seed=4), *draw_hidden(cell)]
    assert torch.autograd.gradcheck(backward, [leaf.requires_grad_() for leaf in inputs])


@pytest.mark.parametrize("name", list(CELLS))
def test_step_is_that_of_torch(name):
    cell, reference = CELLS[name](), REFERENCES[name]
    x, hidden = draw(3, 5, seed=5), draw_hidden(cell)
    from_input = x @ reference.weight_ih.T + reference.bias_ih
    from_hidden = hidden.h @ reference.weight_hh.T + reference.bias_hh
    step = cell.forward(from_input, from_hidden, hidden)
    expected = reference(x, tuple(hidden) if len(hidden) > 1 else hidden.h)
    expected = expected if isinstance(expected, tuple) else (expected,)
    torch.testing.assert_close(tuple(step.hidden), expected, rtol=1e-12, atol=1e-12)
    assert step.previous is hidden


def test_activity_of_an_rnn_is_its_hidden_state():
    step = RNNCell().forward(*draw_inputs(RNNCell()), draw_hidden(RNNCell()))
    assert step.input_activity is step.hidden_activity is step.hidden.h


def test_activity_of_an_lstm_is_its_four_gates():
    a, b = draw_inputs(LSTMCell())
    step = LSTMCell().forward(a, b, draw_hidden(LSTMCell()))
    q = a + b
    gates = torch.cat([q[:, :8].sigmoid(), q[:, 8:12].tanh(), q[:, 12:].sigmoid()], dim=1)
    torch.testing.assert_close(step.input_activity, gates)
    assert step.hidden_activity is step.input_activity


def test_activities_of_a_gru_differ_where_its_reset_gate_stands_between():
    a, b = draw_inputs(GRUCell())
    step = GRUCell().forward(a, b, draw_hidden(GRUCell()))
    gates = (a + b)[:, :8].sigmoid()
    new = (a[:, 8:] + gates[:, :4] * b[:, 8:]).tanh()
    torch.testing.assert_close(step.input_activity, torch.cat([gates, new], 1))
    torch.testing.assert_close(step.hidden_activity, torch.cat([gates, gates[:, :4] * new], 1))


def test_initial_hidden_is_zero(cell):
    hidden = hidden_of(cell)
    assert isinstance(hidden, LSTMHidden if isinstance(cell, LSTMCell) else RNNHidden)
    assert all(leaf.shape == (3, 4) and not leaf.any() for leaf in hidden)
