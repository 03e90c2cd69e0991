"""Cells: their step and its gradient."""

import pytest
import torch
from torch import nn

from agents import LSTMCell, LSTMHidden, RNNCell, RNNHidden

CELLS = [RNNCell(), LSTMCell()]


def draw(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def draw_hidden(cell, seed=0):
    h = draw(3, 4, seed=seed)
    return LSTMHidden(h, draw(3, 4, seed=seed + 1)) if isinstance(cell, LSTMCell) else RNNHidden(h)


@pytest.mark.parametrize("cell", CELLS, ids=["rnn", "lstm"])
def test_backward_is_the_gradient_of_forward(cell):
    q = draw(3, 4 * cell.gates, seed=3).requires_grad_()
    grad_h = draw(3, 4, seed=4)
    step = cell.forward(q, draw_hidden(cell))
    (expected,) = torch.autograd.grad(step.hidden.h, q, grad_h, retain_graph=True)
    torch.testing.assert_close(cell.backward(grad_h, step), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS, ids=["rnn", "lstm"])
def test_backward_can_be_differentiated(cell):
    def backward(q, grad_h, *hidden):
        return cell.backward(grad_h, cell.forward(q, type(draw_hidden(cell))(*hidden)))

    inputs = [draw(3, 4 * cell.gates, seed=3), draw(3, 4, seed=4), *draw_hidden(cell)]
    assert torch.autograd.gradcheck(backward, [leaf.requires_grad_() for leaf in inputs])


def test_lstm_step_is_that_of_torch():
    reference = nn.LSTMCell(5, 4).double()
    x, hidden = draw(3, 5, seed=5), draw_hidden(LSTMCell())
    q = x @ reference.weight_ih.T + hidden.h @ reference.weight_hh.T
    step = LSTMCell().forward(q + reference.bias_ih + reference.bias_hh, hidden)
    torch.testing.assert_close(tuple(step.hidden), reference(x, hidden), rtol=1e-12, atol=1e-12)


def test_rnn_step_is_that_of_torch():
    reference = nn.RNNCell(5, 4, nonlinearity="relu").double()
    x, hidden = draw(3, 5, seed=5), draw_hidden(RNNCell())
    q = x @ reference.weight_ih.T + hidden.h @ reference.weight_hh.T
    step = RNNCell().forward(q + reference.bias_ih + reference.bias_hh, hidden)
    torch.testing.assert_close(step.hidden.h, reference(x, hidden.h), rtol=1e-12, atol=1e-12)


def test_activity_of_an_lstm_is_its_four_gates():
    q, hidden = draw(3, 16, seed=6), draw_hidden(LSTMCell())
    step = LSTMCell().forward(q, hidden)
    gates = torch.cat([q[:, :8].sigmoid(), q[:, 8:12].tanh(), q[:, 12:].sigmoid()], dim=1)
    torch.testing.assert_close(step.activity, gates)
    assert step.previous is hidden


def test_activity_of_an_rnn_is_its_hidden_state():
    step = RNNCell().forward(draw(3, 4, seed=7), draw_hidden(RNNCell()))
    assert torch.equal(step.activity, step.hidden.h)


@pytest.mark.parametrize("cell", CELLS, ids=["rnn", "lstm"])
def test_initial_hidden_is_zero(cell):
    hidden = cell.initial_hidden(torch.zeros(3, 4))
    assert isinstance(hidden, type(draw_hidden(cell)))
    assert all(leaf.shape == (3, 4) and not leaf.any() for leaf in hidden)
