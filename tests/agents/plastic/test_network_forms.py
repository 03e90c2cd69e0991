"""All forms compute the same as the literal one, and that as torch's own layers."""

from functools import partial
from typing import ClassVar

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from agents import Cell, CellStep, Hebbian, PlasticNetwork, RNNHidden, Rule, Write
from agents.plastic.cells import CELLS
from agents.plastic.network import FORMS
from agents.plastic.rules import RULES
from tests.agents.plastic.comparison import differences, numbers

FAST_FORMS = ["auto", *(form for form in FORMS if form != "naive")]
ALPHAS = ["random", "ones", "minus_ones", "off"]


@st.composite
def rules(draw):
    return draw(st.sampled_from(list(RULES.values())))(
        modulation=draw(st.booleans()),
        alpha=draw(st.sampled_from(ALPHAS)),
        max_norm=draw(st.sampled_from([0.02, 1.0, 100.0])),
        base_eta=draw(st.sampled_from([0.0, 0.1, 0.5])),
        base_decay=draw(st.sampled_from([0.0, 0.1, 0.5])),
        weight_clip=draw(st.sampled_from([None, 0.05])),
    )


@st.composite
def cases(draw):
    """Draw a network in float64 and what it takes to run it."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    hidden, batch, steps = (draw(st.integers(1, high)) for high in (9, 4, 14))
    encoder = None
    if draw(st.booleans()):
        encoder = nn.Sequential(nn.Linear(3, hidden), nn.Tanh())
        for parameter in encoder.parameters():
            nn.init.uniform_(parameter, -1, 1, generator=generator)
    rule = draw(rules())
    largest = (3 if encoder is None else hidden) - 1
    teaching = draw(st.integers(0, min(2, largest))) if rule.plastic else 0
    net = PlasticNetwork(
        3,
        2,
        hidden,
        draw(st.sampled_from(list(CELLS))),
        rule,
        extra_dim=draw(st.integers(0, 4)),
        teaching_size=teaching,
        encoder=encoder,
        generator=generator,
    ).double()
    nn.init.uniform_(net.output_weight, 0.5, 1.5, generator=generator)
    if net.teaching_weight is not None:
        nn.init.uniform_(net.teaching_weight, -1, 1, generator=generator)
    x = torch.randn(batch, steps, 3, generator=generator, dtype=torch.float64)
    starts = torch.rand(batch, steps, generator=generator) < draw(st.sampled_from([0.1, 0.4]))
    state = net.initial_state(batch)
    if draw(st.booleans()):
        state = state.map(lambda leaf: leaf.uniform_(-0.05, 0.05, generator=generator))
    return net, x, draw(st.sampled_from([starts, None])), state


@given(case=cases())
@settings(
    deadline=None, max_examples=40, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
def test_forms_agree_with_the_literal_one(case):
    net, *inputs = case
    expected = numbers(net, "naive", *inputs)
    for form in ("auto", *net.supported_forms()):
        assert differences(numbers(net, form, *inputs), expected, 1e-9) == {}, form


@pytest.mark.parametrize("fast_form", FAST_FORMS)
def test_single_precision_is_close_to_double_precision(
    fast_form, cell, plastic_rule_class, make_net, random_state, x
):
    net = make_net(cell, plastic_rule_class(), sizes=(3, 2, 16), form=fast_form)
    state = random_state(net, 3)
    expected = numbers(net, "naive", x, None, state)
    state = state.to(dtype=torch.float32)
    single = numbers(net.float(), fast_form, x.float(), None, state)
    assert {value.dtype for value in single.values()} == {torch.float32}
    single = {key: value.double() for key, value in single.items()}
    assert differences(single, expected, 1e-4) == {}


TORCH = {"rnn": partial(nn.RNN, nonlinearity="relu"), "lstm": nn.LSTM, "gru": nn.GRU}


def test_without_plasticity_it_is_the_recurrent_layer_of_torch(cell, form, make_net, x):
    net = make_net(cell, "none", form=form)
    layer = TORCH[cell](5, 5, batch_first=True)
    copies = {
        "weight_ih_l0": net.layers["cell_input"].weight.T,
        "weight_hh_l0": net.layers["cell_hidden"].weight.T,
        "bias_ih_l0": net.layers["cell_input"].bias,
        "bias_hh_l0": net.layers["cell_hidden"].bias,
    }
    layer = layer.double()
    layer.load_state_dict(copies)
    encoder, readout = net.layers["encoder"], net.layers["readout"]
    output, state = net(x)
    grads = torch.autograd.grad(output.square().sum(), list(net.layers.parameters()))

    h, final = layer(torch.relu(x @ encoder.weight + encoder.bias))
    expected = (h @ readout.weight + readout.bias)[..., :2]
    expected_grads = torch.autograd.grad(
        expected.square().sum(),
        [encoder.weight, encoder.bias, *layer.parameters(), readout.weight, readout.bias],
    )

    torch.testing.assert_close(output, expected, rtol=1e-11, atol=1e-11)
    final = final if cell == "lstm" else (final,)
    for leaf, expected_leaf in zip(state.hidden, final, strict=True):
        torch.testing.assert_close(leaf, expected_leaf[0], rtol=1e-11, atol=1e-11)
    named = dict(zip([n for n, _ in net.layers.named_parameters()], grads, strict=True))
    ih, hh, bias_ih, bias_hh = expected_grads[2:6]
    expected_named = {
        "encoder.weight": expected_grads[0],
        "encoder.bias": expected_grads[1],
        "cell_input.weight": ih.T,
        "cell_input.bias": bias_ih,
        "cell_hidden.weight": hh.T,
        "cell_hidden.bias": bias_hh,
        "readout.weight": expected_grads[6],
        "readout.bias": expected_grads[7],
    }
    torch.testing.assert_close(named, expected_named, rtol=1e-11, atol=1e-11)


class LeakyCell(Cell):
    """h' = (h + tanh q) / 2, a cell that the package does not know."""

    gates = 1

    def initial_hidden(self, zeros):
        return RNNHidden(zeros)

    def forward(self, from_input, from_hidden, hidden):
        activity = torch.tanh(from_input + from_hidden)
        return CellStep(RNNHidden((hidden.h + activity) / 2), activity, activity, hidden)

    def backward(self, grad_h, step):
        grad = grad_h / 2 * (1 - step.input_activity.square())
        return grad, grad


@pytest.mark.parametrize("fast_form", FAST_FORMS)
def test_cell_handed_in_works_in_every_form(
    fast_form, plastic_rule_class, make_net, random_state, x
):
    net = make_net(LeakyCell(), plastic_rule_class(), form=fast_form)
    state = random_state(net, 3)
    expected = numbers(net, "naive", x, None, state)
    assert differences(numbers(net, fast_form, x, None, state), expected, 1e-9) == {}


class AntiHebbian(Rule):
    """Hebbian with a minus, a rule that the package does not know."""

    writes_bias: ClassVar[bool] = False

    def writes(self, step):
        return {name: Write(-layer.post) for name, layer in step.layers.items()}


@pytest.mark.parametrize("fast_form", FAST_FORMS)
def test_rule_handed_in_works_in_every_form(fast_form, cell, make_net, assert_close, x):
    net = make_net(cell, AntiHebbian(), form=fast_form)
    twin = make_net(cell, Hebbian(), form=fast_form)
    for layer in twin.layers.values():
        layer.weight_alpha.data.neg_()
    assert_close(net(x)[0], twin(x)[0])
    assert_close(net(x)[1], twin(x)[1])


def test_literal_form_refuses_a_rule_it_does_not_know(make_net, x):
    net = make_net(rule=AntiHebbian())
    net.form = "naive"
    with pytest.raises(ValueError, match="no literal form of AntiHebbian"):
        net(x)


def test_gradient_of_the_outer_loss_is_that_of_finite_differences(
    cell, plastic_rule_class, form, make_net, x
):
    net = make_net(cell, plastic_rule_class(base_eta=0.5), sizes=(3, 1, 2), form=form, extra_dim=1)
    names, parameters = zip(*net.named_parameters(), strict=True)

    def outputs(*values):
        return torch.func.functional_call(net, dict(zip(names, values, strict=True)), (x[:2, :4],))

    inputs = [p.detach().clone().requires_grad_(p.requires_grad) for p in parameters]
    assert torch.autograd.gradcheck(lambda *v: outputs(*v)[0], inputs, fast_mode=True)
