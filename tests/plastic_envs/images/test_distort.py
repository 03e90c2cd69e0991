import numpy as np
import pytest

from plastic_envs.images.augment import DRAWS
from plastic_envs.images.distort import distort

MIDDLE = 0.5
LARGEST = 1 - 2**-24
NAMES = ("angle", "height", "width", "shear", "down", "right")


def changed(images, **draws):
    """Distort images with the middle of every draw but for those given."""
    row = [draws.get(name, MIDDLE) for name in NAMES]
    return distort(images, np.array([row] * len(images), np.float32))


@pytest.fixture
def square():
    """A bright square in the middle, of half the sides."""
    image = np.zeros((1, 40, 40, 1), np.uint8)
    image[:, 10:30, 10:30] = 200
    return image


def spread(image, axis):
    """Return the standard deviation along an axis of where the light is, in pixels."""
    light = image[0, :, :, 0].sum(1 - axis, dtype=float)
    place = np.arange(len(light))
    mean = (light * place).sum() / light.sum()
    return np.sqrt((light * (place - mean) ** 2).sum() / light.sum())


def middle(image):
    light = image[0, :, :, 0].astype(float)
    return [(light * place).sum() / light.sum() for place in np.mgrid[:40, :40]]


def test_the_middle_of_every_draw_changes_nothing():
    images = np.random.default_rng(0).integers(0, 256, (3, 12, 10, 3), dtype=np.uint8)
    np.testing.assert_array_equal(changed(images), images)


@pytest.mark.parametrize(("draw", "shift"), [(0.0, 4), (LARGEST, -4)])
def test_shifts_by_a_tenth_are_black_where_there_is_nothing(square, draw, shift):
    np.testing.assert_array_equal(changed(square, down=draw), np.roll(square, shift, 1))
    np.testing.assert_array_equal(changed(square, right=draw), np.roll(square, shift, 2))
    bright = np.full_like(square, 255)
    assert (changed(bright, down=0.0)[:, :4] == 0).all()
    assert (changed(bright, right=LARGEST)[:, :, 37:] == 0).all()


@pytest.mark.parametrize("draw", [0.0, LARGEST])
def test_height_and_width_are_scaled_each_for_itself(square, draw):
    factor = 1 / (0.8 + 0.4 * draw)
    for name, axis in (("height", 0), ("width", 1)):
        image = changed(square, **{name: draw})
        assert spread(image, axis) == pytest.approx(factor * spread(square, axis), rel=0.02)
        assert spread(image, 1 - axis) == pytest.approx(spread(square, axis), rel=0.01)


def test_rotations_and_shears_are_about_the_middle_and_keep_the_area(square):
    for name in ("angle", "shear"):
        for draw in (0.0, LARGEST):
            image = changed(square, **{name: draw})
            assert (image != square).any()
            assert image.sum(dtype=float) == pytest.approx(square.sum(dtype=float), rel=0.01)
            assert middle(image) == pytest.approx(middle(square), abs=0.05)
    line = np.zeros((1, 41, 41, 1), np.uint8)
    line[:, 20] = 100
    turned = changed(line, angle=LARGEST)[0, :, :, 0].argmax(0)
    slope = np.polyfit(np.arange(10, 31), turned[10:31], 1)[0]
    assert abs(slope) == pytest.approx(np.tan(np.deg2rad(15)), rel=0.05)


def test_each_image_is_changed_by_its_own_draws():
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (5, 9, 14, 2), dtype=np.uint8)
    draws = rng.random((5, DRAWS), dtype=np.float32)
    together = distort(images, draws)
    assert together.shape == images.shape
    for k in range(5):
        np.testing.assert_array_equal(distort(images[k : k + 1], draws[k : k + 1])[0], together[k])


@pytest.mark.parametrize("draw", [0.0, LARGEST])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (200, 3)])
def test_the_largest_changes_stay_inside_the_image(draw, shape):
    images = np.full((1, *shape, 1), 255, np.uint8)
    assert distort(images, np.full((1, DRAWS), draw, np.float32)).shape == images.shape


@pytest.mark.parametrize(
    ("shape", "dtype", "draws", "message"),
    [
        ((3, 4, 4, 1), np.float32, (3, DRAWS), "images must be uint8"),
        ((4, 4, 1), np.uint8, (4, DRAWS), "images must be uint8"),
        ((3, 4, 4, 1), np.uint8, (3, 5), r"uniforms must be \[3, 6\]"),
    ],
)
def test_arrays_of_another_form_are_refused(shape, dtype, draws, message):
    with pytest.raises(ValueError, match=message):
        distort(np.zeros(shape, dtype), np.zeros(draws, np.float32))
