"""Making cores: by name, by `module:name`, or by a function; and what is refused."""

import pytest
import torch
from torch import nn

from agents import Conv4, PlasticNetwork, PrototypicalNetwork
from agents.core import (
    CORES,
    Encoded,
    Readout,
    core_options,
    core_takes,
    encoder_in,
    make_core,
    outputs_of,
)
from agents.memories.feedforward import Feedforward
from agents.memories.torch_rnn import TorchCore

OF_IMAGES = {name for name in CORES if name.startswith("label-")} | {"prototypical"}


class Sum(nn.Module):
    """Adds up its inputs, weighed."""

    def __init__(self, input_size: int, width: int = 3, *, weight: float = 1.0) -> None:
        super().__init__()
        self.layer = nn.Linear(input_size, width)
        self.weight = weight

    @property
    def output_size(self):
        return self.layer.out_features

    def initial_state(self, batch_size):
        return {"sum": self.layer.bias.new_zeros(batch_size, self.output_size)}

    def step(self, x, state=None, episode_starts=None):
        total = (self.initial_state(len(x)) if state is None else state)["sum"]
        if episode_starts is not None:
            total = total.masked_fill(episode_starts[:, None], 0)
        total = total + self.weight * self.layer(x)
        return total, {"sum": total}

    def forward(self, x, state=None, episode_starts=None):
        outputs = []
        for t in range(x.shape[1]):
            starts = None if episode_starts is None else episode_starts[:, t]
            output, state = self.step(x[:, t], state, starts)
            outputs.append(output)
        return torch.stack(outputs, dim=1), state


def changed(**methods):
    return type("Odd", (Sum,), methods)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_by_name_by_module_and_by_function(tmp_path, monkeypatch):
    assert isinstance(make_core("plastic", 3), PlasticNetwork)
    assert isinstance(make_core("gru", 3, num_layers=2).module, nn.GRU)
    assert isinstance(make_core(lambda size, width=4: nn.LSTM(size, width), 3, width=5), TorchCore)
    source = "from agents.memories.feedforward import Feedforward as F\nclass Own:\n    make = F"
    (tmp_path / "my_own_nets.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    own = make_core("my_own_nets:Own.make", 3, hidden_size=5)
    assert (type(own), own.output_size) == (Feedforward, 5)
    assert list(core_options("my_own_nets:Own.make")) == ["hidden_size"]


def test_options_are_read_from_the_signature():
    assert core_options(Sum) == {"width": (int, 3), "weight": (float, 1.0)}
    assert list(core_options("plastic")) == [
        *("hidden_size", "extra_dim", "teaching_size", "form", "freeze_slow_weights")
    ]
    assert core_options("plastic")["hidden_size"] == (int, 128)
    assert core_takes("plastic", "rule")
    assert not core_takes("gru", "rule")
    assert core_options(lambda size, depth=2, name=None, **more: None)["depth"].type is int


def test_a_core_with_as_many_outputs_as_asked_for():
    plastic = make_core("plastic", 3, output_size=2, hidden_size=4)
    assert (type(plastic), plastic.output_size) == (PlasticNetwork, 2)
    for core in ({*CORES} - {"plastic", *OF_IMAGES}) | {Sum}:
        made = make_core(core, 3, output_size=2)
        assert isinstance(made, Readout) != core_takes(core, "output_size")
        assert made.output_size == 2
        assert made(torch.zeros(4, 5, 3))[0].shape == (4, 5, 2)


def test_an_encoder_goes_to_who_takes_it_else_before_the_core():
    encoder = nn.Linear(7, 4)
    plastic = make_core("plastic", 4, encoder=encoder, hidden_size=4)
    around = make_core("gru", 4, encoder=encoder, output_size=2)
    assert plastic.encoder is encoder
    assert isinstance(around.core, Encoded)
    assert encoder_in(plastic) is encoder_in(around) is encoder
    assert encoder_in(make_core("gru", 4, output_size=2)) is None
    x = torch.randn(2, 5, 7, generator=seeded())
    torch.testing.assert_close(around(x)[0], outputs_of(around, x))
    torch.testing.assert_close(around(x)[0][:, 0], around.step(x[:, 0])[0])
    images = Conv4((16, 16, 1), 4)
    prototypical = make_core("prototypical", 3, encoder=images, output_size=3)
    assert isinstance(prototypical, PrototypicalNetwork)
    assert prototypical.output_size == 3


@pytest.mark.parametrize("core", [*sorted({*CORES} - {*OF_IMAGES}), Sum], ids=str)
def test_the_same_seed_makes_the_same_parameters(core):
    made = [make_core(core, 3, output_size=2, generator=seeded(seed)) for seed in (0, 0, 1)]
    values = [nn.utils.parameters_to_vector(each.parameters()) for each in made]
    assert values[0].equal(values[1])
    assert not values[0].equal(values[2])
    before = torch.get_rng_state()
    make_core(core, 3, output_size=2, generator=seeded())
    assert before.equal(torch.get_rng_state())


def test_a_probe_is_there_if_the_core_has_one():
    assert not hasattr(make_core("gru", 3, output_size=2), "probe")
    around = Readout(make_core("plastic", 3, hidden_size=4), 2)
    outputs, _, probes = around.probe(torch.ones(1, 5, 3))
    assert (outputs.shape, probes.eta.shape) == ((1, 5, 2), (1, 5))


def fails(size):
    raise RuntimeError("no such luck")


@pytest.mark.parametrize(
    ("core", "options", "problem"),
    [
        ("transformer", {}, "core must be one of 'plastic', .*module:name"),
        (nn.LSTM(3, 4), {}, "core must be one of"),
        ("no_such_module:make", {}, "there is no module no_such_module"),
        ("agents.tree:nothing", {}, "agents.tree .*has no .nothing"),
        ("agents tree:leaves", {}, "must be named module:name"),
        ("gru", {"width": 3}, "core gru has no option 'width'; its options: hidden_size, num_lay"),
        ("lstm", {"rule": "hebbian"}, "core lstm has no option 'rule'"),
        ("prototypical", {}, "core prototypical needs output_size"),
        ("plastic", {"form": "fast"}, "form must be one of"),
        ("plastic", {"rule": "none", "freeze_slow_weights": True}, "nothing to learn"),
        ("lstm", {"hidden_size": 10**8}, "hidden_size=100000000.* is too large"),
        ("mlp", {"hidden_size": 10**8, "output_size": 2}, "is too large"),
        ("rnn", {"nonlinearity": "sin"}, "nonlinearity must be one of"),
        (Sum, {"wide": 2}, "core Sum has no option 'wide'; its options: width, weight"),
        (lambda size, depth: Sum(size), {}, "needs depth"),
        (lambda size: nn.Linear(size, 4), {}, "made a Linear without output_size, initial_state"),
        (lambda size: object(), {}, "must make a torch.nn.Module"),
        (lambda size, output_size: Sum(size), {"output_size": 7}, "make 7 outputs, but made 3"),
        (fails, {}, "core fails cannot be made: RuntimeError: no such luck"),
        (changed(output_size=0), {}, "output_size of what core Odd makes must be an integer"),
        (changed(initial_state=lambda self, b: torch.zeros(1, b)), {}, "the batch first, but"),
        (changed(initial_state=lambda self, b: (1.0,)), {}, "the batch first, but holds float"),
    ],
)
def test_refuses(core, options, problem):
    with pytest.raises(ValueError, match=problem):
        make_core(core, 300, **options)
