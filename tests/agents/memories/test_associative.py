"""`AssociativeMemory` as a core: steps, resets, batches, states, probes, and what is refused."""

import numpy as np
import pytest
import torch

from agents import AssociativeMemory, MemoryProbes, MemoryState
from agents.core import CORES, core_options, make_core
from agents.memories.naive import emptied
from agents.memories.updates import Delta, Update
from agents.tree import leaves, map_tree

MEMORIES = ("hebbian-memory", "delta", "gated-delta", "mesa", "attention")
SMALL = {"embedding": 12, "key_size": 5, "value_size": 3}
CASES = {name: (name, {}) for name in MEMORIES} | {
    "mesa-keep": ("mesa", {"keep": 0.95}),
    "mesa-deep": ("mesa", {"layers": 2, "heads": 2}),
    "delta-deep": ("delta", {"layers": 3, "heads": 2, "features": "tanh"}),
    "attention-short": ("attention", {"context": 4, "match": "dot", "features": "relu"}),
    "delta-gru": ("delta", {"features": "gru"}),
    "mesa-plastic": ("mesa", {"features": "plastic", "embedding": 6}),
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def make(name, **more):
    core, options = CASES[name]
    made = make_core(core, 4, output_size=2, generator=seeded(), **{**SMALL, **options, **more})
    assert isinstance(made, AssociativeMemory)
    return made.double()


def inputs(batch, steps, seed=1):
    return torch.randn(batch, steps, 4, generator=seeded(seed), dtype=torch.float64)


def some_starts(batch, steps):
    return torch.rand(batch, steps, generator=seeded(2)) < 0.2


def test_nothing_is_copied_where_no_episode_starts():
    """A copy of a long buffer of attention would take longer than the step."""
    state = make("attention").initial_state(3)
    assert emptied(state, torch.zeros(3, dtype=torch.bool)) is state
    assert emptied(state, torch.tensor([False, True, False])) is not state


@pytest.mark.parametrize("name", CASES)
def test_steps_equal_the_sequence(name):
    core, x, starts = make(name), inputs(3, 23), some_starts(3, 23)
    _, state = core(inputs(3, 5, seed=3))
    outputs, final = core(x, state, starts)
    for t in range(23):
        output, state = core.step(x[:, t], state, starts[:, t])
        torch.testing.assert_close(output, outputs[:, t], rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(list(leaves(state)), list(leaves(final)), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_parts_equal_the_whole_with_gradients(name):
    core, x, starts = make(name), inputs(2, 50).requires_grad_(), some_starts(2, 50)
    outputs, final = core(x, None, starts)
    first, state = core(x[:, :31], None, starts[:, :31])
    second, end = core(x[:, 31:], state, starts[:, 31:])
    parts = torch.cat([first, second], dim=1)
    torch.testing.assert_close(parts, outputs, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(list(leaves(end)), list(leaves(final)), rtol=1e-9, atol=1e-10)
    wanted = [x, *core.parameters()]
    whole, joined = (
        torch.autograd.grad(y.square().sum(), wanted, allow_unused=True) for y in (outputs, parts)
    )
    for a, e in zip(joined, whole, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-8, atol=1e-9)
    unused = [n for (n, _), g in zip(core.named_parameters(), whole[1:], strict=True) if g is None]
    assert unused == []


@pytest.mark.parametrize("name", CASES)
def test_resets_start_afresh_and_states_are_kept(name):
    core, x = make(name), inputs(2, 12)
    _, state = core(x)
    before = map_tree(torch.clone, state)
    starts = torch.zeros(2, 12, dtype=torch.bool)
    starts[0, 7] = True
    outputs, final = core(x, state, starts)
    fresh, after = core(x[:1, 7:])
    torch.testing.assert_close(outputs[:1, 7:], fresh)
    ends = [leaf[:1] for leaf in leaves(final)]
    torch.testing.assert_close(ends, list(leaves(after)))
    core.step(x[:, 0], state, starts[:, 7])
    torch.testing.assert_close(list(leaves(state)), list(leaves(before)), rtol=0, atol=0)


@pytest.mark.parametrize("name", CASES)
def test_a_sample_with_nan_poisons_its_own_only(name):
    core, x = make(name), inputs(3, 50)
    clean, _ = core(x)
    x[1, 20] = torch.nan
    outputs, final = core(x.requires_grad_(), core.initial_state(3))
    (gradient,) = torch.autograd.grad(outputs[[0, 2]].sum(), x)
    assert gradient[[0, 2]].isfinite().all()
    torch.testing.assert_close(outputs[[0, 2]], clean[[0, 2]])
    assert outputs[1, 20:].isnan().all()
    assert all(leaf[[0, 2]].isfinite().all() for leaf in leaves(final))
    x = x.detach()
    output, state = core.step(x[:, 20], core.initial_state(3))
    assert output[1].isnan().all()
    assert output[[0, 2]].isfinite().all()
    output, _ = core.step(x[:, 0], state, torch.tensor([False, True, False]))
    torch.testing.assert_close(output[1], clean[1, 0])  # a reset ends it


@pytest.mark.parametrize("name", CASES)
def test_probes(name):
    core, x, starts = make(name), inputs(2, 9), some_starts(2, 9)
    outputs, state = core(x, None, starts)
    same, also, probes = core.probe(x, None, starts)
    torch.testing.assert_close(same, outputs)
    torch.testing.assert_close(list(leaves(also)), list(leaves(state)))
    assert isinstance(probes, MemoryProbes)
    assert same.requires_grad
    for part in probes:
        assert part.shape == (2, 9)
        assert not part.requires_grad
        assert (part >= 0).all()


def test_probes_tell_what_is_known():
    """The same input again and again: ever less of its value is new to the memory."""
    core = make("mesa")
    _, _, probes = core.probe(inputs(1, 1).expand(1, 30, 4))
    assert (probes.residual.diff() < 0).all()
    assert (probes.norm.diff() > 0).all()
    assert probes.residual[0, -1] < 0.1 * probes.residual[0, 0]


def test_options_are_those_of_core_and_memory():
    shared = ["embedding", "features", "key_size", "value_size", "heads", "layers"]
    assert list(core_options("delta")) == [*shared, "keep"]
    assert list(core_options("mesa")) == [*shared, "keep", "ridge", "least_ridge"]
    assert list(core_options("attention")) == [*shared, "context", "match", "kappa"]
    assert core_options("mesa")["ridge"] == (float, 0.1)
    assert set(MEMORIES) < set(CORES)


def test_a_memory_of_ones_own():
    class Half(Delta):
        largest_write = 0.5

    core = AssociativeMemory(4, Half, output_size=1)
    _, _, probes = core.probe(torch.randn(2, 3, 4, generator=seeded()))
    assert (probes.write < 0.5).all()


def test_states_map_detach_and_move():
    core = make("delta-gru")
    _, state = core(inputs(2, 3))
    assert isinstance(state, MemoryState)
    assert all(len(leaf) == 2 for leaf in leaves(state))
    assert not any(leaf.requires_grad for leaf in leaves(state.detach()))
    torch.testing.assert_close(list(leaves(state.to("cpu"))), list(leaves(state)))


@pytest.mark.parametrize("name", MEMORIES)
def test_autocast_leaves_it_in_its_precision(name):
    core, x = make(name).float(), inputs(2, 9).float()
    expected, final = core(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs, state = core(x)
        output, _ = core.step(x[:, 0].bfloat16())
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(list(leaves(state)), list(leaves(final)))
    assert output.dtype == torch.float32


@pytest.mark.parametrize("name", [name for name in CASES if "gru" not in name and "pl" not in name])
def test_no_tensor_is_made_elsewhere(name):
    core = make(name).to("meta")
    x = torch.zeros(2, 50, 4, device="meta", dtype=torch.float64)
    starts = torch.zeros(2, 50, device="meta", dtype=torch.bool)
    outputs, state = core(x, core.initial_state(2), starts)
    outputs.sum().backward()
    output, state = core.step(x[:, 0], state, starts[:, 0])
    assert {leaf.device.type for leaf in (output, outputs, *leaves(state))} == {"meta"}


def test_ridge_and_keep_are_learned():
    core = make("mesa-keep")
    outputs, _ = core(inputs(2, 20))
    outputs.square().sum().backward()
    update = core.layers[0].update
    assert update.log_ridge.grad.abs().min() > 0
    assert update.keep.grad.abs().min() > 0
    with torch.no_grad():
        update.log_ridge.fill_(-100)
    np.testing.assert_allclose(update.ridge.detach(), 1e-3)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"key_size": 0}, "key_size must be an integer of at least 1"),
        ({"heads": 0}, "heads must be"),
        ({"layers": 0}, "layers must be"),
        ({"embedding": 0}, "embedding must be"),
        ({"features": "cnn"}, "features must be one of 'linear', 'relu'"),
        ({"ridge": 1e-4}, "ridge must be"),
        ({"keep": 2}, "keep must be"),
        ({"update": "transformer"}, "update must be one of 'hebbian', 'delta'"),
        ({"update": Update, "context": 3}, "Update has no setting 'context'; its settings: keep"),
        ({"context": 3}, "Mesa has no setting 'context'; its settings: keep, ridge, least_ridge"),
        ({"embedding": 2**20}, "is too large: the parameters"),
    ],
)
def test_bad_arguments(options, problem):
    with pytest.raises(ValueError, match=problem):
        AssociativeMemory(4, **options)


def test_bad_inputs_and_states():
    core = AssociativeMemory(4, "mesa", **SMALL)
    x = torch.zeros(2, 3, 4)
    _, state = core(x)
    for bad in (x[..., :3], x[:, :0], x[0], x.double(), x.to_sparse(), None):
        with pytest.raises(ValueError, match=r"x must|the core is"):
            core(bad)
    with pytest.raises(ValueError, match="episode_starts must be bool"):
        core(x, None, torch.zeros(2, 3))
    with pytest.raises(ValueError, match="episode_starts must be bool"):
        core.step(x[:, 0], None, torch.zeros(3, dtype=torch.bool))
    _, other = AssociativeMemory(4, "delta", **SMALL)(x)
    wider = AssociativeMemory(4, "mesa", **{**SMALL, "key_size": 6}).initial_state(2)
    for bad, problem in (
        (other, "state must be that of this core"),
        (make_core("gru", 4).initial_state(2), "state must be that of this core"),
        (wider, r"the state holds .*\[2, 1, 6, 6\].* where .*\[2, 1, 5, 5\].* is needed"),
        (state.map(torch.Tensor.double), "float64 .* where .*float32"),
        (state.map(lambda leaf: leaf[:1]), r"\[1, 1, 5, 5\]"),
        ((), "state must be that of this core"),
    ):
        for call in (core, lambda x, state: core.step(x[:, 0], state)):
            with pytest.raises(ValueError, match=problem):
                call(x, bad)
    with pytest.raises(ValueError, match="batch_size"):
        core.initial_state(-1)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "steps", "limit"), [("mesa", 1000, 0.03), ("delta", 1000, 0.4)])
def test_learns_regression(name, steps, limit):
    """Plain training; one pass of the delta rule cannot do better than 0.2, ridge makes 0.02."""
    from plastic_envs.tasks import Regression

    task = Regression()
    core = make_core(name, 14, output_size=1, generator=seeded())
    optimizer = torch.optim.AdamW(core.parameters(), lr=3e-3, weight_decay=0.0, amsgrad=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    def error(count, seed):
        episodes = task.sample_episodes(count, seed)
        answers, _ = core(torch.from_numpy(episodes.observations))
        wrong = (answers - torch.from_numpy(episodes.targets)).square().mean(-1)
        return wrong[torch.as_tensor(episodes.scored).expand_as(wrong)].mean()

    for step in range(steps):
        optimizer.zero_grad()
        error(64, 1 + step).backward()
        optimizer.step()
        schedule.step()
    assert error(500, 0) < limit
