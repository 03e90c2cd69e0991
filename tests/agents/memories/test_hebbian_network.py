"""`HebbianMemoryNetwork` against its equations, and what it refuses."""

import numpy as np
import pytest
import torch

from agents import HebbianMemoryNetwork, HebbianMemoryState, make_core
from plastic_envs.tasks import Association


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def make(**options):
    given = {"output_size": 3, "embedding": 7, "memory_size": 5, **options}
    return make_core("h-mem", 4, generator=seeded(), **given).double()


def inputs(batch, steps, seed=1):
    return torch.randn(batch, steps, 4, generator=seeded(seed), dtype=torch.float64)


def by_hand(core, x, memory):
    """Outputs [T, output_size] and the last memory of one sample, in NumPy."""
    weights = {name: value.detach().numpy() for name, value in core.named_parameters()}

    def relu(z):
        return np.maximum(z, 0)

    def normalised(z, which):
        centred = z - z.mean()
        scaled = centred / np.sqrt((centred**2).mean() + 1e-5)
        return scaled * weights[f"norms.{which}.weight"] + weights[f"norms.{which}.bias"]

    outputs = []
    for z in x:
        s = relu(weights["features.0.weight"] @ z + weights["features.0.bias"])
        k, v = np.split(relu(weights["write.weight"] @ s), 2)
        beta = 1 / (1 + np.exp(-(weights["gate.weight"] @ s + weights["gate.bias"])))
        if core.join is not None:
            k = normalised(k, 0)
            v = normalised(weights["join.weight"] @ np.concatenate([v, memory.T @ k]), 1)
        gain = core.potentiation * (core.limit - memory) * np.outer(k, v)
        loss = core.depression * memory * np.outer(k**2, np.ones_like(v))
        memory = memory + beta * (gain - loss)
        found = np.zeros_like(v)
        for _ in range(core.hops):
            key = relu(weights["read.weight"] @ np.concatenate([s, found]))
            found = memory.T @ key
        answer = weights["readout.weight"] @ np.concatenate([s, found])
        outputs.append(answer + weights["readout.bias"])
    return np.stack(outputs), memory


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"hops": 3},
        {"hops": 2, "read_before_write": True, "limit": 2, "potentiation": 0.3, "depression": 0.02},
    ],
)
def test_it_computes_its_equations(options):
    core, x = make(**options), inputs(2, 12)
    memory = torch.rand(2, 5, 5, generator=seeded(2), dtype=torch.float64)
    outputs, state = core(x, HebbianMemoryState(memory))
    for row in range(2):
        expected, last = by_hand(core, x[row].numpy(), memory[row].numpy())
        np.testing.assert_allclose(outputs[row].detach(), expected, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(state.M[row].detach(), last, rtol=1e-10, atol=1e-12)


def test_small_keys_and_values_keep_the_memory_between_zero_and_the_limit():
    core = make(limit=0.5, potentiation=1.0, depression=1.0)
    with torch.no_grad():
        core.write.weight.abs_().mul_(0.2)
    _, state = core(inputs(3, 400))
    assert (state.M >= 0).all()
    assert (state.M <= 0.5).all()
    assert (state.M > 0.05).any()


def test_every_parameter_learns():
    core = make(hops=2, read_before_write=True)
    core(inputs(8, 6))[0].square().sum().backward()
    for name, parameter in core.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_probes_tell_what_is_written():
    core, x = make(), inputs(2, 9)
    outputs, state, probes = core.probe(x)
    same, also = core(x)
    torch.testing.assert_close(outputs, same)
    torch.testing.assert_close(state.M, also.M)
    assert all(part.shape == (2, 9) and not part.requires_grad for part in probes)
    s = core.features(x)
    torch.testing.assert_close(probes.write, torch.sigmoid(core.gate(s)).squeeze(-1).detach())
    first = core.write(s[:, 0]).relu().chunk(2, dim=-1)[1]  # an empty memory holds nothing
    torch.testing.assert_close(probes.residual[:, 0], first.norm(dim=-1).detach())
    torch.testing.assert_close(probes.norm[:, -1], state.M.flatten(1).norm(dim=-1).detach())


@pytest.mark.slow
def test_it_learns_to_associate():
    """Five pairs, after 500 small updates: far above the chance of a fifth."""
    task = Association(num_pairs=5, num_labels=5)
    core = make_core("h-mem", 16, output_size=5, memory_size=50, generator=seeded())
    optimiser = torch.optim.Adam(core.parameters(), 0.003)
    rng = np.random.default_rng(0)
    for _ in range(500):
        episodes = task.sample_episodes(64, rng)
        answers = core(torch.from_numpy(episodes.observations))[0][:, -1]
        right = torch.from_numpy(episodes.targets)[:, -1]
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(answers, right).backward()
        optimiser.step()
    episodes = task.sample_episodes(500, 1)
    answers = core(torch.from_numpy(episodes.observations))[0].argmax(-1).numpy()
    assert task.score(answers, episodes) > 0.6


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"embedding": 0}, "^embedding must be an integer of at least 1, got 0"),
        ({"memory_size": 1.5}, "^memory_size must be an integer"),
        ({"hops": 0}, "^hops must be an integer"),
        ({"read_before_write": "yes"}, "^read_before_write must be"),
        ({"limit": 0}, "^limit must be"),
        ({"potentiation": 1.1}, "^potentiation must be"),
        ({"depression": -0.1}, "^depression must be"),
        ({"embedding": 10**6, "memory_size": 10**6}, "embedding=1000000"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(options, error):
    with pytest.raises(ValueError, match=error):
        HebbianMemoryNetwork(4, **options)


def test_inputs_and_states_of_another_form_are_refused():
    core = make()
    for x, error in (
        (torch.zeros(2, 3, 4), "the core is torch.float64"),
        (inputs(2, 3)[..., :2], "x must have shape"),
        ([1.0], "x must be a dense"),
    ):
        with pytest.raises(ValueError, match=error):
            core(x)
    for state, error in (
        (core.initial_state(3), "the state holds torch.float64"),
        (HebbianMemoryState(torch.zeros(2, 5, 5)), "the state holds torch.float32"),
        ((torch.zeros(2, 5, 5),), "state must be a HebbianMemoryState"),
    ):
        with pytest.raises(ValueError, match=error):
            core(inputs(2, 3), state)
    with pytest.raises(ValueError, match="episode_starts must be bool"):
        core(inputs(2, 3), None, torch.zeros(2, 3))
    with pytest.raises(ValueError, match="the state would be"):
        core.initial_state(2**30)
