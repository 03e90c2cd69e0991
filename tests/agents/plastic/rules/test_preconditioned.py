"""The preconditioned rule is least squares, and what is taught is no part of its keys."""

import pytest
import torch
from torch import nn

from agents import Hebbian, PlasticNetwork, Preconditioned
from plastic_envs import make_task

EXACT = {
    "alpha": "off",
    "modulation": False,
    "max_norm": 1e9,
    "layers": "readout",
    "prior_variance": 2.0,
}


@pytest.fixture(params=["closed", "naive"])
def form(request):
    return request.param


@pytest.fixture
def inputs():
    """Inputs of 3 samples and 8 steps: three entries of a stimulus, and two that teach."""
    return torch.randn(3, 8, 5, generator=torch.Generator().manual_seed(2)).double()


@pytest.mark.parametrize("eta", [1.0, 0.3])
def test_fast_weights_are_the_ridge_regression_on_all_that_was_written(
    eta, form, make_net, inputs, assert_close
):
    rule = Preconditioned(base_eta=eta, **EXACT)
    net = make_net(rule=rule, sizes=(5, 2, 4), extra_dim=0, teaching_size=2, form=form)
    net.output_weight.data.fill_(1)
    state, keys, errors = None, [], []
    readout = net.layers["readout"]
    for x in inputs.unbind(1):
        _, state = net.step(x, state)
        keys.append(state.hidden.h)
        units = state.hidden.h @ readout.weight + readout.bias + x[:, 3:] @ net.teaching_weight
        errors.append(units)
        k, r = torch.stack(keys, 1), torch.stack(errors, 1)
        inverse = torch.linalg.inv(eta * k.mT @ k + torch.eye(4).double() / 2)
        assert_close(state.rule["readout"]["P"], inverse, 1e-10)
        assert_close(state.fast["readout"].weight, -eta * inverse @ k.mT @ r, 1e-10)
    assert not state.fast["readout"].bias.any()


def test_what_is_known_fades_with_the_weights(form, make_net, inputs, assert_close):
    kept = make_net(rule=Preconditioned(**EXACT), sizes=(5, 2, 4), form=form)
    faded = make_net(rule=Preconditioned(base_decay=0.4, **EXACT), sizes=(5, 2, 4), form=form)
    known, less = (net.step(inputs[:, 0])[1].rule["readout"]["P"] for net in (kept, faded))
    assert_close(less, 0.6 * known + 0.4 * 2.0 * torch.eye(4).double().expand(3, -1, -1))


def test_weights_and_what_is_known_stay_sound_over_many_steps_in_float32():
    rule = Preconditioned(**{**EXACT, "prior_variance": 1e4})
    net = PlasticNetwork(3, 1, 6, rule=rule, extra_dim=0, teaching_size=1)
    generator = torch.Generator().manual_seed(0)
    net.layers["encoder"].weight.data.uniform_(-2, 2, generator=generator)
    x = torch.randn(2, 300, 3, generator=generator)
    with torch.no_grad():
        y, state = net(x)
        exact, expected = net.double()(x.double())
    inverse = state.rule["readout"]["P"]
    assert torch.equal(inverse, inverse.mT)
    assert torch.linalg.eigvalsh(inverse.double()).min() > -1e-6 * rule.prior_variance
    assert (y - exact).abs().max() < 2e-3 * exact.abs().max()
    assert torch.isfinite(state.fast["readout"].weight).all()
    assert not torch.allclose(expected.rule["readout"]["P"], 1e4 * torch.eye(6).double())


def test_silent_keys_write_nothing_and_have_gradients(form, make_net, inputs):
    net = make_net(rule=Preconditioned(), sizes=(5, 2, 4), teaching_size=2, form=form)
    for name in ("cell_input", "cell_hidden"):
        net.layers[name].weight.data.zero_()
        net.layers[name].bias.data.fill_(-1)
    y, state = net(inputs)
    y.sum().backward()
    assert not state.hidden.h.any()
    assert not state.fast["readout"].weight.any()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_the_modulation_unit_is_not_written(make_net, inputs):
    net = make_net(rule=Preconditioned(), sizes=(5, 2, 4), teaching_size=2)
    weight = net(inputs)[1].fast["readout"].weight
    assert weight[..., :-1].any()
    assert not weight[..., -1].any()


def test_layers_that_are_not_written_are_ordinary_ones(form, make_net, inputs):
    net = make_net(rule=Preconditioned(layers="readout"), sizes=(5, 2, 4), form=form)
    _, state = net(inputs)
    assert list(state.fast) == list(state.rule) == ["readout"]
    assert [n for n, _ in net.named_parameters() if "alpha" in n] == ["layers.readout.weight_alpha"]
    other = make_net(rule=Preconditioned(), sizes=(5, 2, 4))
    with pytest.raises(ValueError, match="the state has fast weights of"):
        net(inputs, other.initial_state(3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prior_variance": 0.0}, "prior_variance must be"),
        ({"prior_variance": float("nan")}, "prior_variance must be"),
        ({"layers": "cell"}, "layers must be"),
    ],
)
def test_settings_of_its_own_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        Preconditioned(**settings)


# What is taught.


@pytest.mark.parametrize("rule", ["gradient", "hebbian", "preconditioned"])
@pytest.mark.parametrize("with_encoder", [False, True])
def test_what_is_taught_acts_through_the_readout_s_writes_alone(
    rule, with_encoder, form, make_net, inputs
):
    encoder = nn.Identity() if with_encoder else None
    net = make_net(rule=rule, sizes=(5, 2, 5), teaching_size=2, encoder=encoder, form=form)
    other = inputs.clone()
    other[:, 2, 3:] += 1
    y, state = net(inputs)
    z, after = net(other)
    assert torch.equal(y[:, :3], z[:, :3])  # nothing of the step itself, nor of those before
    assert (y[:, 3:] - z[:, 3:]).abs().amax(dim=(1, 2)).min() > 1e-9
    hidden, taught = (net.step(x[:, 2], net(x[:, :2])[1])[1] for x in (inputs, other))
    assert torch.equal(hidden.hidden.h, taught.hidden.h)
    assert not torch.equal(hidden.fast["readout"].weight, taught.fast["readout"].weight)
    assert state.fast.keys() == after.fast.keys()


def test_hebb_s_rule_writes_what_is_taught(form, make_net, inputs, assert_close):
    rule = Hebbian(base_eta=1.0, base_decay=0.0, max_norm=1e9, modulation=False, alpha="off")
    net = make_net(rule=rule, sizes=(5, 2, 4), extra_dim=0, teaching_size=2, form=form)
    y, state = net.step(inputs[:, 0])
    units = y + inputs[:, 0, 3:] @ net.teaching_weight
    written = state.hidden.h[:, :, None] * units[:, None]
    assert_close(state.fast["readout"].weight, written)


def test_rates_see_what_is_taught(form, make_net, inputs):
    net = make_net(rule="gradient", sizes=(5, 2, 4), teaching_size=2, form=form)
    other = inputs.clone()
    other[:, 0, 3:] += 1
    eta, changed = (net.probe(x)[2].eta_before_clip[:, 0] for x in (inputs, other))
    assert (eta != changed).all()


def test_the_compiled_form_cannot_be_taught(inputs):
    net = PlasticNetwork(5, 2, 4, teaching_size=2)
    assert net.supported_forms() == ["closed", "naive"]
    net.form = "compiled"
    with pytest.raises(ValueError, match="the readout is taught"):
        net(inputs.float())


@pytest.mark.parametrize("size", [-1, 5, 1.5, "2", True])
def test_a_size_of_the_teaching_that_does_not_fit_is_refused(size):
    with pytest.raises(ValueError, match="teaching_size must be"):
        PlasticNetwork(5, 2, 4, teaching_size=size)


def test_without_writes_nothing_can_be_taught():
    with pytest.raises(ValueError, match="teaching_size must be 0 for a rule that writes nothing"):
        PlasticNetwork(5, 2, 4, rule="none", teaching_size=1)


def test_teaching_weights_are_slow_and_checked(inputs):
    net = PlasticNetwork(5, 2, 4, teaching_size=2, freeze_slow_weights=True)
    assert not net.teaching_weight.requires_grad
    net.teaching_weight = nn.Parameter(torch.zeros(1, 7))
    with pytest.raises(ValueError, match="the network holds"):
        net(inputs.float())


@pytest.mark.slow
def test_a_taught_network_learns_to_regress():
    task = make_task("PlasticRegression-v0")
    rule = Preconditioned(layers="readout", prior_variance=30.0)
    generator = torch.Generator().manual_seed(0)
    net = PlasticNetwork(
        14, 1, 24, rule=rule, extra_dim=0, teaching_size=2, generator=generator
    )  # fmt: skip
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-2, weight_decay=0, amsgrad=True)

    def error(episodes):
        observations, targets, scored = map(torch.from_numpy, episodes)
        return (net(observations)[0] - targets)[scored].square().mean()

    for step in range(200):
        loss = error(task.sample_episodes(64, 1 + step))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5)
        optimizer.step()
    with torch.no_grad():
        assert error(task.sample_episodes(500, 0)) < 0.15  # one pass of the delta rule: 0.22
