"""Bad arguments are refused by name; good ones shape and initialise the network."""

import pytest
import torch
from torch import nn

from agents import Gradient, Hebbian, LSTMCell, NonPlastic, PlasticNetwork


def zeros(*shape):
    return torch.zeros(*shape, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("input_size", 0),
        ("output_size", 0),
        ("hidden_size", 0),
        ("hidden_size", -3),
        ("extra_dim", -1),
        ("cell", "gry"),
        ("cell", LSTMCell),
        ("rule", "ojo"),
        ("rule", Gradient),
        ("form", "fast"),
        ("form", None),
    ],
)
def test_bad_argument_is_refused_by_name(name, value):
    arguments = {"input_size": 3, "output_size": 2, "hidden_size": 5, name: value}
    with pytest.raises(ValueError, match=f"{name} must be"):
        PlasticNetwork(**arguments)


def test_unknown_form_cannot_be_set_later(make_net):
    net = make_net()
    with pytest.raises(ValueError, match="form must be"):
        net.form = "fast"
    assert net.form == "auto"


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 8, 4), (2, 0, 3), (2, 8, 3, 1)])
def test_input_of_the_wrong_shape_is_refused(net, shape):
    with pytest.raises(ValueError, match="x must have shape"):
        net(zeros(*shape))


@pytest.mark.parametrize("shape", [(2, 4), (2, 1, 3)])
def test_step_refuses_an_input_of_the_wrong_shape(net, shape):
    with pytest.raises(ValueError, match="x must have shape"):
        net.step(zeros(*shape))


@pytest.mark.parametrize("batch_size", [1, 3])
def test_state_of_another_batch_size_is_refused(net, batch_size):
    with pytest.raises(ValueError, match=f"x has 2 samples, but the state has {batch_size}"):
        net(zeros(2, 8, 3), net.initial_state(batch_size))


def test_state_of_a_network_without_plasticity_is_refused(plastic_net, make_net, cell):
    state = make_net(cell, NonPlastic()).initial_state(2)
    with pytest.raises(ValueError, match="state"):
        plastic_net(zeros(2, 8, 3), state)


def test_fast_weights_are_refused_by_a_network_without_plasticity(make_net, cell, form):
    state = make_net(cell, Hebbian()).initial_state(2)
    with pytest.raises(ValueError, match="state"):
        make_net(cell, NonPlastic(), form=form)(zeros(2, 8, 3), state)


def test_hidden_state_of_the_other_cell_is_refused(net, make_net, cell):
    other = make_net("rnn" if cell == "lstm" else "lstm", net.rule).initial_state(2)
    with pytest.raises(ValueError, match="state"):
        net(zeros(2, 8, 3), net.initial_state(2)._replace(hidden=other.hidden))


def test_state_of_another_hidden_size_is_refused(net, make_net):
    other = make_net(net.cell, net.rule, sizes=(3, 2, 7)).initial_state(2)
    with pytest.raises(ValueError, match="state"):
        net(zeros(2, 8, 3), other)


@pytest.mark.parametrize(
    "starts",
    [
        torch.zeros(2, 8),
        torch.zeros(2, 8, dtype=torch.uint8),
        torch.zeros(2, 7, dtype=torch.bool),
        torch.zeros(8, 2, dtype=torch.bool),
        torch.zeros(2, dtype=torch.bool),
        torch.zeros(2, 8, 1, dtype=torch.bool),
    ],
    ids=lambda starts: f"{starts.dtype}{list(starts.shape)}",
)
def test_episode_starts_of_the_wrong_type_or_shape_are_refused(net, starts):
    with pytest.raises(ValueError, match=r"episode_starts must be bool \[2, 8\]"):
        net(zeros(2, 8, 3), None, starts)


@pytest.mark.parametrize("starts", [torch.zeros(2), torch.zeros(2, 1, dtype=torch.bool)])
def test_step_refuses_episode_starts_of_the_wrong_type_or_shape(net, starts):
    with pytest.raises(ValueError, match="episode_starts must be bool"):
        net.step(zeros(2, 3), None, starts)


@pytest.mark.parametrize("features", [4, 6])
def test_encoder_of_the_wrong_width_is_refused(make_net, form, features):
    net = make_net(encoder=nn.Linear(3, features), form=form)
    with pytest.raises(ValueError, match="encoder"):
        net(zeros(2, 8, 3))


def test_empty_sequence_is_refused_with_an_encoder_too(make_net, form):
    with pytest.raises(ValueError, match=r"encoder|x must"):
        make_net(encoder=nn.Linear(3, 5), form=form)(zeros(2, 0, 3))


def test_encoder_handed_in_replaces_the_plastic_one(make_net, form, x):
    encoder = nn.Sequential(nn.Flatten(2), nn.Linear(6, 5))
    net = make_net(encoder=encoder, form=form)
    assert "encoder" not in net.layers
    assert set(net.initial_state(2).fast) == {"cell_input", "cell_hidden", "readout"}
    images = torch.stack([x, x], dim=-1)  # [B, T, 3, 2]
    output, _ = net(images)
    assert output.shape == (3, 8, 2)
    assert torch.allclose(net.step(images[:, 0])[0], output[:, 0])
    output.sum().backward()
    assert encoder[1].weight.grad.any()


# Initialisation.


def layer_fan_outs(cell, readout):
    return {"encoder": 49, "cell_input": 49, "cell_hidden": 49, "readout": readout}


def test_slow_parameters_are_uniform_within_one_over_root_fan_out(cell, rule_class, make_net):
    net = make_net(cell, rule_class(), sizes=(30, 3, 49))
    for name, fan_out in layer_fan_outs(cell, 3 + 4 + 1).items():
        bound, layer = fan_out**-0.5, net.layers[name]
        assert layer.bias.abs().max().item() <= bound * (1 + 1e-6)  # drawn in float32
        assert bound * 0.98 < layer.weight.abs().max().item() <= bound * (1 + 1e-6)
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
        assert layer.bias.std().item() > bound / 4


def test_layers_have_the_shapes_of_their_cell(cell, rule_class, make_net):
    gates = {"rnn": 1, "lstm": 4, "gru": 3}[cell]
    net = make_net(cell, rule_class(modulation=False), sizes=(3, 2, 5), extra_dim=3)
    shapes = {name: tuple(layer.weight.shape) for name, layer in net.layers.items()}
    assert shapes == {
        "encoder": (3, 5),
        "cell_input": (5, 5 * gates),
        "cell_hidden": (5, 5 * gates),
        "readout": (5, 2 + 3),
    }
    assert net.output_weight.shape == (5,)
    assert make_net(cell, rule_class(), extra_dim=3).output_weight.shape == (6,)


@pytest.mark.parametrize(("alpha", "value"), [("ones", 1.0), ("minus_ones", -1.0)])
def test_alpha_starts_at_plus_or_minus_one(cell, plastic_rule_class, make_net, alpha, value):
    for layer in make_net(cell, plastic_rule_class(alpha=alpha)).layers.values():
        assert (layer.weight_alpha == value).all()
        assert not plastic_rule_class.writes_bias or (layer.bias_alpha == value).all()


def test_alpha_starts_uniform_within_one(cell, plastic_rule_class, make_net):
    rule = plastic_rule_class(alpha="random")
    for layer in make_net(cell, rule, sizes=(30, 3, 49)).layers.values():
        assert layer.weight_alpha.shape == layer.weight.shape
        assert 0.95 < layer.weight_alpha.abs().max().item() <= 1
        assert layer.weight_alpha.std().item() == pytest.approx(3**-0.5, rel=0.1)


def test_only_the_gradient_rule_has_alpha_of_biases(make_net):
    for layer in make_net(rule=Gradient()).layers.values():
        assert layer.bias_alpha.shape == layer.bias.shape
        assert layer.bias_alpha.abs().max() <= 1
    assert all(layer.bias_alpha is None for layer in make_net(rule=Hebbian()).layers.values())


@pytest.mark.parametrize("rule", [Gradient(alpha="off"), Hebbian(alpha="off"), NonPlastic()])
def test_alpha_is_no_parameter_where_it_is_not_learned(make_net, rule):
    net = make_net(rule=rule)
    assert not any("alpha" in name for name in net.state_dict())
    assert all(layer.weight_alpha is None for layer in net.layers.values())


@pytest.mark.parametrize("rule", [Gradient(), Hebbian(), NonPlastic()])
def test_inner_loss_weights_start_at_one_and_are_learned_by_the_gradient_rule(rule):
    net = PlasticNetwork(3, 2, 5, rule=rule)
    assert net.output_weight.tolist() == [1.0] * 7
    assert net.output_weight.requires_grad == isinstance(rule, Gradient)


def test_generator_makes_parameters_reproducible_and_leaves_the_global_one_alone(cell, rule_class):
    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        rule = rule_class(alpha="random")
        return PlasticNetwork(3, 2, 5, cell, rule, generator=generator).state_dict()

    before = torch.get_rng_state()
    one, same, other = draw(1), draw(1), draw(2)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert not any(torch.equal(one[k], other[k]) for k in one if k != "output_weight")


def test_every_form_can_be_chosen_and_changed(form, make_net):
    net = make_net(form=form)
    assert net.form == form
    net.form = "auto"
    assert net.form == "auto"


def test_every_parameter_is_learned(net, x):
    state = net(x)[1].detach()
    net(x, state)[0].square().sum().backward()
    assert all(parameter.grad.any() for parameter in net.parameters())
