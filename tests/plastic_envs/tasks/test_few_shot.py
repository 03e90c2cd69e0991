"""The few-shot task: what an episode holds, how it is drawn, and what is refused."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plastic_envs import TaskEnv, make_task
from plastic_envs.images import SPLITS, Arrays, load_images
from plastic_envs.spaces import at
from plastic_envs.tasks import FewShot
from tests.plastic_envs.players import SIGMAS, assert_equally_often, same

both_samplings = pytest.mark.parametrize("query_sampling", ["balanced", "independent"])
both_modes = pytest.mark.parametrize("label_mode", ["with_image", "delayed"])


def classes_and_drawings(images):
    """Class and drawing of images of `image_source`, as the first pixel tells."""
    return images[..., 0, 0, 0].astype(int), images[..., 0, 0, 1].astype(int)


def assert_sound(task, images, targets):
    """Check one episode [T, …] against the rules, one by one."""
    support = task.n_way * task.k_shot
    classes, drawings = classes_and_drawings(images)
    label_of = dict(zip(classes[:support], targets[:support], strict=True))
    assert sorted(label_of.values()) == list(range(task.n_way))
    assert set(Counter(targets[:support]).values()) == {task.k_shot}
    assert [label_of[c] for c in classes] == targets.tolist()
    shown = list(zip(classes, drawings, strict=True))
    assert len(set(shown[:support])) == support
    assert not set(shown[:support]) & set(shown[support:])
    if task.query_sampling == "balanced":
        assert len(set(shown)) == len(shown)
        asked = [list(targets[support:]).count(label) for label in range(task.n_way)]
        assert max(asked) - min(asked) <= 1


@both_samplings
@pytest.mark.parametrize(
    ("n_way", "k_shot", "n_query"), [(5, 1, 5), (4, 3, 6), (2, 2, 7), (7, 1, 3)]
)
def test_an_episode_shows_labelled_examples_and_asks_for_others(
    image_source, query_sampling, n_way, k_shot, n_query
):
    sizes = {"n_way": n_way, "k_shot": k_shot, "n_query": n_query}
    task = FewShot(source=image_source, query_sampling=query_sampling, **sizes)
    episodes = task.sample_episodes(300, seed=0)
    support = n_way * k_shot
    assert task.num_support == support
    assert task.num_steps == support + n_query
    assert (episodes.scored == (np.arange(task.num_steps) >= support)).all()
    labels = episodes.observations["label"]
    np.testing.assert_array_equal(labels[:, :support], np.eye(n_way)[episodes.targets[:, :support]])
    assert not labels[:, support:].any()
    for images, targets in zip(episodes.observations["image"], episodes.targets, strict=True):
        assert_sound(task, images, targets)


@settings(max_examples=40, deadline=None, database=None)
@given(
    sizes=st.fixed_dictionaries(
        {
            "n_way": st.integers(2, 6),
            "k_shot": st.integers(1, 4),
            "n_query": st.integers(1, 9),
            "query_sampling": st.sampled_from(["balanced", "independent"]),
            "label_mode": st.sampled_from(["with_image", "delayed"]),
            "augment": st.booleans(),
            "distort": st.booleans(),
            "flat": st.booleans(),
        }
    ),
    seed=st.integers(0, 2**32 - 1),
)
def test_episodes_of_any_sizes_are_sound_and_in_their_space(image_source, sizes, seed):
    task = FewShot(source=image_source, **sizes)
    observations, targets, scored = task.sample_episodes(2, seed)
    assert targets.shape == scored.shape == (2, task.num_steps)
    assert targets.dtype == np.int64
    for b in range(2):
        for t in range(task.num_steps):
            assert task.observation_space.contains(at(observations, (b, t)))
        images, labels = task.images_and_labels(at(observations, b))
        shown = np.eye(task.n_way)[targets[b]] * ~scored[b][:, None]
        np.testing.assert_array_equal(labels, shown)
        if not (task.augment or task.distort):
            assert_sound(task, images, targets[b])
    answers = task.oracle(observations)
    assert answers.dtype == np.int64
    assert answers.shape == targets.shape
    assert ((answers >= 0) & (answers < task.n_way)).all()


@both_samplings
def test_everything_is_drawn_uniformly(image_source, query_sampling):
    task = FewShot(source=image_source, n_way=3, k_shot=2, n_query=4, query_sampling=query_sampling)
    episodes = task.sample_episodes(6000, seed=1)
    classes, drawings = classes_and_drawings(episodes.observations["image"])
    assert_equally_often(classes[:, 0], 30)
    assert_equally_often(classes[:, 6], 30)
    for step in range(10):
        assert_equally_often(episodes.targets[:, step], 3)
        assert_equally_often(drawings[:, step], 12)
    # The label says nothing about the class, nor does the class about the drawing.
    for some in (0, 7, 29):
        assert_equally_often(episodes.targets[classes[:, 0] == some, 0], 3)
        assert_equally_often(drawings[classes[:, 0] == some, 0], 12)
    orders = Counter(map(tuple, episodes.targets[:, :6]))
    assert len(orders) == 90  # 6! / (2! 2! 2!) orders of the labels
    expected = 6000 / 90
    assert max(abs(n - expected) for n in orders.values()) < SIGMAS * np.sqrt(expected)


@both_samplings
@both_modes
def test_nothing_but_the_images_tells_the_first_query(image_source, query_sampling, label_mode):
    task = FewShot(
        3, 2, 4, query_sampling=query_sampling, label_mode=label_mode, source=image_source
    )
    targets = task.sample_indices(6000, seed=2).targets
    for label in range(3):
        assert_equally_often(targets[targets[:, 5] == label, 6], 3)  # after the last support image
    places = np.argwhere(targets[:, :6] == targets[:, 6:7])[:, 1]
    assert_equally_often(places, 6)


def test_labels_are_permuted_uniformly(image_source):
    three = Arrays(image_source.images[:36], image_source.labels[:36], {"train": range(3)})
    episodes = FewShot(3, source=three).sample_episodes(3000, seed=2)
    classes, _ = classes_and_drawings(episodes.observations["image"][:, :3])
    labels = np.take_along_axis(episodes.targets[:, :3], np.argsort(classes, axis=1), axis=1)
    permutations = Counter(map(tuple, labels))
    assert len(permutations) == 6
    assert max(abs(n - 500) for n in permutations.values()) < SIGMAS * np.sqrt(500)


def test_balanced_queries_come_in_any_order_and_any_class_may_be_asked_once_more(image_source):
    task = FewShot(3, 1, 4, source=image_source)
    episodes = task.sample_episodes(7200, seed=3)
    classes, _ = classes_and_drawings(episodes.observations["image"][:, :3])
    support, queries = episodes.targets[:, :3], episodes.targets[:, 3:]
    orders = Counter(map(tuple, queries))
    assert len(orders) == 36  # 3 labels may be there twice, each in 4! / 2! orders
    assert max(abs(n - 200) for n in orders.values()) < SIGMAS * np.sqrt(200)
    asked_twice = [Counter(row).most_common(1)[0][0] for row in queries.tolist()]
    place = (support == np.array(asked_twice)[:, None]).argmax(axis=1)
    rank = np.take_along_axis(classes.argsort(axis=1).argsort(axis=1), place[:, None], axis=1)
    assert_equally_often(3 * place + rank[:, 0], 9)


def test_independent_queries_are_drawn_each_for_itself(image_source):
    task = FewShot(3, 2, 3, "independent", source=image_source)
    indices, _, targets, _ = task.sample_indices(8100, seed=4)
    assert_equally_often(targets[:, 6:] @ [9, 3, 1], 27)
    asked = Counter(max(Counter(row).values()) for row in targets[:, 6:].tolist())
    assert set(asked) == {1, 2, 3}  # the same class up to three times
    again = indices[:, 6] == indices[:, 7]
    probability = 1 / (3 * 10)  # of the same image twice, out of 10 of each class that are left
    deviation = np.sqrt(probability * (1 - probability) / 8100)
    assert abs(again.mean() - probability) < SIGMAS * deviation


def test_labels_may_come_a_step_late(image_source):
    at_once = FewShot(source=image_source).sample_episodes(20, seed=3)
    late = FewShot(source=image_source, label_mode="delayed").sample_episodes(20, seed=3)
    np.testing.assert_array_equal(late.observations["image"], at_once.observations["image"])
    np.testing.assert_array_equal(late.targets, at_once.targets)
    np.testing.assert_array_equal(late.scored, at_once.scored)
    labels = late.observations["label"]
    assert not labels[:, 0].any()
    np.testing.assert_array_equal(labels[:, 1:6], np.eye(5)[late.targets[:, :5]])
    assert late.scored[:, 5].all()  # the last label comes beside the first query
    assert not labels[:, 6:].any()


@pytest.mark.parametrize("augment", [False, True])
@both_modes
def test_flat_observations_hold_the_same(image_source, label_mode, augment):
    task = FewShot(source=image_source, label_mode=label_mode, augment=augment)
    flat = replace(task, flat=True)
    episodes, flats = task.sample_episodes(5, seed=4), flat.sample_episodes(5, seed=4)
    pixels = episodes.observations["image"].reshape(5, 10, -1) / np.float32(255)
    expected = np.concatenate([pixels, episodes.observations["label"]], axis=-1)
    np.testing.assert_array_equal(flats.observations, expected, strict=True)
    assert same(tuple(episodes[1:]), tuple(flats[1:]))
    apart = task.images_and_labels(episodes.observations)
    assert same(apart, flat.images_and_labels(flats.observations))
    answers = task.oracle(episodes.observations)
    np.testing.assert_array_equal(answers, flat.oracle(flats.observations))


@both_samplings
@both_modes
def test_indices_name_the_images_of_the_same_episodes(image_source, query_sampling, label_mode):
    task = FewShot(4, 2, 5, query_sampling, image_source, label_mode=label_mode)
    episodes, indexed = task.sample_episodes(30, seed=5), task.sample_indices(30, seed=5)
    images = task.images.images[indexed.indices]
    np.testing.assert_array_equal(images, episodes.observations["image"], strict=True)
    assert same(indexed.labels, episodes.observations["label"])
    assert same(tuple(indexed[2:]), tuple(episodes[1:]))
    assert same(tuple(part[:7] for part in indexed), tuple(task.sample_indices(7, seed=5)))


def test_each_split_shows_its_own_classes_and_all_of_them(image_source):
    source = Arrays(image_source.images, image_source.labels)
    found = {}
    for split in SPLITS:
        task = FewShot(3, source=source, split=split)
        images = task.sample_episodes(300, seed=6).observations["image"]
        found[split] = set(classes_and_drawings(images)[0].ravel())
        assert found[split] == set(map(int, load_images(source, split).names))
    assert sum(map(len, found.values())) == len(set().union(*found.values())) == 30


@both_samplings
def test_classes_may_have_different_numbers_of_images(query_sampling):
    counts = np.array([3, 5, 9, 4])
    images = np.arange(21, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(4, 2)
    source = Arrays(images, np.repeat(np.arange(4), counts), {"train": range(4)})
    indices = FewShot(2, 2, 2, query_sampling, source).sample_indices(5000, seed=0).indices
    assert not (indices[:, :4, None] == indices[:, None, 4:]).any()
    for step in (0, 4):
        drawn = np.split(np.bincount(indices[:, step], minlength=21), np.cumsum(counts)[:-1])
        for per_image in drawn:  # each class as often, and each of its images
            expected = 5000 / 4 / len(per_image)
            assert (abs(per_image - expected) < SIGMAS * np.sqrt(expected)).all()


@both_modes
def test_the_oracle_is_the_nearest_labelled_neighbour_so_far(image_source, label_mode):
    task = FewShot(3, 2, source=image_source, label_mode=label_mode)
    episodes = task.sample_episodes(12, seed=6)
    images = episodes.observations["image"].reshape(12, 11, -1).astype(float)
    answers = task.oracle(episodes.observations)
    for b in range(12):
        for t in range(11):
            known = min(6, t + (label_mode == "with_image"))
            distances = ((images[b, :known] - images[b, t]) ** 2).sum(axis=1)
            expected = episodes.targets[b, distances.argmin()] if known else 0
            assert answers[b, t] == expected


def test_pixels_are_a_weak_guide_to_glyphs():
    task = make_task("PlasticFewShot-v0", split="test")
    episodes = task.sample_episodes(2000, seed=7)
    assert 0.3 < task.score(task.oracle(episodes.observations), episodes) < 0.5


@both_samplings
def test_answers_without_memory_score_chance_at_the_first_query_as_well(
    image_source, query_sampling
):
    task = FewShot(4, 1, 6, query_sampling, image_source)
    targets, scored = task.sample_episodes(5000, seed=8)[1:]
    rng = np.random.default_rng(0)
    for answers in (np.zeros_like(targets), rng.integers(0, 4, targets.shape)):
        measures = task.measures(task.rewards(answers, targets), scored)
        assert set(measures) == {"score", "first_query"}
        for values in measures.values():
            error = values.std(ddof=1) / np.sqrt(5000)
            # Constant answers to balanced queries differ only by which class is asked twice.
            assert abs(values.mean() - 1 / 4) < SIGMAS * error
    assert task.chance_score == task.random_score == 1 / 4


def test_measures_are_the_first_query_and_all(image_source):
    task = FewShot(source=image_source, n_way=2, n_query=3)
    rewards = np.array([[1, 1, 1, 0, 0], [1, 1, 0, 1, 1]], float)
    measures = task.measures(rewards, np.array([[0, 0, 1, 1, 1]] * 2, bool))
    np.testing.assert_allclose(measures["score"], [1 / 3, 2 / 3])
    np.testing.assert_array_equal(measures["first_query"], [1, 0])


def test_images_are_augmented_each_by_itself_and_keep_their_labels():
    # Class c is a bar of c + 1 bright pixels, whose top tells how far an image was shifted.
    images = np.zeros((30, 21, 21, 3), np.uint8)
    for k, image in enumerate(images):
        image[10 : 11 + k // 10, 10] = 200
    source = Arrays(images, np.repeat(np.arange(3), 10), {"train": range(3)})
    task = FewShot(3, 1, 3, "independent", source, augment=True)
    episodes = task.sample_episodes(2500, seed=9)
    rows = (episodes.observations["image"][..., 0] > 36).any(axis=3)  # 200 · 0.6 · 0.6 > 36
    classes, shifts = rows.sum(axis=2) - 1, rows.argmax(axis=2) - 6
    support = np.argsort(episodes.targets[:, :3], axis=1)
    class_of = np.take_along_axis(classes[:, :3], support, axis=1)
    np.testing.assert_array_equal(class_of[np.arange(2500)[:, None], episodes.targets], classes)
    for step in range(6):
        assert_equally_often(shifts[:, step], 9)
        assert_equally_often((shifts[:, step] - shifts[:, step - 1]) % 9, 9)
    for value in range(3):
        assert_equally_often(shifts[classes[:, 0] == value, 0], 9)
        for query in (3, 4, 5):
            assert_equally_often(shifts[episodes.targets[:, query] == value, 0], 9)


@pytest.mark.parametrize("changes", [{"augment": True}, {"distort": True}], ids=str)
def test_augmentation_is_the_same_for_the_same_seed(image_source, changes):
    task = FewShot(source=image_source, **changes)
    episodes = task.sample_episodes(8, seed=8)
    assert same(tuple(task.sample_episodes(8, seed=8)), tuple(episodes))
    assert same(task.sample_episodes(3, seed=8).observations, at(episodes.observations, slice(3)))
    env = TaskEnv(task)
    assert same(env.reset(seed=8)[0], at(episodes.observations, (0, 0)))
    assert same(env.step(0)[0], at(episodes.observations, (0, 1)))
    assert same(env.reset()[0], at(episodes.observations, (1, 0)))


def test_images_are_augmented_and_distorted_by_draws_of_their_own(image_source):
    def images(**changes):
        task = FewShot(source=image_source, **changes)
        return task.sample_episodes(2, seed=5).observations["image"]

    both, distorted = images(augment=True, distort=True), images(distort=True)
    assert not np.array_equal(distorted, images())
    assert not np.array_equal(both, distorted)
    assert not np.array_equal(distorted[0, 0] - images()[0, 0], distorted[0, 1] - images()[0, 1])


def test_rotations_are_further_classes_of_a_source_by_name():
    plain, turned = FewShot(), FewShot(rotations=True)
    assert turned.images.num_classes == 4 * plain.images.num_classes
    assert turned.for_split("test").images.names == plain.for_split("test").images.names
    with pytest.raises(ValueError, match="rotations=True is for sources by name"):
        FewShot(
            source=Arrays(np.zeros((30, 4, 4), np.uint8), np.repeat(np.arange(5), 6)),
            rotations=True,
        )


@pytest.mark.parametrize("name", ["augment", "distort"])
def test_augmentation_is_for_training_alone(image_source, name):
    source = Arrays(image_source.images, image_source.labels)
    task = FewShot(3, 2, 4, "independent", source, label_mode="delayed", **{name: True})
    plain = replace(task, **{name: False})
    assert task.for_split("train") == task
    for split in ("validation", "test"):
        assert task.for_split(split) == replace(plain, split=split)
        assert task.for_split(split).for_split("train") == plain
    with pytest.raises(ValueError, match="augmented images have no place in the source"):
        task.sample_indices(1)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"n_way": 1}, "n_way must be an integer of at least 2"),
        ({"k_shot": 0}, "k_shot must be an integer of at least 1"),
        ({"n_query": 1.5}, "n_query must be an integer of at least 1"),
        ({"n_way": 2000}, "n_way=2000, but there are 808 classes in the train split"),
        (
            {"k_shot": 20},
            "k_shot=20 with n_query=5 takes 21 images of a class, but 'LATIN CAPITAL .* has 20",
        ),
        ({"k_shot": 20, "query_sampling": "independent"}, "takes 21 images of a class"),
        ({"k_shot": 18, "n_query": 15}, "takes 21 images of a class"),
        ({"query_sampling": "all"}, "query_sampling must be one of 'balanced', 'independent'"),
        ({"query_sampling": None}, "query_sampling must be one of .* got None"),
        ({"flat": "no"}, "flat must be True or False, got 'no'"),
        ({"augment": 1}, "augment must be True or False, got 1"),
        ({"distort": 1}, "distort must be True or False, got 1"),
        ({"rotations": 1}, "rotations must be True or False, got 1"),
        ({"label_mode": "late"}, "label_mode must be one of 'with_image', 'delayed', got 'late'"),
        ({"split": "val"}, "split must be one of 'train', 'validation', 'test', got 'val'"),
        ({"split": ["train"]}, r"split must be one of .* got \['train'\]"),
        ({"source": "imagenet"}, "source must be one of .*'omniglot'"),
        ({"source": 3}, "source must be one of .* or a source, got 3"),
        ({"root": "somewhere"}, "'glyphs' is drawn, not read"),
        ({"source": "omniglot"}, "Give root="),
    ],
)
def test_what_does_not_fit_is_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make_task("PlasticFewShot-v0", **kwargs)


def test_an_episode_may_take_all_there_is_and_no_more():
    counts = [4, 6, 5]
    images = np.arange(15, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(4, 2)
    source = Arrays(images, np.repeat(list("abc"), counts), {"train": "abc"})
    for fitting in (
        {"k_shot": 3, "n_query": 3},
        {"k_shot": 1, "n_query": 9},
        {"k_shot": 3, "n_query": 50, "query_sampling": "independent"},
    ):
        FewShot(3, source=source, **fitting).sample_episodes(20, seed=0)
    for over in (
        {"k_shot": 3, "n_query": 4},
        {"k_shot": 4, "n_query": 1},
        {"k_shot": 4, "n_query": 1, "query_sampling": "independent"},
    ):
        with pytest.raises(ValueError, match="takes 5 images of a class, but 'a' of the train"):
            FewShot(3, source=source, **over)
    with pytest.raises(ValueError, match="n_way=4, but there are 3 classes in the train split"):
        FewShot(4, source=source)
    with pytest.raises(ValueError, match="names none for the split 'test'"):
        FewShot(3, source=source, split="test")
