"""Rules: what is written, recomputed independently of how the package writes it."""

import math
from dataclasses import dataclass

import pytest
import torch

from agents import Gradient, Hebbian, PlasticNetwork
from agents.plastic.rules import clip_scale, inner_loss

LITERAL_WRITE = {
    "base_eta": 1.0,
    "base_decay": 0.0,
    "max_norm": 1e9,
    "modulation": False,
    "alpha": "off",
}


def written_direction(net, x, state):
    """Return δ of one step of a network whose rule writes δ itself."""
    _, after = net.step(x, state)
    before = state.to_dict()
    return {k: v - before[k] for k, v in after.to_dict().items() if k.startswith("fast.")}


def test_gradient_rule_writes_the_derivative_of_the_inner_loss(cell, form, make_net, random_state):
    net = make_net(cell, Gradient(**LITERAL_WRITE), sizes=(2, 1, 3), form=form, extra_dim=1)
    state, x, eps = random_state(net, 1), torch.tensor([[0.7, -0.4]]).double(), 1e-6

    def loss_at(name, index, shift):
        shifted = state.map(torch.clone)
        shifted.to_dict()[name].view(-1)[index] += shift
        return float(net.probe(x[:, None], shifted)[2].inner_loss)

    for name, direction in written_direction(net, x, state).items():
        numerical = [
            (loss_at(name, i, eps) - loss_at(name, i, -eps)) / (2 * eps)
            for i in range(direction.numel())
        ]
        torch.testing.assert_close(
            direction.flatten(), torch.tensor(numerical).double(), rtol=1e-7, atol=1e-9
        )
        assert direction.any(), name


def test_hebbian_rule_writes_outer_products_of_a_network_worked_out_by_hand(form):
    net = PlasticNetwork(1, 1, 2, "rnn", Hebbian(modulation=False, max_norm=1e9), extra_dim=0)
    net.form = form
    values = {
        "encoder": ([[1.0, 2.0]], [0.0, -1.0]),
        "cell_input": ([[1.0, 0.0], [1.0, -1.0]], [0.0, 0.5]),
        "cell_hidden": ([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]),
        "readout": ([[2.0], [-1.0]], [1.0]),
    }
    for name, (weight, bias) in values.items():
        net.layers[name].weight.data.copy_(torch.tensor(weight))
        net.layers[name].bias.data.copy_(torch.tensor(bias))
        net.layers[name].weight_alpha.data.fill_(-2)
    state = net.initial_state(1)
    state.hidden.h.copy_(torch.tensor([0.5, 2.0]))

    output, after = net.step(torch.ones(1, 1), state)  # e = (1, 1)

    assert output.item() == pytest.approx(4.5)
    assert after.hidden.h.tolist() == [[2.5, 1.5]]
    directions = {
        "encoder": [[1.0, 1.0]],
        "cell_input": [[2.5, 1.5], [2.5, 1.5]],
        "cell_hidden": [[1.25, 0.75], [5.0, 3.0]],
        "readout": [[11.25], [6.75]],
    }
    for name, direction in directions.items():
        expected = 0.1 * -2 * torch.tensor([direction])
        torch.testing.assert_close(after.fast[name].weight, expected)
        assert not after.fast[name].bias.any()


def test_hebbian_rule_of_an_lstm_writes_its_gates(form, make_net, random_state, assert_close):
    net = make_net("lstm", Hebbian(**LITERAL_WRITE), form=form)
    state, x = random_state(net, 2), torch.tensor([[1.0, -2.0, 0.5], [0.3, 0.2, 0.1]]).double()

    def layer(name, p):
        slow, fast = net.layers[name], state.fast[name]
        return torch.einsum("bi,bio->bo", p, slow.weight + fast.weight) + slow.bias + fast.bias

    encoded = layer("encoder", x).relu()
    i, f, g, o = (layer("cell_input", encoded) + layer("cell_hidden", state.hidden.h)).chunk(4, 1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    h = o * (f * state.hidden.c + i * g).tanh()
    gates = torch.cat([i, f, g, o], dim=1)
    expected = {
        "encoder": x[:, :, None] * encoded[:, None],
        "cell_input": encoded[:, :, None] * gates[:, None],
        "cell_hidden": state.hidden.h[:, :, None] * gates[:, None],
        "readout": h[:, :, None] * layer("readout", h)[:, None],
    }
    written = written_direction(net, x, state)
    for name, direction in expected.items():
        assert_close(written[f"fast.{name}.weight"], direction)
        assert not written[f"fast.{name}.bias"].any()


def test_gradient_rule_of_one_unit_over_two_steps_is_as_worked_out_by_hand(form):
    rule = Gradient(base_eta=0.3, base_decay=0.2, max_norm=1.5)
    net = PlasticNetwork(1, 1, 1, "rnn", rule, extra_dim=0, form=form).double()
    w = {"e": 0.8, "i": 1.1, "h": 0.6, "y": 0.9, "m": -0.7}  # weights, then biases, then α
    b = {"e": 0.1, "ih": 0.3, "y": 0.2, "m": 0.4}
    a, c, omega = {"e": 0.5, "i": -0.4, "h": 0.7, "y": -0.9, "m": 0.3}, 0.25, {"y": 1.2, "m": 0.6}
    _fill(net.layers["encoder"], [[w["e"]]], [b["e"]], [[a["e"]]], c)
    _fill(net.layers["cell_input"], [[w["i"]]], [b["ih"]], [[a["i"]]], c)
    _fill(net.layers["cell_hidden"], [[w["h"]]], [0.0], [[a["h"]]], c)
    readout = [[w["y"], w["m"]]], [b["y"], b["m"]], [[a["y"], a["m"]]]
    _fill(net.layers["readout"], *readout, c)
    net.output_weight.data.copy_(torch.tensor([omega["y"], omega["m"]], dtype=torch.float64))

    fast_w, fast_b = dict.fromkeys("eihym", 0.0), dict.fromkeys("eihym", 0.0)
    h_before, outputs, norms = 0.0, [], []
    for x in (1.5, 0.8):
        e = x * (w["e"] + fast_w["e"]) + b["e"] + fast_b["e"]
        q = e * (w["i"] + fast_w["i"]) + b["ih"] + fast_b["i"]
        h = q + h_before * (w["h"] + fast_w["h"]) + fast_b["h"]
        assert min(e, h) > 0  # all ReLUs are open
        y = h * (w["y"] + fast_w["y"]) + b["y"] + fast_b["y"]
        m = h * (w["m"] + fast_w["m"]) + b["m"] + fast_b["m"]
        post = {"y": omega["y"] ** 2 * y, "m": omega["m"] ** 2 * m}  # 2/2 from the mean of squares
        post["i"] = post["h"] = sum(post[k] * (w[k] + fast_w[k]) for k in "ym")
        post["e"] = post["i"] * (w["i"] + fast_w["i"])
        pre = {"e": x, "i": e, "h": h_before, "y": h, "m": h}
        norm = math.sqrt(sum(post[k] ** 2 * (pre[k] ** 2 + 1) for k in "eihym"))
        rate = 2 / (1 + math.exp(-m))
        eta, keep = 0.3 * rate * min(1, 1.5 / norm), 1 - 0.2 * rate
        for k in "eihym":
            fast_w[k] = keep * fast_w[k] + eta * a[k] * pre[k] * post[k]
            fast_b[k] = keep * fast_b[k] + eta * c * post[k]
        h_before = h
        outputs.append(y)
        norms.append(norm)

    actual, state, probes = net.probe(torch.tensor([[[1.5], [0.8]]], dtype=torch.float64))
    assert norms[1] != norms[0] > 1.5  # the bound acts
    assert actual.flatten().tolist() == pytest.approx(outputs, rel=1e-12)
    assert probes.write_norm.flatten().tolist() == pytest.approx(norms, rel=1e-12)
    layers = {"encoder": "e", "cell_input": "i", "cell_hidden": "h", "readout": "ym"}
    for name, keys in layers.items():
        fast = state.fast[name]
        assert fast.weight.flatten().tolist() == pytest.approx([fast_w[k] for k in keys], rel=1e-12)
        assert fast.bias.flatten().tolist() == pytest.approx([fast_b[k] for k in keys], rel=1e-12)


def _fill(layer, weight, bias, weight_alpha, bias_alpha):
    layer.weight.data.copy_(torch.tensor(weight, dtype=torch.float64))
    layer.bias.data.copy_(torch.tensor(bias, dtype=torch.float64))
    layer.weight_alpha.data.copy_(torch.tensor(weight_alpha, dtype=torch.float64))
    layer.bias_alpha.data.fill_(bias_alpha)


def test_norm_bound_acts_on_the_write_and_not_on_the_decay(
    cell, plastic_rule_class, form, make_net, random_state, x
):
    rule = plastic_rule_class(
        base_eta=0.1, base_decay=0.4, max_norm=0.01, alpha="off", modulation=False
    )
    net = make_net(cell, rule, form=form)
    state = random_state(net, 3)
    before = state.to_dict()
    after = net.step(x[:, 0], state)[1].to_dict()
    write = torch.cat([(after[k] - 0.6 * before[k]).flatten(1) for k in before if "fast" in k], 1)
    expected = torch.full((3,), 0.1 * 0.01, dtype=torch.float64)
    torch.testing.assert_close(write.norm(dim=1), expected, rtol=1e-10, atol=0)


def test_weight_clip_bounds_fast_weights(cell, plastic_rule_class, form, make_net, x):
    net = make_net(cell, plastic_rule_class(base_eta=2.0, weight_clip=0.05), form=form)
    fast = [leaf for k, leaf in net(x)[1].to_dict().items() if k.startswith("fast.")]
    assert max(leaf.detach().abs().max().item() for leaf in fast) == 0.05


def test_without_a_rate_nothing_is_written(cell, plastic_rule_class, form, make_net, x):
    state = make_net(cell, plastic_rule_class(base_eta=0.0), form=form)(x)[1]
    assert not any(leaf.any() for k, leaf in state.to_dict().items() if k.startswith("fast."))


def test_rates_are_the_bases_times_the_modulation():
    output = torch.tensor([[5.0, 0.0], [5.0, 100.0], [5.0, -100.0]])
    eta, decay = Gradient(base_eta=0.3, base_decay=0.2).rates(output)
    torch.testing.assert_close(eta, torch.tensor([0.3, 0.6, 0.0]))
    torch.testing.assert_close(decay, torch.tensor([0.2, 0.4, 0.0]))
    eta, decay = Gradient(base_eta=0.3, base_decay=0.2, modulation=False).rates(output)
    torch.testing.assert_close(eta, torch.full((3,), 0.3))
    torch.testing.assert_close(decay, torch.full((3,), 0.2))


def test_inner_loss_is_the_mean_of_weighted_squares():
    loss = inner_loss(torch.tensor([[1.0, 2.0], [0.0, -3.0]]), torch.tensor([2.0, 1.0]))
    assert loss.tolist() == [4.0, 4.5]


def test_clip_scale_bounds_the_norm_and_is_smooth_at_zero():
    squared = torch.tensor([0.0, 1.0, 4.0, 16.0], requires_grad=True)
    scale = clip_scale(squared, 2.0)
    scale.sum().backward()
    assert scale.tolist() == [1.0, 1.0, 1.0, 0.5]
    assert squared.grad.tolist() == pytest.approx([0.0, 0.0, 0.0, -2 / 2 / 64])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("base_eta", -1.0),
        ("base_eta", math.nan),
        ("base_eta", math.inf),
        ("base_decay", -0.1),
        ("base_decay", 0.6),
        ("base_decay", math.nan),
        ("max_norm", 0.0),
        ("max_norm", -1.0),
        ("max_norm", math.nan),
        ("weight_clip", 0.0),
        ("weight_clip", -0.1),
        ("weight_clip", math.nan),
        ("alpha", "x"),
        ("alpha", None),
    ],
)
def test_setting_out_of_range_is_refused_by_name(rule_class, name, value):
    with pytest.raises(ValueError, match=f"{name} must be"):
        rule_class(**{name: value})


@pytest.mark.parametrize("base_decay", [0.0, 0.5])
def test_settings_at_the_edge_of_their_range_are_accepted(rule_class, base_decay):
    rule = rule_class(base_eta=0.0, base_decay=base_decay, max_norm=1e-6, weight_clip=1e-6)
    assert rule.base_decay == base_decay


def test_rules_compare_by_value_and_cannot_be_changed():
    assert Gradient(base_eta=0.2) == Gradient(base_eta=0.2) != Gradient()
    assert Gradient() != Hebbian()
    with pytest.raises(AttributeError):
        Gradient().base_eta = 1.0


def test_a_rule_writes_weights_and_biases_if_it_says_so(rule_class, cell, form, make_net, x):
    fast = make_net(cell, rule_class(base_eta=0.5), form=form)(x)[1].fast.values()
    assert any(layer.weight.any() for layer in fast) == rule_class.plastic
    assert any(layer.bias.any() for layer in fast) == rule_class.writes_bias


@dataclass(frozen=True, kw_only=True)
class ReadoutOnly(Gradient):
    """A rule of a user's own, which writes into one layer."""

    def writes(self, step):
        return {"readout": super().writes(step)["readout"]}


def test_a_rule_of_ones_own_may_write_into_some_layers_only():
    net = PlasticNetwork(3, 2, 5, rule=ReadoutOnly())
    assert net.supported_forms() == ["closed"]
    assert net.output_weight.requires_grad
    y, state = net(torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)))
    y.sum().backward()
    assert state.fast["readout"].weight.abs().sum() > 0
    assert state.fast["cell_input"].weight.abs().sum() == 0
