"""What a network gets of labelled images: embeddings, their projection, labels."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from agents import Conv4, ImageLabelEncoder, PlasticNetwork, ResNet12

SHAPE = (16, 18, 3)
NUM_LABELS = 2


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def uint8_images(*shape, seed=1):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=seeded(seed))


def episodes(batch=2, steps=4, shape=SHAPE):
    label = F.one_hot(torch.arange(batch * steps).view(batch, steps) % NUM_LABELS, NUM_LABELS)
    label[:, -1] = 0  # a query
    return {"image": uint8_images(batch, steps, *shape), "label": label.float()}


def flattened(inputs):
    pixels = inputs["image"].flatten(start_dim=2).float() / 255
    return torch.cat([pixels, inputs["label"]], dim=-1)


def literal_embeddings(encoder, images):
    """The embeddings [B, T, E] of uint8 images [B, T, H, W, C], by a copy that keeps no trace."""
    pixels = images.flatten(end_dim=1).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        embeddings = copy.deepcopy(encoder.image_encoder)(pixels)
    return embeddings.view(*images.shape[:2], -1)


@pytest.fixture
def images_encoder():
    return Conv4(SHAPE, filters=4, generator=seeded())


@pytest.fixture
def encoder(images_encoder):
    return ImageLabelEncoder(images_encoder, 7, NUM_LABELS, generator=seeded(1))


@pytest.mark.parametrize("rectify", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_output_is_the_projection_of_normal_embeddings_and_the_label(
    images_encoder, training, rectify
):
    encoder = ImageLabelEncoder(
        images_encoder, 7, NUM_LABELS, rectify=rectify, generator=seeded(1)
    ).train(training)
    inputs = episodes()
    embedding = literal_embeddings(encoder, inputs["image"])
    mean, variance = torch.full((4,), 0.2), torch.tensor([0.5, 1.0, 2.0, 4.0])
    encoder.normalisation.running_mean.copy_(mean)
    encoder.normalisation.running_var.copy_(variance)
    if training:
        rows = embedding.flatten(end_dim=1)
        mean, variance = rows.mean(dim=0), rows.var(dim=0, correction=0)
    normal = (embedding - mean) / (variance + encoder.normalisation.eps).sqrt()
    expected = normal @ encoder.projection.weight.T + encoder.projection.bias
    assert (expected < 0).any()
    output = encoder(inputs)
    assert output.shape == (2, 4, 7)
    assert torch.equal(output[..., 5:], inputs["label"])
    expected = expected.clamp(min=0) if rectify else expected
    torch.testing.assert_close(output[..., :5], expected, rtol=1e-4, atol=1e-5)


def test_the_projection_is_linear_unless_asked_otherwise(images_encoder):
    assert ImageLabelEncoder(images_encoder, 7, NUM_LABELS).rectify is False


def test_normalisation_has_nothing_to_learn(encoder):
    assert list(encoder.normalisation.parameters()) == []


def test_standardised_embeddings_have_mean_0_and_variance_1(encoder):
    embeddings = 5 + 3 * torch.randn(200, 4, generator=seeded(2))
    encoder.freeze()
    encoder.train()
    encoder.standardise(embeddings)
    with torch.no_grad():  # the projection shows what it is given
        encoder.projection = torch.nn.Identity()
    given = {"embedding": embeddings.view(10, 20, 4), "label": torch.zeros(10, 20, NUM_LABELS)}
    output = encoder(given)[..., :4].flatten(end_dim=1)
    torch.testing.assert_close(output.mean(dim=0), torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(output.var(dim=0), torch.ones(4), rtol=0, atol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_all_forms_of_an_observation_agree(encoder, training):
    encoder.train(training)
    inputs = episodes()
    output = encoder(inputs)
    torch.testing.assert_close(encoder(flattened(inputs)), output)
    embedding = encoder.image_encoder(
        inputs["image"].flatten(end_dim=1).permute(0, 3, 1, 2).float() / 255
    )
    given = {"embedding": embedding.view(2, 4, -1), "label": inputs["label"]}
    torch.testing.assert_close(encoder(given), output)


def test_images_of_a_batch_of_sequences_are_encoded_in_one_call(encoder):
    calls = []
    encoder.image_encoder.register_forward_hook(lambda _, args, __: calls.append(args[0].shape))
    encoder(episodes(batch=2, steps=4))
    assert calls == [(8, 3, 16, 18)]


def test_every_parameter_gets_a_gradient(encoder):
    encoder(episodes()).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_samples_do_not_depend_on_their_batch_in_evaluation(encoder):
    encoder(episodes())
    encoder.eval()
    inputs = episodes(batch=3)
    output = encoder(inputs)
    for b in range(3):
        alone = encoder({name: part[b : b + 1] for name, part in inputs.items()})
        torch.testing.assert_close(alone[0], output[b])


def test_projection_starts_within_one_over_the_root_of_its_inputs():
    images = Conv4((32, 32, 1), filters=16, generator=seeded())
    projection = ImageLabelEncoder(images, 200, NUM_LABELS, generator=seeded(1)).projection
    bound = images.embedding_size**-0.5
    for parameter in projection.parameters():
        assert 0.95 * bound < parameter.abs().max() <= bound
    again = ImageLabelEncoder(images, 200, NUM_LABELS, generator=seeded(1)).projection
    assert torch.equal(projection.weight, again.weight)
    assert torch.equal(projection.bias, again.bias)


def test_a_frozen_encoder_stays_as_it_is_and_the_projection_learns(encoder):
    encoder(episodes())  # moves the running statistics
    encoder.freeze()
    encoder.train()
    assert encoder.training
    assert encoder.projection.training
    assert not encoder.normalisation.training
    assert not any(module.training for module in encoder.image_encoder.modules())
    kept = ("image_encoder", "normalisation")
    before = copy.deepcopy({name: getattr(encoder, name).state_dict() for name in kept})
    output = encoder(episodes())
    output.square().sum().backward()
    assert all(p.grad is None for p in encoder.image_encoder.parameters())
    assert all(p.grad.abs().max() > 0 for p in encoder.projection.parameters())
    for name in kept:
        for key, value in getattr(encoder, name).state_dict().items():
            assert torch.equal(value, before[name][key]), key
    assert torch.equal(encoder.eval()(episodes()), output)


def test_without_freezing_training_moves_the_statistics(encoder):
    before = copy.deepcopy(encoder.state_dict())
    encoder(episodes())
    moved = [key for key, value in encoder.state_dict().items() if not value.equal(before[key])]
    assert "normalisation.running_mean" in moved
    assert "image_encoder.blocks.0.1.running_mean" in moved


def test_a_frozen_encoder_drops_nothing():
    images = ResNet12(SHAPE, filters=2, drop_rate=0.5, generator=seeded())
    encoder = ImageLabelEncoder(images, 7, NUM_LABELS, generator=seeded(1))
    encoder.freeze()
    encoder.train()
    assert torch.equal(encoder(episodes()), encoder(episodes()))


def test_frozen_encoder_stays_in_evaluation_inside_a_network(encoder):
    encoder.freeze()
    net = PlasticNetwork(1, 2, 7, encoder=encoder, generator=seeded())
    net.train()
    assert net.training
    assert not encoder.image_encoder.training
    assert not encoder.normalisation.training


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("block", [1, 3, 100])
def test_embed_computes_what_evaluation_does_and_leaves_no_trace(encoder, training, block):
    encoder(episodes())  # moves the running statistics
    images = uint8_images(7, *SHAPE)
    encoder.eval()
    expected = encoder.image_encoder(images.permute(0, 3, 1, 2).float() / 255)
    encoder.train(training)
    before = copy.deepcopy(encoder.state_dict())
    embeddings = encoder.embed(images.numpy(), block)
    torch.testing.assert_close(embeddings, expected)
    assert not embeddings.requires_grad
    assert encoder.training is training
    assert encoder.image_encoder.training is training
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("training", [True, False])
def test_embed_restores_the_mode_even_if_it_fails(encoder, monkeypatch, training):
    def fail(*_):
        raise MemoryError

    encoder.train(training)
    monkeypatch.setattr(encoder.image_encoder, "forward", fail)
    with pytest.raises(MemoryError):
        encoder.embed(uint8_images(2, *SHAPE).numpy())
    assert encoder.image_encoder.training is training


def test_embed_takes_images_that_cannot_be_written(encoder):
    images = uint8_images(3, *SHAPE).numpy()
    images.setflags(write=False)  # as a memory map's
    assert encoder.embed(images).shape == (3, 4)


@pytest.mark.parametrize("shape", [(3, 18, 16, 3), (3, 16, 18, 1), (16, 18, 3), (2, 3, 16, 18, 3)])
def test_embed_refuses_images_of_another_shape(encoder, shape):
    with pytest.raises(ValueError, match=r"images must be uint8 \[N, 16, 18, 3\], got uint8"):
        encoder.embed(np.zeros(shape, np.uint8))


def test_embeddings_win_over_images(encoder):
    encoder.eval()
    inputs = episodes()
    embedding = torch.randn(2, 4, 4, generator=seeded(5))
    expected = encoder({"embedding": embedding, "label": inputs["label"]})
    assert torch.equal(encoder({**inputs, "embedding": embedding}), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_images_that_are_not_uint8_are_refused(encoder, dtype):
    inputs = episodes()
    with pytest.raises(ValueError, match=f"images must be torch.uint8, got {dtype}"):
        encoder({**inputs, "image": inputs["image"].to(dtype)})


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64])
def test_vectors_of_another_type_than_the_parameters_are_refused(encoder, dtype):
    with pytest.raises(ValueError, match=f"flat inputs must be torch.float32, got {dtype}"):
        encoder(flattened(episodes()).to(dtype))


def test_vectors_have_the_type_of_the_parameters(encoder):
    encoder.double().eval()
    inputs = episodes()
    inputs["label"] = inputs["label"].double()
    pixels = inputs["image"].flatten(start_dim=2).double() / 255
    vectors = torch.cat([pixels, inputs["label"]], dim=-1)
    torch.testing.assert_close(encoder(vectors), encoder(inputs))


def test_a_generator_of_its_own_leaves_the_global_one_alone(images_encoder):
    before = torch.get_rng_state()
    ImageLabelEncoder(images_encoder, 7, NUM_LABELS, generator=seeded())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("hidden_size", [1, NUM_LABELS])
def test_hidden_size_without_room_for_the_image_is_refused(images_encoder, hidden_size):
    with pytest.raises(ValueError, match="hidden_size must be more than"):
        ImageLabelEncoder(images_encoder, hidden_size, NUM_LABELS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": None}, "inputs need 'label'"),
        ({"image": None}, "inputs need 'label'"),
        ({"label": torch.zeros(2, 4, 3)}, "labels must have shape"),
        ({"label": torch.zeros(8, 2)}, "labels must have shape"),
        ({"image": uint8_images(2, 4, 18, 16, 3)}, "must have shape"),
        ({"image": uint8_images(2, 3, *SHAPE)}, "must have shape"),
        ({"image": uint8_images(8, *SHAPE)}, "must have shape"),
        ({"image": None, "embedding": torch.zeros(2, 4, 5)}, "must have shape"),
    ],
)
def test_inputs_of_another_form_are_refused(encoder, changes, message):
    inputs = {k: part for k, part in {**episodes(), **changes}.items() if part is not None}
    with pytest.raises(ValueError, match=message):
        encoder(inputs)


@pytest.mark.parametrize("shape", [(2, 4, 16 * 18 * 3 + 3), (8, 16 * 18 * 3 + 2)])
def test_vectors_of_another_shape_are_refused(encoder, shape):
    with pytest.raises(ValueError, match="inputs must have shape"):
        encoder(torch.zeros(shape))


@pytest.mark.parametrize("rule", ["gradient", "hebbian"])
class TestInNetwork:
    @pytest.fixture
    def net(self, encoder, rule, cell):
        return PlasticNetwork(1, 2, 7, cell, rule, encoder=encoder, generator=seeded(2))

    def test_sequences_of_dictionaries_train_the_encoder(self, net, encoder):
        output, _ = net(episodes())
        assert output.shape == (2, 4, 2)
        output[:, -1].square().sum().backward()
        assert all(p.grad.abs().max() > 0 for p in encoder.parameters())

    def test_steps_equal_the_sequence(self, net):
        net.eval()
        inputs, state = episodes(), None
        expected, _ = net(inputs)
        for t in range(4):
            output, state = net.step({name: part[:, t] for name, part in inputs.items()}, state)
            torch.testing.assert_close(output, expected[:, t])

    def test_vectors_equal_dictionaries(self, net):
        net.eval()
        torch.testing.assert_close(net(flattened(episodes()))[0], net(episodes())[0])
