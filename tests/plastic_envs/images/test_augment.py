import numpy as np
import pytest

from plastic_envs.images.augment import DRAWS, augment

MIDDLE = 0.5  # of a uniform: no shift, no change of brightness, contrast or saturation
LARGEST = 1 - 2**-24
GREY = np.array([0.299, 0.587, 0.114])


def changed(images, **draws):
    """Augment images with the middle of every draw but for those given."""
    names = ("down", "right", "mirror", "brightness", "contrast", "saturation")
    row = [draws.get(name, MIDDLE) for name in names]
    return augment(images, np.array([row] * len(images), np.float32))


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return rng.integers(60, 150, (3, 12, 10, 3), dtype=np.uint8)


def test_the_middle_of_every_draw_changes_nothing(images):
    np.testing.assert_array_equal(changed(images), images)


@pytest.mark.parametrize(
    ("height", "width", "border"), [(12, 12, 4), (63, 63, 4), (64, 64, 8), (12, 64, 8), (64, 12, 8)]
)
@pytest.mark.parametrize("draw", [0.0, LARGEST])
def test_crops_reach_a_border_outside_and_are_black_there(height, width, border, draw):
    image = np.random.default_rng(0).integers(1, 256, (1, height, width, 1), dtype=np.uint8)
    down, right = np.zeros_like(image), np.zeros_like(image)
    if draw == 0:
        down[:, border:], right[:, :, border:] = image[:, :-border], image[:, :, :-border]
    else:
        down[:, :-border], right[:, :, :-border] = image[:, border:], image[:, :, border:]
    np.testing.assert_array_equal(changed(image, down=draw), down)
    np.testing.assert_array_equal(changed(image, right=draw), right)


def test_all_shifts_are_equally_likely():
    image = np.zeros((900, 12, 12, 1), np.uint8)
    image[:, 6, 6] = 100
    draws = np.full((900, DRAWS), MIDDLE, np.float32)
    draws[:, :2] = np.random.default_rng(1).random((900, 2))
    found = np.argwhere(augment(image, draws)[..., 0])
    assert len(found) == 900
    for axis in (1, 2):
        values, counts = np.unique(found[:, axis], return_counts=True)
        assert values.tolist() == list(range(2, 11))
        assert (abs(counts - 100) < 50).all()


def test_half_of_the_images_are_mirrored(images):
    np.testing.assert_array_equal(changed(images, mirror=0.49), images[:, :, ::-1])
    np.testing.assert_array_equal(changed(images, mirror=0.51), images)


def test_brightness_scales_by_0_6_to_1_4(images):
    for draw, factor in ((0.0, 0.6), (LARGEST, 1.4)):
        np.testing.assert_allclose(changed(images, brightness=draw), images * factor, atol=0.51)
    assert (changed(np.full((1, 4, 4, 1), 250, np.uint8), brightness=0.9) == 255).all()


@pytest.mark.parametrize(("draw", "factor"), [(0.0, 0.6), (LARGEST, 1.4)])
@pytest.mark.parametrize("low", [60, 0], ids=["in range", "clipped"])
def test_contrast_is_about_the_mean_lightness(draw, factor, low):
    images = np.random.default_rng(1).integers(low, 255 - low, (3, 12, 10, 3), dtype=np.uint8)
    mean = (images @ GREY).mean(axis=(1, 2))[:, None, None, None]
    expected = np.clip(mean + factor * (images - mean), 0, 255)
    np.testing.assert_allclose(changed(images, contrast=draw), expected, atol=0.51)


@pytest.mark.parametrize(("draw", "factor"), [(0.0, 0.6), (LARGEST, 1.4)])
@pytest.mark.parametrize("low", [60, 0], ids=["in range", "clipped"])
def test_saturation_is_about_the_lightness_of_each_pixel(draw, factor, low):
    images = np.random.default_rng(2).integers(low, 255 - low, (3, 12, 10, 3), dtype=np.uint8)
    grey = (images @ GREY)[..., None]
    expected = np.clip(grey + factor * (images - grey), 0, 255)
    np.testing.assert_allclose(changed(images, saturation=draw), expected, atol=0.51)


def test_colours_change_in_order_each_clipped_before_the_next():
    image = np.array([[[[240, 10, 10], [10, 20, 30]]]], np.uint8)
    # Brightness 1.4: (255, 14, 14), (14, 28, 42). Their lightness is 86.059 and 25.410, so the
    # mean 55.7345. Contrast 1.4: (334.71, -2.69, -2.69) clipped to (255, 0, 0), of lightness
    # 76.245, and (-2.69, 16.91, 36.51) clipped to (0, 16.9062, 36.5062), of lightness 14.0856.
    # Saturation 0.6: 0.4 of the lightness and 0.6 of the colour.
    expected = [[[[183, 30, 30], [6, 16, 28]]]]
    result = changed(image, brightness=LARGEST, contrast=LARGEST, saturation=0.0)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("channels", [1, 2])
def test_images_without_colours_have_brightness_and_contrast_alone(channels):
    images = np.random.default_rng(3).integers(60, 150, (3, 12, 10, channels), dtype=np.uint8)
    np.testing.assert_array_equal(changed(images, saturation=0.0), images)
    for draw, factor in ((0.0, 0.6), (LARGEST, 1.4)):
        np.testing.assert_allclose(changed(images, brightness=draw), images * factor, atol=0.51)
        mean = images.mean(axis=(1, 2, 3), keepdims=True)
        expected = mean + factor * (images - mean)
        np.testing.assert_allclose(changed(images, contrast=draw), expected, atol=0.51)


def test_images_smaller_than_the_border_may_be_shifted_out():
    image = np.full((1, 3, 3, 1), 200, np.uint8)
    assert not changed(image, down=0.0).any()
    assert not changed(image, right=0.999).any()
    np.testing.assert_array_equal(changed(image), image)


def test_images_are_left_alone_and_changed_each_by_itself(images):
    before = images.copy()
    draws = np.random.default_rng(2).random((3, DRAWS), dtype=np.float32)
    together = augment(images, draws)
    np.testing.assert_array_equal(images, before)
    for k in range(3):
        np.testing.assert_array_equal(augment(images[k : k + 1], draws[k : k + 1])[0], together[k])
