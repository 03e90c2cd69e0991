"""Image encoders against literal computations."""

import copy
from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from agents import Conv4, ResNet12, make_encoder
from agents.vision.encoders import DropBlock

SHAPE = (16, 18, 3)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def float_images(count, shape, seed=1):
    height, width, channels = shape
    return torch.rand(count, channels, height, width, generator=seeded(seed), dtype=torch.float64)


def num_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("shape", "size", "count"),
    [
        # 9 c 64 + 3 · 9 · 64² weights, and scale and shift of 4 · 64 channels. Papers count 256
        # more: the convolutions' biases, which batch normalisation takes out again.
        ((28, 28, 1), 64, 111_680),
        ((32, 32, 3), 256, 112_832),
        ((84, 84, 3), 1600, 112_832),
    ],
)
def test_conv4_has_the_size_of_the_papers(shape, size, count):
    encoder = make_encoder("conv4", shape)
    assert encoder.embedding_size == size
    assert num_parameters(encoder) == count
    height, width, channels = shape
    assert encoder(torch.zeros(2, channels, height, width)).shape == (2, size)


@pytest.mark.parametrize(("shape", "size"), [((84, 84, 3), 16_000), ((32, 32, 3), 2_560)])
def test_resnet12_has_the_size_of_the_papers(shape, size):
    encoder = make_encoder("resnet12", shape)
    assert encoder.embedding_size == size
    widths = [3, 64, 160, 320, 640]
    assert num_parameters(encoder) == sum(
        9 * i * o + 9 * o * o + 9 * o * o + i * o + 4 * 2 * o for i, o in pairwise(widths)
    )


def test_resnet12_scales_its_widths_with_filters():
    encoder = ResNet12((32, 32, 1), filters=4)
    assert encoder.embedding_size == 40 * 2 * 2


@pytest.mark.parametrize("training", [True, False])
def test_conv4_equals_its_definition_with_the_rectifier_before_the_maximum(training):
    encoder = Conv4(SHAPE, filters=4, generator=seeded()).double()
    encoder(float_images(6, SHAPE, seed=2))  # so that running statistics are not 0 and 1
    literal = copy.deepcopy(encoder)
    for module in (encoder, literal):
        module.train(training)
    images = float_images(5, SHAPE)
    weights = torch.rand(5, encoder.embedding_size, generator=seeded(3), dtype=torch.float64)

    x = images
    for block in literal.blocks:
        convolution, norm = block[0], block[1]
        x = F.conv2d(x, convolution.weight, padding=1)
        x = F.max_pool2d(F.relu(norm(x)), 2)
    expected = x.flatten(start_dim=1)
    output = encoder(images)
    torch.testing.assert_close(output, expected)
    (output * weights).sum().backward()
    (expected * weights).sum().backward()
    for ours, theirs in zip(encoder.parameters(), literal.parameters(), strict=True):
        assert ours.grad.abs().max() > 0
        torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("training", [True, False])
def test_resnet12_equals_its_definition(training):
    encoder = ResNet12((16, 32, 3), filters=2, drop_rate=0, generator=seeded()).double()
    encoder(float_images(6, (16, 32, 3), seed=2))
    literal = copy.deepcopy(encoder)
    for module in (encoder, literal):
        module.train(training)
    images = float_images(5, (16, 32, 3))
    weights = torch.rand(5, encoder.embedding_size, generator=seeded(3), dtype=torch.float64)

    x = images
    for residual in (block[0] for block in literal.blocks):
        convolutions = [m for m in residual.modules() if isinstance(m, torch.nn.Conv2d)]
        norms = [m for m in residual.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        assert [c.kernel_size for c in convolutions] == [(3, 3)] * 3 + [(1, 1)]
        h = x
        for place in range(3):
            h = norms[place](F.conv2d(h, convolutions[place].weight, padding=1))
            h = F.leaky_relu(h, 0.1) if place < 2 else h
        skip = norms[3](F.conv2d(x, convolutions[3].weight))
        x = F.max_pool2d(F.leaky_relu(h + skip, 0.1), 2)
    expected = x.flatten(start_dim=1)
    output = encoder(images)
    torch.testing.assert_close(output, expected)
    (output * weights).sum().backward()
    (expected * weights).sum().backward()
    for ours, theirs in zip(encoder.parameters(), literal.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_resnet12_drops_in_training_only():
    encoder = ResNet12((16, 16, 1), filters=2, drop_rate=0.5, generator=seeded())
    images = torch.rand(8, 1, 16, 16, generator=seeded(1))
    assert not torch.equal(encoder(images), encoder(images))
    encoder.eval()
    assert torch.equal(encoder(images), encoder(images))


@pytest.mark.parametrize("name", ["conv4", "resnet12"])
def test_convolutions_start_with_the_deviation_of_he(name):
    encoder = make_encoder(name, (16, 16, 3), 32, generator=seeded())
    for module in encoder.modules():
        if isinstance(module, torch.nn.Conv2d) and module.weight.numel() > 5_000:
            expected = (2 / (module.kernel_size[0] ** 2 * module.out_channels)) ** 0.5
            assert module.weight.std().item() == pytest.approx(expected, rel=0.05)
            assert abs(module.weight.mean().item()) < 0.05 * expected


@pytest.mark.parametrize("name", ["conv4", "resnet12"])
def test_same_generator_same_encoder(name):
    first, same, other = (
        make_encoder(name, (16, 16, 1), 2, generator=seeded(seed)).state_dict()
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", ["conv4", "resnet12"])
def test_a_generator_of_its_own_leaves_the_global_one_alone(name):
    before = torch.get_rng_state()
    make_encoder(name, (16, 16, 1), 2, generator=seeded())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["conv4", "resnet12"])
def test_without_a_generator_the_global_seed_decides(name):
    made = []
    with torch.random.fork_rng(devices=[]):
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            made.append(next(make_encoder(name, (16, 16, 1), 2).parameters()))
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


@pytest.mark.parametrize("name", ["conv4", "resnet12"])
def test_a_new_encoder_is_in_training_with_fresh_statistics(name):
    encoder = make_encoder(name, (16, 16, 1), 2, generator=seeded())
    assert all(module.training for module in encoder.modules())
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.num_batches_tracked == 0
            assert module.running_mean.abs().max() == 0


@pytest.mark.parametrize("name", ["conv4", "resnet12"])
@pytest.mark.parametrize("filters", [0, -1, 2.0, True, None])
def test_filters_that_are_no_positive_integer_are_refused(name, filters):
    with pytest.raises(ValueError, match="filters must be an integer of at least 1"):
        make_encoder(name, (16, 16, 1), filters)


@pytest.mark.parametrize("name", ["conv4", "resnet12"])
def test_state_dict_restores_an_encoder(name):
    shape = (16, 16, 2)
    encoder = make_encoder(name, shape, 2, generator=seeded())
    images = torch.rand(8, 2, 16, 16, generator=seeded(2))
    encoder(images)  # moves the running statistics, and DropBlock's counter
    other = make_encoder(name, shape, 2, generator=seeded(1))
    other.load_state_dict(encoder.state_dict())
    assert torch.equal(encoder.eval()(images), other.eval()(images))
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, other.state_dict()[key])
    for parameter in other.parameters():  # the fast layout outlives loading
        if parameter.dim() == 4:
            assert parameter.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["conv4", "resnet12"])
@pytest.mark.parametrize("shape", [(15, 16, 1), (16, 15, 1)])
def test_image_that_would_shrink_to_nothing_is_refused(name, shape):
    with pytest.raises(ValueError, match="at least 16 pixels"):
        make_encoder(name, shape, 2)


def test_unknown_encoder_is_refused():
    with pytest.raises(ValueError, match="name must be one of"):
        make_encoder("vit", (16, 16, 1))


class TestDropBlock:
    def drop(self, rate, size, shape, seed=0):
        """Return what is left of ones, at the full rate."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return DropBlock(rate, size, ramp=1)(torch.ones(shape))

    def test_nothing_changes_in_evaluation_or_at_rate_zero(self):
        features = torch.randn(3, 4, 7, 7, generator=seeded())
        assert torch.equal(DropBlock(0.5, 3, ramp=1).eval()(features), features)
        assert torch.equal(DropBlock(0.0, 3, ramp=1)(features), features)

    def test_mean_is_kept(self):
        left = self.drop(0.3, 3, (16, 8, 9, 9))
        assert left.mean().item() == pytest.approx(1, abs=1e-5)
        assert left.unique().numel() == 2  # dropped, and scaled

    def test_what_is_dropped_are_whole_squares(self):
        dropped = (self.drop(0.2, 3, (16, 8, 9, 11)) == 0).double()
        assert 0 < dropped.mean() < 1
        # A place is in a square if some 3×3 window around it is dropped altogether.
        whole = -F.max_pool2d(-dropped, 3, stride=1)
        covered = F.max_pool2d(F.pad(whole, [2] * 4), 3, stride=1)
        assert torch.equal(covered, dropped)

    def test_seeds_come_at_the_rate_of_the_paper(self):
        rate, size, side = 0.1, 3, 8
        dropped = self.drop(rate, size, (20_000, 1, side, side)) == 0
        gamma = rate / size**2 * side**2 / (side - size + 1) ** 2
        # A corner lies in one possible square, a place in the middle in size².
        corner, middle = dropped[:, 0, 0, 0].double(), dropped[:, 0, 4, 4].double()
        assert corner.mean().item() == pytest.approx(gamma, rel=0.1)
        assert middle.mean().item() == pytest.approx(1 - (1 - gamma) ** size**2, rel=0.1)

    @pytest.mark.parametrize("side", [1, 2])
    def test_a_small_map_is_dropped_whole(self, side):
        dropped = self.drop(0.25, 5, (64, 64, side, side)) == 0
        share = dropped.flatten(start_dim=2).double().mean(dim=-1)
        assert set(share.unique().tolist()) == {0, 1}
        assert share.mean().item() == pytest.approx(0.25, rel=0.1)

    def test_a_map_that_is_dropped_altogether_is_zero_and_not_nan(self):
        left = [self.drop(0.9, 5, (1, 1, 2, 2), seed) for seed in range(20)]
        assert any(torch.equal(each, torch.zeros(1, 1, 2, 2)) for each in left)
        assert all(each.isfinite().all() for each in left)

    @pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
    def test_a_rate_out_of_range_is_refused(self, rate):
        with pytest.raises(ValueError, match=f"drop_rate must be .*got {rate}"):
            DropBlock(rate)

    @pytest.mark.parametrize("name", ["block_size", "ramp"])
    @pytest.mark.parametrize("value", [0, -1, 2.0, True, "3"])
    def test_what_is_no_positive_integer_is_refused(self, name, value):
        with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1"):
            DropBlock(**{name: value})

    def test_rate_rises_over_training_passes_alone(self):
        module, ones = DropBlock(0.4, 1, ramp=4), torch.ones(100, 10, 10, 1)
        module.eval()(ones)
        module.train()
        shares = [(module(ones) == 0).double().mean().item() for _ in range(6)]
        assert shares == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4], abs=0.03)
        resumed = DropBlock(0.4, 1, ramp=4)
        resumed.load_state_dict(module.state_dict())
        assert (resumed(ones) == 0).double().mean().item() == pytest.approx(0.4, abs=0.03)

    def test_dropped_features_get_no_gradient(self):
        features = torch.ones(4, 4, 6, 6, requires_grad=True)
        left = DropBlock(0.3, 2, ramp=1)(features)
        left.sum().backward()
        assert torch.equal(features.grad, left.detach())

    def test_same_global_seed_same_squares(self):
        shape = (4, 4, 6, 6)
        assert torch.equal(self.drop(0.3, 2, shape), self.drop(0.3, 2, shape))
        assert not torch.equal(self.drop(0.3, 2, shape), self.drop(0.3, 2, shape, seed=1))
