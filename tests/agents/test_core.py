"""What every core must do, whatever it is."""

import copy
import importlib.util
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from agents import Gradient, Hebbian, NonPlastic, Preconditioned
from agents.core import Encoded, Readout, make_core, outputs_of
from agents.plastic.cells import CELLS
from agents.plastic.rules import RULES
from agents.tree import leaves, map_tree

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_core.py"
STRONG = {"base_eta": 0.4, "base_decay": 0.2, "max_norm": 0.9}
RULE_SETTINGS = {Gradient: STRONG, Hebbian: STRONG, NonPlastic: {}}


class Pixels(nn.Module):
    """A small encoder of images."""

    image_shape, embedding_size = (2, 2, 1), 3

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, images):
        return self.layer(images.flatten(1)).tanh()


class Case(NamedTuple):
    """How to make a core, and how many entries its inputs have."""

    make: Callable[[torch.Generator], Any]
    input_size: int = 3
    remembers: bool = True


def imported(path: Path) -> Any:
    """Import a file as a module, as pickle needs it."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    sys.modules[path.stem] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def named(core: Any, **options: Any) -> Case:
    return Case(lambda generator: make_core(core, 3, generator=generator, **options))


def plastic(rule: str, cell: str) -> Case:
    kind = RULES[rule]
    made = kind(**RULE_SETTINGS.get(kind, {}))
    return named("plastic", hidden_size=5, output_size=2, extra_dim=1, rule=made, cell=cell)


def of_images(core: str, **options: Any) -> Case:
    def make(generator):
        return make_core(core, 3, encoder=Pixels(), output_size=3, **options)

    return Case(make, input_size=7)


CASES = {
    **{f"plastic-{rule}-rnn": plastic(rule, "rnn") for rule in RULES},
    **{f"plastic-gradient-{cell}": plastic("gradient", cell) for cell in CELLS},
    "plastic-taught": named(
        "plastic",
        hidden_size=5,
        output_size=2,
        rule=Preconditioned(layers="readout", prior_variance=3.0),
        teaching_size=1,
    ),
    "lstm": named("lstm", hidden_size=4),
    "gru-layers": named("gru", hidden_size=4, num_layers=2),
    "rnn-relu": named("rnn", hidden_size=4, nonlinearity="relu"),
    "lstm-projection": named(lambda size: nn.LSTM(size, 4, proj_size=2)),
    "mlp": named("mlp", hidden_size=4)._replace(remembers=False),
    "h-mem": named("h-mem", embedding=5, memory_size=4, output_size=2),
    "h-mem-hops": named("h-mem", embedding=5, memory_size=4, hops=3, read_before_write=True),
    "prototypical": of_images("prototypical"),
    "prototypical-delayed": of_images("prototypical", delayed=True),
    "label-attention": of_images("label-attention", context=12),
    "label-hebbian-delayed": of_images("label-hebbian", delayed=True),
    "example": named(imported(EXAMPLE).make, width=4),
    "readout": named("gru", hidden_size=4, output_size=2),
    "readout-plastic": Case(
        lambda g: Readout(make_core("plastic", 3, hidden_size=4, generator=g), 2, generator=g)
    ),
    "encoded": Case(lambda g: Encoded(nn.Linear(3, 2), make_core("lstm", 2, generator=g))),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture
def core(case):
    return made(case)


def made(case, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return case.make(torch.Generator().manual_seed(seed)).double().eval()


@pytest.fixture
def x(case):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(4, 9, case.input_size, generator=generator, dtype=torch.float64)


@pytest.fixture
def state(core, x):
    """A state that an episode left behind."""
    return map_tree(torch.Tensor.detach, core(x.flip(1))[1])


@pytest.fixture
def starts():
    generator = torch.Generator().manual_seed(3)
    starts = torch.rand(4, 9, generator=generator) < 0.25
    starts[0], starts[1, [0, 5]] = False, True
    return starts


def assert_close(actual, expected):
    torch.testing.assert_close(list(leaves(actual)), list(leaves(expected)), rtol=1e-9, atol=1e-11)


def test_steps_equal_the_sequence(core, x, state, starts):
    outputs, final = core(x, state, starts)
    assert outputs.shape == (4, 9, core.output_size)
    for t in range(9):
        output, state = core.step(x[:, t], state, starts[:, t])
        assert_close(output, outputs[:, t])
    assert_close(state, final)


def test_a_sequence_in_two_parts_equals_the_whole(core, x, state, starts):
    outputs, final = core(x, state, starts)
    first, between = core(x[:, :4], state, starts[:, :4])
    second, end = core(x[:, 4:], between, starts[:, 4:])
    assert_close((torch.cat([first, second], dim=1), end), (outputs, final))


def test_without_a_state_an_episode_starts(core, x, state):
    first = torch.zeros(4, 9, dtype=torch.bool)
    first[:, 0] = True
    expected = core(x)
    assert_close(core(x, core.initial_state(4)), expected)
    assert_close(core(x, state, first), expected)
    assert_close(core.step(x[:, 0]), core.step(x[:, 0], state, first[:, 0]))


def test_an_episode_that_starts_inside_knows_nothing_of_the_one_before(case, core, x, state):
    starts = torch.zeros(4, 9, dtype=torch.bool)
    starts[1, 5] = True
    x = x.clone().requires_grad_()
    outputs, final = core(x, state, starts)
    fresh, end = core(x[1:2, 5:])
    assert_close(outputs[1:2, 5:], fresh)
    assert_close(map_tree(lambda leaf: leaf[1:2], final), end)
    (gradient,) = torch.autograd.grad(outputs[1, 5:].sum(), x)
    assert not gradient[1, :5].any()
    assert not gradient[[0, 2, 3]].any()
    if case.remembers:
        (gradient,) = torch.autograd.grad(core(x)[0][1, 8].sum(), x)
        assert gradient[1, 0].any()


def test_a_sample_alone_equals_the_sample_in_a_batch(core, x, state, starts):
    outputs, final = core(x, state, starts)
    for k in range(4):
        alone = core(x[k : k + 1], map_tree(lambda leaf: leaf[k : k + 1], state), starts[k : k + 1])  # noqa: B023
        expected = outputs[k : k + 1], map_tree(lambda leaf: leaf[k : k + 1], final)  # noqa: B023
        assert_close(alone, expected)


def test_what_is_handed_in_stays_as_it_is(core, x, state, starts):
    given = copy.deepcopy((x, state, starts))
    core(x, state, starts)
    core.step(x[:, 0], state, starts[:, 0])
    outputs_of(core, x, state, starts)
    if hasattr(core, "probe"):
        core.probe(x, state, starts)
    for now, before in zip(leaves((x, state, starts)), leaves(given), strict=True):
        assert now.equal(before)


def test_states_have_the_batch_first_and_keep_their_form(core, x, starts):
    initial, final = core.initial_state(4), core(x, None, starts)[1]
    described = [
        [(leaf.shape, leaf.dtype) for leaf in leaves(state)]
        for state in (initial, final, map_tree(lambda leaf: leaf, final))
    ]
    assert described[0] == described[1] == described[2]
    assert all(shape[0] == 4 for shape, _ in described[0])
    assert type(initial) is type(final)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_type_is_that_of_the_parameters(core, x, dtype):
    core, x = core.to(dtype), x.to(dtype)
    outputs, state = core(x)
    expected = [leaf.dtype for leaf in leaves(core.initial_state(4))]
    assert outputs.dtype is dtype
    assert [leaf.dtype for leaf in leaves(state)] == expected
    assert all(kind is dtype for kind in expected if kind.is_floating_point)


def test_every_tensor_is_on_the_device_of_the_parameters(core, x):
    """On the meta device, where any tensor of the CPU would be refused, or be seen."""
    core, x = core.to("meta"), x.to("meta")
    with made_on() as devices:
        outputs, state = core(x, core.initial_state(4))
        output, _ = core.step(x[:, 0], state, torch.zeros(4, dtype=torch.bool, device="meta"))
        outputs.sum().backward()
    assert devices == {"meta"}
    assert {leaf.device.type for leaf in leaves((outputs, output, state))} == {"meta"}


class made_on(TorchDispatchMode):  # noqa: N801 (used as a context)
    """Notes the devices of all tensors that operations return."""

    def __enter__(self):
        super().__enter__()
        self.devices = set()
        return self.devices

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.devices |= {
            leaf.device.type for leaf in leaves(result) if isinstance(leaf, torch.Tensor)
        }
        return result


def test_a_copy_is_the_same(case, core, x, starts):
    expected = core(x, None, starts)
    assert_close(pickle.loads(pickle.dumps(core))(x, None, starts), expected)
    other = made(case, seed=1)
    other.load_state_dict(core.state_dict())
    assert_close(other(x, None, starts), expected)


def test_every_parameter_learns(core, x, state, starts):
    core(x, state, starts)[0].square().sum().backward()
    for name, parameter in core.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_outputs_alone_are_the_same(core, x, state, starts):
    assert_close(outputs_of(core, x, state, starts), core(x, state, starts)[0])


def test_probes(core, x, state, starts):
    if not hasattr(core, "probe"):
        pytest.skip("it has none")
    outputs, final, probes = core.probe(x, state, starts)
    assert_close((outputs, final), core(x, state, starts))
    for name, values in probes._asdict().items():
        assert values.shape == (4, 9), name
        assert not values.requires_grad, name
