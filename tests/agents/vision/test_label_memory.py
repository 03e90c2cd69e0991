"""Label memories against the methods that they are: nearest neighbours, prototypes, ridge."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from agents import Conv4, LabelMemory, PrototypicalNetwork
from agents.core import core_options, make_core
from agents.memories.updates import Mesa

SHAPE, N_WAY = (16, 16, 1), 3
CORES = ("label-attention", "label-mesa", "label-hebbian", "label-delta")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def make(core, **options):
    images = Conv4(SHAPE, filters=4, generator=seeded())
    return make_core(core, 1, encoder=images, output_size=N_WAY, **options).double().eval()


def episodes(net, k_shot=1, n_query=3, delayed=False, seed=1):
    """Return inputs of embeddings, and the label of each image of the support."""
    generator, support = seeded(seed), N_WAY * k_shot
    size = net.image_encoder.embedding_size
    embedding = torch.randn(4, support + n_query, size, generator=generator, dtype=torch.float64)
    classes = torch.stack([torch.randperm(support, generator=generator) % N_WAY for _ in range(4)])
    label = F.pad(F.one_hot(classes, N_WAY), (0, 0, 0, n_query)).double()
    if delayed:
        label = F.pad(label, (0, 0, 1, 0))[:, :-1]
    return {"embedding": embedding, "label": label}, label[:, :support]


def test_attention_starts_as_the_prototypical_network():
    memory = make("label-attention")
    prototypes = PrototypicalNetwork(memory.image_encoder, N_WAY).eval()
    inputs, _ = episodes(memory)
    ours, theirs = (net(inputs)[0][:, 3:].softmax(-1) for net in (memory, prototypes))
    torch.testing.assert_close(ours, theirs)


def test_attention_is_the_share_of_each_label_among_neighbours():
    memory = make("label-attention", kappa=0.3)
    inputs, label = episodes(memory, k_shot=2)
    metric = nn.init.normal_(memory.layer.project.metric.weight, generator=seeded())
    keys, queries = (inputs["embedding"] @ metric.T).split([6, 3], dim=1)
    weights = (-0.3 * torch.cdist(queries, keys).square()).softmax(-1)
    expected = (weights @ label).log() / 0.3
    torch.testing.assert_close(memory(inputs)[0][:, 6:], expected)


def test_mesa_is_ridge_regression_on_embeddings():
    memory = make("label-mesa", ridge=0.7)
    inputs, label = episodes(memory, k_shot=2)
    keys, queries = inputs["embedding"].double().split([6, 3], dim=1)
    normal = keys.mT @ keys + 0.7 * torch.eye(keys.shape[-1])
    expected = queries @ torch.linalg.solve(normal, keys.mT @ label)
    logits = memory(inputs)[0][:, 6:]
    torch.testing.assert_close(logits / memory.log_scale.exp(), expected)


@pytest.mark.parametrize("core", ["label-hebbian", "label-delta"])
def test_a_matrix_memory_holds_a_label_as_it_is(core):
    memory = make(core)
    inputs, label = episodes(memory)
    inputs["embedding"][:, 3:] = 2 * inputs["embedding"][:, 2:3]
    logits = memory(inputs)[0][:, 3]
    assert logits.argmax(-1).equal(label[:, 2].argmax(-1))
    _, _, probes = memory.probe(inputs)
    torch.testing.assert_close(probes.write[:, :3], torch.ones(4, 3, dtype=torch.float64))
    assert (probes.write[:, 3:] < 1e-20).all()


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("delayed", [False, True])
def test_steps_equal_the_sequence(core, delayed):
    memory = make(core, delayed=delayed)
    inputs, _ = episodes(memory, k_shot=2, delayed=delayed)
    starts = torch.zeros(4, 9, dtype=torch.bool)
    starts[1, 4], starts[2, [0, 3]] = True, True
    logits, final = memory(inputs, None, starts)
    state = None
    for t in range(9):
        part = {name: values[:, t] for name, values in inputs.items()}
        output, state = memory.step(part, state, starts[:, t])
        torch.testing.assert_close(output, logits[:, t], rtol=1e-9, atol=1e-9)
    ours, theirs = ([*each.memory, each.last] for each in (state, final))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("core", CORES)
def test_images_without_a_label_change_nothing(core):
    memory = make(core)
    inputs, _ = episodes(memory)
    first, last = [0, 1, 2, 3, 5], [0, 1, 2, 5]
    seen = {name: part[:, first] for name, part in inputs.items()}
    unseen = {name: part[:, last] for name, part in inputs.items()}
    torch.testing.assert_close(memory(seen)[0][:, -1], memory(unseen)[0][:, -1])


@pytest.mark.parametrize("core", CORES)
def test_a_delayed_label_belongs_to_the_image_before(core):
    prompt, late = make(core), make(core, delayed=True)
    late.load_state_dict(prompt.state_dict())
    expected = prompt(episodes(prompt)[0])[0][:, 3:]
    inputs, _ = episodes(late, delayed=True)
    torch.testing.assert_close(late(inputs)[0][:, 3:], expected)


@pytest.mark.parametrize("core", CORES)
def test_before_anything_is_labelled_all_labels_are_as_likely(core):
    memory = make(core)
    inputs, _ = episodes(memory)
    inputs["label"].zero_()
    logits = memory(inputs)[0]
    torch.testing.assert_close(logits, logits[..., :1].expand_as(logits), atol=1e-6, rtol=0)


def test_far_images_leave_finite_gradients():
    memory = make("label-attention", kappa=1.0).float()
    inputs, _ = episodes(memory)
    inputs = {"embedding": 1e3 * inputs["embedding"].float(), "label": inputs["label"].float()}
    loss = F.cross_entropy(memory(inputs)[0].flatten(0, 1), torch.zeros(24, dtype=torch.int64))
    loss.backward()
    gradients = [p.grad for p in memory.layer.parameters()] + [memory.log_scale.grad]
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_noise_is_for_training_and_in_units_of_each_entry():
    memory = make("label-mesa", noise=0.5)
    inputs, _ = episodes(memory)
    assert torch.equal(memory(inputs)[0], memory(inputs)[0])
    memory.train()
    torch.manual_seed(0)
    first = memory(inputs)[0]
    assert not torch.equal(memory(inputs)[0], first)
    torch.manual_seed(0)
    assert torch.equal(memory(inputs)[0], first)
    scaled = {**inputs, "embedding": 1e3 * inputs["embedding"]}
    memory.layer.form = "chunked"  # which solves in the size of the sequence: any Λ will do
    memory.layer.update.log_ridge.data.fill_(-99)
    memory.layer.update.least_ridge = 1e-9
    torch.manual_seed(0)
    small = memory(inputs)[0][:, 3:]
    torch.manual_seed(0)
    torch.testing.assert_close(memory(scaled)[0][:, 3:], small)


def test_options_are_those_of_the_core_and_its_update():
    assert list(core_options("label-mesa")) == ["delayed", "noise", "keep", "ridge", "least_ridge"]
    assert list(core_options("label-attention")) == [
        "delayed",
        "noise",
        "context",
        "match",
        "kappa",
    ]
    assert core_options("label-attention")["kappa"].default == 0.5


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"noise": -1}, "noise must be"),
        ({"delayed": 1}, "delayed must be True or False"),
        ({"update": "mesa"}, "update must be an Update"),
        ({"update": Mesa(4, 2, 1)}, "keys of 4 and values of 3 entries, got 1, 4, 2"),
    ],
)
def test_refuses(changes, problem):
    arguments = {"update": Mesa(4, 3, 1), **changes}
    with pytest.raises(ValueError, match=problem):
        LabelMemory(Conv4(SHAPE, filters=4), N_WAY, **arguments)


def test_a_state_of_another_core_is_refused():
    memory = make("label-mesa")
    inputs, _ = episodes(memory)
    with pytest.raises(ValueError, match="state must be LabelMemoryState"):
        memory(inputs, make("prototypical")(inputs)[1])
    with pytest.raises(ValueError, match="memory must be MesaState"):
        memory(inputs, make("label-delta")(inputs)[1])
    with pytest.raises(ValueError, match="the state holds"):
        memory(inputs, memory.initial_state(3))
