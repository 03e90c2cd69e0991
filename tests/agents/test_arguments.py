"""Every argument of networks, rules and encoders works, or is refused under its name."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from agents import (
    Conv4,
    Gradient,
    Hebbian,
    ImageLabelEncoder,
    LSTMCell,
    NonPlastic,
    PlasticNetwork,
    PlasticState,
    PrototypicalNetwork,
    ResNet12,
    RNNCell,
    make_encoder,
)
from agents.plastic.network import FORMS
from agents.vision.encoders import DropBlock

ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12),
    st.sampled_from([10**9, 2**63, 10**400, -(10**400)]),
    st.floats(-2, 2),
    st.sampled_from([math.nan, math.inf, -math.inf, 1e300, 1e-300]),
    st.text(max_size=4),
    st.lists(st.integers(1, 40), max_size=4),
    st.sampled_from([b"x", {}, {"a": 1}, (), object(), int, RNNCell, Gradient, 1j, print]),
    st.sampled_from([np.int64(3), np.float32(0.5), np.bool_(True), np.str_("rnn")]),
    st.sampled_from([np.zeros(3), np.array(2)]),
    st.sampled_from([torch.tensor(3), torch.zeros(2), RNNCell(), LSTMCell(), Hebbian()]),
)
SOMETIMES = settings(
    deadline=None, max_examples=60, derandomize=True, suppress_health_check=list(HealthCheck)
)


def made_or_refused(make, *words):
    """Return what is made; or None if a short error has one of the words."""
    try:
        return make()
    except ValueError as error:
        message = str(error)
    assert any(word in message for word in words), message
    assert len(message) < 400
    return None


NETWORK_GOOD = {"input_size": 3, "output_size": 2, "hidden_size": 5}
NETWORK_NAMES = [*NETWORK_GOOD, "cell", "rule", "extra_dim", "form", "encoder", "generator"]


@pytest.mark.parametrize("name", NETWORK_NAMES)
@given(value=ANYTHING)
@SOMETIMES
def test_network(name, value):
    arguments = NETWORK_GOOD | {name: value}
    net = made_or_refused(lambda: PlasticNetwork(**arguments), name)
    if net is not None:
        y, _ = net(torch.zeros(1, 2, net.input_size))
        assert y.shape == (1, 2, net.output_size)


RULE_NAMES = ["base_eta", "base_decay", "max_norm", "weight_clip", "modulation", "alpha"]


@pytest.mark.parametrize("name", RULE_NAMES)
@given(value=ANYTHING, kind=st.sampled_from([Gradient, Hebbian, NonPlastic]))
@SOMETIMES
def test_rule(name, value, kind):
    rule = made_or_refused(lambda: kind(**{name: value}), name)
    if rule is None:
        return
    assert type(getattr(rule, name)) in (float, bool, str, type(None))
    for form in FORMS:
        net = PlasticNetwork(2, 1, 3, rule=rule, form=form)
        if form in net.supported_forms():
            assert net(torch.ones(1, 3, 2))[0].shape == (1, 3, 1)


@given(
    eta=st.sampled_from([0, 0.5, 1e30]),
    norm=st.sampled_from([1e-30, 1, 1e30]),
    clip=st.sampled_from([None, 1e-30, 1e30]),
    kind=st.sampled_from([Gradient, Hebbian]),
)
@SOMETIMES
def test_settings_at_the_ends_of_their_ranges_are_computed_alike(eta, norm, clip, kind):
    net = PlasticNetwork(2, 1, 3, rule=kind(base_eta=eta, max_norm=norm, weight_clip=clip)).double()
    x = torch.ones(1, 2, 2).double()
    expected = net(x)[0]
    for form in net.supported_forms():
        net.form = form
        torch.testing.assert_close(net(x)[0], expected, rtol=1e-6, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("name", ["image_shape", "filters", "generator"])
@pytest.mark.parametrize("kind", [Conv4, ResNet12])
@given(value=ANYTHING)
@SOMETIMES
def test_image_encoder(kind, name, value):
    arguments = {"image_shape": (16, 16, 1), "filters": 2, name: value}
    made_or_refused(lambda: kind(**arguments), name, "images must be at least 16 pixels")


@pytest.mark.parametrize("name", ["drop_rate", "block_size", "ramp"])
@given(value=ANYTHING)
@SOMETIMES
def test_drop_block(name, value):
    drop = made_or_refused(lambda: DropBlock(**{name: value}), name)
    if drop is not None:
        assert drop(torch.ones(1, 1, 4, 4)).shape == (1, 1, 4, 4)
    if name == "drop_rate":
        made_or_refused(lambda: ResNet12((16, 16, 1), 1, drop_rate=value), name)


ENCODER = Conv4((16, 16, 1), 2)


@pytest.mark.parametrize(
    "name", ["image_encoder", "hidden_size", "num_labels", "rectify", "generator"]
)
@given(value=ANYTHING)
@SOMETIMES
def test_label_encoder(name, value):
    arguments = {"image_encoder": ENCODER, "hidden_size": 8, "num_labels": 5, name: value}
    made_or_refused(lambda: ImageLabelEncoder(**arguments), name, "hidden_size must be more than")


@pytest.mark.parametrize("name", ["image_encoder", "num_labels", "delayed"])
@given(value=ANYTHING)
@SOMETIMES
def test_prototypical_network(name, value):
    arguments = {"image_encoder": ENCODER, "num_labels": 5, name: value}
    made_or_refused(lambda: PrototypicalNetwork(**arguments), name)


@given(value=ANYTHING)
@SOMETIMES
def test_encoder_by_name(value):
    made_or_refused(lambda: make_encoder(value, (16, 16, 1), 2), "name")


@given(value=ANYTHING)
@SOMETIMES
def test_batch_size_and_form(value):
    net = PlasticNetwork(3, 2, 5)
    state = made_or_refused(lambda: net.initial_state(value), "batch_size")
    assert state is None or state.batch_size == value
    made_or_refused(lambda: setattr(net, "form", value), "form")
    assert net.form in ("auto", *FORMS)
    made_or_refused(lambda: PrototypicalNetwork(ENCODER, 5).initial_state(value), "batch_size")


# What a network is called with.

NET = PlasticNetwork(3, 2, 5, "lstm")
OTHERS = st.sampled_from(
    [
        PlasticNetwork(3, 2, 5).initial_state(2),
        NET.initial_state(3),
        NET.initial_state(2).to(dtype=torch.float64),
        NET.initial_state(2)._replace(fast={}),
        NET.initial_state(2)._replace(fast=None),
        NET.initial_state(2)._replace(hidden=None),
        NET.initial_state(2)._replace(hidden=NET.initial_state(2).hidden._replace(c=None)),
        NET.initial_state(2)._replace(fast=dict.fromkeys(NET.layers, (1, 2))),
        NET.initial_state(2).to("meta"),
        NET.initial_state(2).to_dict(),
    ]
)
TENSORS = st.sampled_from(
    [
        torch.zeros(()),
        torch.zeros(2, 3),
        torch.zeros(2, 4),
        torch.zeros(2, 4, 3),
        torch.zeros(0, 4, 3),
        torch.zeros(2, 0, 3),
        torch.zeros(2, 4, 3, dtype=torch.int64),
        torch.zeros(2, 4, 3, dtype=torch.bfloat16),
        torch.zeros(2, 4, 3, dtype=torch.complex64),
        torch.zeros(2, 4, 3, device="meta"),
        torch.zeros(2, 4, 3).to_sparse(),
        torch.zeros(2, 4, dtype=torch.bool),
        torch.zeros(2, dtype=torch.bool),
        np.zeros((2, 4, 3), np.float32),
        np.zeros((2, 4), bool),
        [[False] * 4] * 2,
    ]
)


def called(function, *arguments, words):
    result = made_or_refused(lambda: function(*arguments), *words)
    assert result is None or isinstance(result[1], PlasticState)


@given(value=ANYTHING | TENSORS)
@SOMETIMES
def test_input(value):
    called(NET, value, words=["x must", "x[", "its input"])
    called(NET.step, value, words=["x must", "x[", "its input"])
    called(NET.probe, value, words=["x must", "x[", "its input"])


@given(value=ANYTHING | TENSORS | OTHERS)
@SOMETIMES
def test_state(value):
    called(NET, torch.zeros(2, 4, 3), value, words=["the state", "state must", "state.fast"])
    called(NET.step, torch.zeros(2, 3), value, words=["the state", "state must", "state.fast"])


@given(value=ANYTHING | TENSORS)
@SOMETIMES
def test_episode_starts(value):
    called(NET, torch.zeros(2, 4, 3), None, value, words=["episode_starts must"])
    called(NET.step, torch.zeros(2, 3), None, value, words=["episode_starts must"])


@given(value=ANYTHING | TENSORS)
@SOMETIMES
def test_what_an_encoder_returns(value):
    class Returning(nn.Module):
        def forward(self, x):
            return value

    net = PlasticNetwork(3, 2, 3, encoder=Returning())
    called(net, torch.zeros(2, 4, 3), words=["encoder must return", "its input"])


@pytest.mark.parametrize("form", list(FORMS))
@pytest.mark.parametrize("cell", ["rnn", "lstm"])
@pytest.mark.parametrize("rule", ["gradient", "hebbian", "none"])
def test_an_empty_batch_has_empty_outputs(form, cell, rule):
    net = PlasticNetwork(3, 2, 5, cell, rule)
    if form not in net.supported_forms():
        pytest.skip(f"{form} does not compute this network")
    net.form = form
    y, state = net(torch.zeros(0, 4, 3), None, torch.zeros(0, 4, dtype=torch.bool))
    assert (y.shape, state.batch_size) == ((0, 4, 2), 0)
    y.sum().backward()
    assert net.step(torch.zeros(0, 3), state)[0].shape == (0, 2)


@given(value=ANYTHING | TENSORS)
@SOMETIMES
def test_flattened_state(value):
    for flat in (value, {"hidden.h": value}, {value if isinstance(value, str) else 3: NET}):
        made_or_refused(lambda: PlasticState.from_dict(flat), "flat")  # noqa: B023


IMAGES = {"image": torch.zeros(2, 4, 16, 16, 1, dtype=torch.uint8), "label": torch.zeros(2, 4, 5)}


@pytest.mark.parametrize("name", ["image", "label", "embedding"])
@given(value=ANYTHING | TENSORS)
@SOMETIMES
def test_images_and_labels(name, value):
    net = PrototypicalNetwork(copy.deepcopy(ENCODER).eval(), 5)
    for inputs in (value, IMAGES | {name: value}):
        made_or_refused(lambda: net(inputs), "inputs", "label", "image", "embedding")  # noqa: B023
    for call in (net, net.step):
        made_or_refused(lambda: call({"image": value}), "inputs")  # noqa: B023
    with pytest.raises(ValueError, match="images must be"):
        net.embed(value)


@given(value=ANYTHING | TENSORS)
@SOMETIMES
def test_state_of_prototypes(value):
    net = PrototypicalNetwork(ENCODER, 5)
    if value is not None:
        with pytest.raises(ValueError, match="state must be Prototypes or None"):
            net(IMAGES, value)
    with pytest.raises(ValueError, match="the state holds"):
        net(IMAGES, net.initial_state(3))
