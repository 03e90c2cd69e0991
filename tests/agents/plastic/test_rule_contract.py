"""What a rule may see, return and own; every form does with it what the contract says."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from agents import FastWeights, Gradient, Hebbian, PlasticNetwork, Rule, Write
from agents.plastic.rules import RULES, is_exactly
from tests.agents.plastic.comparison import differences, numbers


@pytest.fixture(scope="module", params=["closed", "naive"])
def form(request):
    return request.param


@dataclass(frozen=True, kw_only=True)
class Watching(Rule):
    """Write nothing, and keep what is seen."""

    def writes(self, step):
        SEEN.append(step)
        return {}

    def literal(self, step):
        return self.writes(step)


SEEN: list = []


def test_a_rule_sees_what_each_layer_did(form, cell, make_net, random_state, x, assert_close):
    net = make_net(cell, Watching(base_decay=0.0), form=form)
    state, layers = random_state(net, 3), net.layers
    SEEN.clear()
    output, after = net.step(x[:, 0], state)
    (step,) = SEEN
    assert set(step.layers) == {"encoder", "cell_input", "cell_hidden", "readout"}
    for name, seen in step.layers.items():
        whole = layers[name].weight + state.fast[name].weight
        bias = layers[name].bias + state.fast[name].bias
        q = torch.einsum("bi,bio->bo", seen.pre, whole) + bias
        assert_close(seen.pre_activation, q)
        assert_close(step.backward(name, q), torch.einsum("bo,bio->bi", q, whole))
        assert torch.equal(seen.fast.weight, state.fast[name].weight)
        assert seen.slow is layers[name].weight
        assert not seen.state
    seen = step.layers
    assert torch.equal(seen["encoder"].pre, x[:, 0])
    assert torch.equal(seen["encoder"].post, seen["encoder"].pre_activation.relu())
    assert torch.equal(seen["cell_input"].pre, seen["encoder"].post)
    assert torch.equal(seen["cell_hidden"].pre, state.hidden.h)
    assert torch.equal(seen["cell_input"].post, step.cell_step.input_activity)
    assert torch.equal(seen["cell_hidden"].post, step.cell_step.hidden_activity)
    assert torch.equal(seen["readout"].pre, after.hidden.h)
    assert torch.equal(seen["readout"].post[:, :2], output)


@dataclass(frozen=True, kw_only=True)
class InFull(Rule):
    """The gradient rule, with every direction in full."""

    trains_output_weight: ClassVar[bool] = True

    def writes(self, step):
        posts = Gradient().writes(step)
        return {
            name: Write(direction=FastWeights(layer.pre[:, :, None] * post[:, None], post))
            for name, layer in step.layers.items()
            for post in [posts[name].post]
        }


@pytest.mark.parametrize("max_norm", [0.05, 10.0])
@pytest.mark.parametrize("weight_clip", [None, 0.05])
def test_factors_and_full_directions_are_written_alike(max_norm, weight_clip, cell, make_net, x):
    settings = {"base_eta": 0.4, "max_norm": max_norm, "weight_clip": weight_clip}
    rules = (InFull(**settings), Gradient(**settings))
    full, factors = (numbers(make_net(cell, rule), "closed", x) for rule in rules)
    assert differences(full, factors, 1e-11) == {}


@dataclass(frozen=True, kw_only=True)
class Decayed(Rule):
    """Rates and a pre-synaptic factor of its own, in one layer."""

    unit_rates: bool = True

    def writes(self, step):
        layer = step.layers["readout"]
        shape = layer.post.shape if self.unit_rates else layer.post.shape[:1]
        rates = torch.linspace(0, 1, shape.numel(), dtype=layer.post.dtype).view(shape)
        return {"readout": Write(layer.post, layer.pre + 1, eta=2 * rates, decay=rates / 2)}

    literal = writes


@pytest.mark.parametrize("unit_rates", [True, False])
@pytest.mark.parametrize("max_norm", [1e9, 0.1])
def test_a_layer_may_have_rates_and_factors_of_its_own(
    unit_rates, max_norm, form, make_net, random_state, x, assert_close
):
    rule = Decayed(base_decay=0.25, max_norm=max_norm, unit_rates=unit_rates, modulation=False)
    net = make_net(rule=rule, form=form)
    state = random_state(net, 3)
    units, after = net.readout_units(x[:, :1], state)[:, 0], net.step(x[:, 0], state)[1]
    rates = torch.linspace(0, 1, 3 * 6 if unit_rates else 3, dtype=torch.float64).view(3, -1)
    pre = after.hidden.h + 1
    norm = ((pre.square().sum(1) + 1) * units.square().sum(1)).sqrt()
    eta = 2 * rates * (max_norm / norm).clamp(max=1)[:, None]
    fast, alpha = state.fast["readout"], net.layers["readout"]
    write = (eta * units)[:, None] * pre[:, :, None] * alpha.weight_alpha
    assert_close(after.fast["readout"].weight, (1 - rates / 2)[:, None] * fast.weight + write)
    bias = (1 - rates / 2) * fast.bias + eta * units * alpha.bias_alpha
    assert_close(after.fast["readout"].bias, bias)
    assert_close(after.fast["encoder"].weight, 0.75 * state.fast["encoder"].weight)


@dataclass(frozen=True, kw_only=True)
class Counting(Hebbian):
    """Hebbian, with a counter and a running mean of the input of the readout, which starts at 1."""

    def initial_state(self, name, fast):
        if name != "readout":
            return {}
        steps = torch.zeros(len(fast.bias), dtype=torch.long, device=fast.bias.device)
        return {"steps": steps, "mean.of": torch.ones_like(fast.weight[..., 0])}

    def writes(self, step):
        layer = step.layers["readout"]
        mean = 0.5 * layer.state["mean.of"] + 0.5 * layer.pre
        own = {"steps": layer.state["steps"] + 1, "mean.of": mean}
        return {"readout": Write(layer.post, mean, state=own)}

    literal = writes


@pytest.fixture
def counting(make_net, form):
    return make_net(rule=Counting(), form=form)


def test_own_tensors_are_carried_and_named(counting, x, assert_close):
    whole, final = counting(x)
    _, state = counting(x[:, :5])
    assert list(state.rule) == ["readout"]
    assert state.to_dict()["rule.readout.steps"].tolist() == [5, 5, 5]
    assert type(state).from_dict(state.to_dict()).rule == state.rule
    later, after = counting(x[:, 5:], type(state).from_dict(state.to_dict()))
    assert_close(later, whole[:, 5:])
    assert_close(after, final)
    assert state.detach().to(dtype=torch.float32).rule["readout"]["steps"].dtype == torch.long


def test_own_tensors_start_again_where_an_episode_does(counting, x, assert_close):
    starts = torch.zeros(3, 8, dtype=torch.bool)
    starts[1, 4] = True
    y, final = counting(x, None, starts)
    fresh, fresh_final = counting(x[1:2, 4:])
    assert final.rule["readout"]["steps"].tolist() == [8, 4, 8]
    assert_close(y[1:2, 4:], fresh)
    assert_close(final.map(lambda leaf: leaf[1:2]), fresh_final)


@pytest.mark.parametrize("change", ["absent", "layer", "name", "shape", "type", "kind"])
def test_own_tensors_that_do_not_fit_are_refused(change, counting, x):
    state = counting.initial_state(3)
    own = dict(state.rule["readout"])
    bad = {
        "absent": {},
        "layer": {"encoder": own},
        "name": {"readout": {**own, "more": own["steps"]}},
        "shape": {"readout": {**own, "mean.of": own["mean.of"][:, :2]}},
        "type": {"readout": {**own, "steps": own["steps"].double()}},
        "kind": {"readout": own["steps"]},
    }
    with pytest.raises(ValueError, match="the state holds"):
        counting(x, state._replace(rule=bad[change]))


@dataclass(frozen=True, kw_only=True)
class Forgetful(Counting):
    def writes(self, step):
        return {"readout": super().writes(step)["readout"]._replace(state={})}


def test_a_rule_that_loses_its_own_tensors_is_refused(x):
    with pytest.raises(ValueError, match=r"Forgetful\.writes must return the state of readout"):
        PlasticNetwork(3, 2, 5, rule=Forgetful())(x.float())


@pytest.mark.parametrize("bad", [torch.zeros(4, 5), torch.tensor(1.0), None])
def test_own_tensors_must_begin_with_the_batch(bad):
    class Bad(Hebbian):
        def initial_state(self, name, fast):
            return {"own": bad}

    with pytest.raises(ValueError, match="rule must start with named tensors"):
        PlasticNetwork(3, 2, 5, rule=Bad())


# A literal form counts for the very class that defines it.


@dataclass(frozen=True, kw_only=True)
class Slower(RULES["oja"]):
    def rates(self, output):
        eta, decay = super().rates(output)
        return eta / 2, decay


@pytest.mark.parametrize("name", list(RULES))
def test_literal_forms_are_of_one_class(name):
    kind = RULES[name]
    assert "naive" in PlasticNetwork(3, 2, 5, rule=name).supported_forms()
    assert "naive" in PlasticNetwork(3, 2, 5, rule=Decayed()).supported_forms()
    derived = type("Derived", (kind,), {})()
    assert PlasticNetwork(3, 2, 5, rule=derived).supported_forms() == ["closed"]
    changed = kind()
    object.__setattr__(changed, "rates", derived.rates)
    assert not is_exactly(changed, kind)
    assert PlasticNetwork(3, 2, 5, rule=changed).supported_forms() == ["closed"]


def test_a_rule_that_derives_from_one_of_ours_is_computed_as_it_says(make_net, x):
    slower, half = make_net(rule=Slower(base_eta=0.5)), make_net(rule=RULES["oja"](base_eta=0.25))
    torch.testing.assert_close(slower(x)[0], half(x)[0], rtol=1e-12, atol=1e-12)
    assert not torch.equal(half(x)[0], make_net(rule=RULES["oja"](base_eta=0.5))(x)[0])
