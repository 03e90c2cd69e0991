"""The prototypical network against a literal loop over classes and steps."""

import pytest
import torch
from torch.nn import functional as F

from agents import Conv4, PrototypicalNetwork

SHAPE, N_WAY = (16, 16, 1), 3


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=[False, True], ids=["with_image", "delayed"])
def delayed(request):
    return request.param


@pytest.fixture
def net(delayed):
    images = Conv4(SHAPE, filters=4, generator=seeded())
    net = PrototypicalNetwork(images, N_WAY, delayed=delayed).double()
    net(episodes(delayed)[0])  # so that running statistics are not 0 and 1
    return net.eval()


def episodes(delayed, batch=4, k_shot=2, n_query=3, seed=1):
    """Return inputs, and the label that belongs to each step's image, -1 at queries."""
    generator = seeded(seed)
    support, steps = N_WAY * k_shot, N_WAY * k_shot + n_query
    image = torch.randint(0, 256, (batch, steps, *SHAPE), dtype=torch.uint8, generator=generator)
    classes = torch.full((batch, steps), -1)
    for b in range(batch):
        classes[b, :support] = torch.randperm(support, generator=generator) % N_WAY
    label = F.one_hot(classes.clamp(min=0), N_WAY) * (classes >= 0).unsqueeze(-1)
    if delayed:
        label = torch.cat([torch.zeros_like(label[:, :1]), label[:, :-1]], dim=1)
    return {"image": image, "label": label.double()}, classes


def part_of(inputs, batch=slice(None), steps=slice(None)):
    return {name: part[batch, steps] for name, part in inputs.items()}


def literal_logits(net, inputs, classes, delayed):
    """Snell et al. (2017), equations 1 and 2, one step and one class at a time."""
    batch, steps = classes.shape
    pixels = inputs["image"].permute(0, 1, 4, 2, 3).double() / 255
    logits = torch.empty(batch, steps, N_WAY, dtype=torch.float64)
    for b in range(batch):
        embeddings = net.image_encoder(pixels[b])
        for t in range(steps):
            for k in range(N_WAY):
                known = [s for s in range(t) if classes[b, s] == k]
                prototype = torch.zeros_like(embeddings[0])
                if known:
                    prototype = embeddings[known].mean(dim=0)
                logits[b, t, k] = -(embeddings[t] - prototype).square().sum()
    return logits


def test_logits_equal_the_literal_loop(net, delayed):
    # The label of image t - 1 is known at step t in both modes: it came with t - 1, or comes now.
    inputs, classes = episodes(delayed)
    logits, _ = net(inputs)
    torch.testing.assert_close(logits, literal_logits(net, inputs, classes, delayed))


def test_gradients_equal_those_of_the_literal_loop(net, delayed):
    inputs, classes = episodes(delayed, batch=2)
    targets = torch.tensor([0, 1, 2]).expand(2, 3)
    gradients = []
    for logits in (net(inputs)[0], literal_logits(net, inputs, classes, delayed)):
        net.zero_grad()
        F.cross_entropy(logits[:, -3:].flatten(end_dim=1), targets.flatten()).backward()
        gradients.append([p.grad.clone() for p in net.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        assert ours.abs().max() > 0
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("cut", [1, 4, 8])
def test_split_sequence_equals_the_whole(net, delayed, cut):
    inputs, _ = episodes(delayed)
    whole, end = net(inputs)
    first, state = net(part_of(inputs, steps=slice(cut)))
    second, state = net(part_of(inputs, steps=slice(cut, None)), state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    for ours, theirs in zip(state, end, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_steps_equal_the_whole(net, delayed):
    inputs, _ = episodes(delayed)
    whole, _ = net(inputs)
    state = None
    for t in range(whole.shape[1]):
        logits, state = net.step(part_of(inputs, steps=t), state)
        torch.testing.assert_close(logits, whole[:, t])


def test_samples_do_not_depend_on_their_batch_in_evaluation(net, delayed):
    inputs, _ = episodes(delayed)
    logits, _ = net(inputs)
    for b in range(len(logits)):
        alone, _ = net(part_of(inputs, batch=slice(b, b + 1)))
        torch.testing.assert_close(alone[0], logits[b])


def test_initial_state_is_no_state(net, delayed):
    inputs, _ = episodes(delayed)
    assert torch.equal(net(inputs)[0], net(inputs, net.initial_state(4))[0])


def test_the_label_of_a_step_does_not_tell_its_own_answer(net, delayed):
    """Neither its own label with the image, nor a label that comes later, changes a logit."""
    inputs, _ = episodes(delayed)
    step = 3
    changed = {name: part.clone() for name, part in inputs.items()}
    first = step + 1 if delayed else step
    changed["label"][:, first:] = changed["label"][:, first:].roll(1, dims=-1)
    before, after = net(inputs)[0], net(changed)[0]
    torch.testing.assert_close(before[:, : step + 1], after[:, : step + 1])
    assert not torch.allclose(before[:, step + 1], after[:, step + 1])


def test_a_support_image_shown_again_is_named(net, delayed):
    inputs, classes = episodes(delayed, k_shot=1, n_query=3)
    inputs["image"][:, 3:] = inputs["image"][:, :3]
    logits, _ = net(inputs)
    assert torch.equal(logits[:, 3:].argmax(dim=-1), classes[:, :3])
    torch.testing.assert_close(
        logits[:, 3:].max(dim=-1).values, torch.zeros(4, 3, dtype=torch.float64)
    )


def test_renamed_classes_rename_the_logits(net, delayed):
    inputs, _ = episodes(delayed)
    order = torch.tensor([2, 0, 1])
    renamed = {**inputs, "label": inputs["label"][..., order]}
    torch.testing.assert_close(net(renamed)[0], net(inputs)[0][..., order])


def test_embeddings_and_vectors_can_stand_for_images(net, delayed):
    inputs, _ = episodes(delayed)
    logits, _ = net(inputs)
    flat_images = inputs["image"].flatten(end_dim=1)
    embedding = net.embed(flat_images.numpy(), block=7).view(*logits.shape[:2], -1)
    torch.testing.assert_close(net({"embedding": embedding, "label": inputs["label"]})[0], logits)
    pixels = inputs["image"].flatten(start_dim=2).double() / 255
    vectors = torch.cat([pixels, inputs["label"]], dim=-1)
    torch.testing.assert_close(net(vectors)[0], logits)
    torch.testing.assert_close(net.step(vectors[:, 0])[0], logits[:, 0])


def test_labels_of_another_number_of_classes_are_refused(net, delayed):
    inputs, _ = episodes(delayed)
    with pytest.raises(ValueError, match="labels must have shape"):
        net({**inputs, "label": inputs["label"][..., :2]})
