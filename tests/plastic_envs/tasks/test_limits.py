"""What is too large, or no number, is refused where it is given, and costs nothing."""

import dataclasses
import math
import tracemalloc

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import plastic_envs
from plastic_envs import TaskEnv, ids, make_task
from plastic_envs.wrappers import History, VectorHistory

TOO_LARGE = [
    ("PlasticAssociation-v0", {"num_labels": 10**9}, "num_labels must be at most 4096"),
    ("PlasticAssociation-v0", {"num_queries": 10**9}, "num_queries=1000000000"),
    ("PlasticConcentration-v0", {"num_pairs": 33}, "num_pairs must be at most 32"),
    ("PlasticConcentration-v0", {"picture_size": 10**9}, "picture_size=1000000000"),
    ("PlasticConcentration-v0", {"episode_length": 10**9}, "episode_length=1000000000"),
    ("PlasticPatternCompletion-v0", {"num_bits": 10**9}, "num_bits=1000000000"),
    ("PlasticPatternCompletion-v0", {"presentations": 10**9}, "presentations=1000000000"),
    ("PlasticStories-v0", {"story_length": 10**9}, "story_length=1000000000"),
    ("PlasticStories-v0", {"num_people": 10**9}, "num_people must be .* at most 1000"),
    ("PlasticStories-v0", {"num_places": 1001}, "num_places must be .* at most 1000"),
    ("PlasticCopy-v0", {"dim": 10**8}, "dim=100000000"),
    ("PlasticCopy-v0", {"length": 10**12}, "length must be"),
    ("PlasticCopy-v0", {"length": 2**31 - 1}, "length=2147483647"),
    ("PlasticCopy-v0", {"delay": 2**31 - 1}, "delay=2147483647"),
    ("PlasticCopy-v0", {"dim": 2**63}, "dim must be"),
    ("PlasticCopy-v0", {"dim": 10**400}, "dim must be"),
    ("PlasticCueReward-v0", {"num_cues": 10**9}, "num_cues=1000000000"),
    ("PlasticCueReward-v0", {"cue_size": 10**9}, "cue_size=1000000000"),
    ("PlasticCueReward-v0", {"episode_length": 10**9}, "episode_length=1000000000"),
    ("PlasticRegression-v0", {"input_size": 10**9}, "input_size=1000000000"),
    ("PlasticRegression-v0", {"num_query": 10**9}, "num_query=1000000000"),
    ("PlasticFewShot-v0", {"k_shot": 200}, "k_shot=200 with n_query=5 takes 201 images of a class"),
    ("PlasticFewShot-v0", {"n_way": 10**9}, "n_way=1000000000, but there are"),
    (
        "PlasticFewShot-v0",
        {"n_query": 10**9, "query_sampling": "independent"},
        "n_query=1000000000",
    ),
    ("PlasticBandit-v0", {"num_arms": 10**9}, "num_arms=1000000000"),
    ("PlasticBandit-v0", {"num_trials": 10**9}, "num_trials=1000000000"),
    ("PlasticMaze-v0", {"size": 10**6 + 1}, "size=1000001"),
    ("PlasticMaze-v0", {"episode_length": 10**9}, "episode_length=1000000000"),
    ("PlasticTargetSearch-v0", {"num_cues": 10**6}, "num_cues must be at most 256"),
    ("PlasticTargetSearch-v0", {"cue_size": 10**9}, "cue_size=1000000000"),
    ("PlasticTargetSearch-v0", {"episode_length": 10**9}, "episode_length=1000000000"),
]


@pytest.mark.parametrize("make", [make_task, gym.make, gym.make_vec])
@pytest.mark.parametrize(("env_id", "kwargs", "message"), TOO_LARGE, ids=str)
def test_a_size_that_is_too_large_is_refused_by_name(env_id, kwargs, message, make):
    make_task(env_id)  # images are read once
    tracemalloc.start()
    with pytest.raises(ValueError, match=message):
        make(env_id, **kwargs)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2**22


@pytest.mark.parametrize("env_id", ids())
def test_too_many_at_once_are_refused_by_name(env_id):
    task = make_task(env_id)
    for count in (10**9, 10**12, 2**63):
        with pytest.raises(ValueError, match=f"^num_episodes.*{count}"):
            task.sample_states(count, seed=0)
        with pytest.raises(ValueError, match=f"^num_envs.*{count}"):
            gym.make_vec(env_id, num_envs=count)


def test_a_history_that_is_too_long_is_refused_by_name():
    for make, wrapper, kwargs in (
        (gym.make, History, {}),
        (gym.make_vec, VectorHistory, {"num_envs": 4}),
    ):
        env = make("PlasticCopy-v0", **kwargs)
        for max_steps in (10**8, 2**31 - 1, 2**63, 10**400):
            with pytest.raises(ValueError, match=r"^max_steps"):
                wrapper(env, max_steps=max_steps)


def test_scores_that_take_all_ways_through_a_maze_say_so():
    task = make_task("PlasticMaze-v0", size=101, episode_length=5)
    assert gym.make("PlasticMaze-v0", size=101, episode_length=5).reset()[0].shape == (10,)
    for ask in (lambda: task.random_score, lambda: task.optimal_score, task.oracle_player):
        with pytest.raises(ValueError, match="size=101 is too large: all ways"):
            ask()


NUMBERS = [
    ("PlasticCueReward-v0", "noise"),
    ("PlasticRegression-v0", "noise"),
    ("PlasticMaze-v0", "wall_penalty"),
]


@pytest.mark.parametrize("value", [10**400, 1e300, 1e6 + 1, math.nan, math.inf, -1e-9, "1", None])
@pytest.mark.parametrize(("env_id", "name"), NUMBERS)
def test_a_number_that_is_too_large_or_none_is_refused_by_name(env_id, name, value):
    with pytest.raises(ValueError, match=f"^{name} must be a finite number of at least 0 and of"):
        make_task(env_id, **{name: value})


@pytest.mark.parametrize(("env_id", "name"), NUMBERS)
def test_the_largest_number_works(env_id, name):
    env = gym.make(env_id, **{name: 1_000_000})
    assert env.observation_space.contains(env.reset(seed=0)[0])
    assert np.isfinite(env.step(env.action_space.sample())[1])


def as_numpy(value):
    """The NumPy scalar of a plain value."""
    return np.str_(value) if isinstance(value, str) else np.asarray(value)[()]


@pytest.mark.parametrize("env_id", ids())
def test_fields_are_stored_as_plain_values(env_id):
    plain = make_task(env_id)
    values = {
        field.name: getattr(plain, field.name)
        for field in dataclasses.fields(plain)
        if getattr(plain, field.name) is not None
    }
    task = make_task(env_id, **{name: as_numpy(value) for name, value in values.items()})
    assert task == plain
    assert repr(task) == repr(plain)
    for name, value in values.items():
        assert type(getattr(task, name)) is type(value)


@pytest.mark.parametrize("env_id", ids())
def test_a_field_of_another_kind_is_refused_by_name(env_id):
    plain = make_task(env_id)
    for field in dataclasses.fields(plain):
        default = getattr(plain, field.name)
        bad = [np.array([1, 2]), [], {}, 1j, object(), b"x", type]
        yes_or_no = isinstance(default, bool) or field.name == "rotations"
        bad += [1, "yes"] if yes_or_no else [True]
        bad += ["7"] if not isinstance(default, str) and field.name != "root" else [3, 1.5]
        if default is not None:
            bad.append(None)
        for value in bad:
            with pytest.raises(ValueError, match=f"{field.name}") as caught:
                make_task(env_id, **{field.name: value})
            assert len(str(caught.value)) < 500


# --- actions

BOXES = [float("nan"), float("inf"), -float("inf"), 1e300, -1e39, None, "1", 1j, [1], {}, b"x"]


@pytest.mark.parametrize("value", BOXES, ids=repr)
def test_an_action_that_is_no_finite_number_is_refused_and_changes_nothing(value):
    envs, twin = (gym.make_vec("PlasticCopy-v0", num_envs=2, dim=2) for _ in range(2))
    env = TaskEnv(make_task("PlasticCopy-v0", dim=2))
    env.reset(seed=0)
    envs.reset(seed=0)
    twin.reset(seed=0)
    with pytest.raises(ValueError, match="action must"):
        env.step([0.0, value])
    with pytest.raises(ValueError, match="action must"):
        envs.step([[0.0, 0.0], [0.0, value]])
    zeros = np.zeros((2, 2))
    np.testing.assert_array_equal(envs.step(zeros)[0], twin.step(zeros)[0])
    assert env.step([0.0, 0.5])[1] == 0


@given(
    st.recursive(
        st.none() | st.floats() | st.text(max_size=3) | st.integers() | st.booleans(),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=6,
    )
)
@settings(deadline=None, database=None, max_examples=150)
@example([3.5e38])
@example([1e39])
def test_any_action_works_or_is_refused(action):
    for task in (make_task("PlasticCopy-v0", length=1), make_task("PlasticBandit-v0")):
        env, discrete = TaskEnv(task), isinstance(task.action_space, gym.spaces.Discrete)
        env.reset(seed=0)
        try:
            array = np.asarray(action)
        except ValueError:
            array = None
        space = task.action_space
        fits = array is not None and array.shape == space.shape
        fits = fits and array.dtype.kind in ("iu" if discrete else "fiub")
        if fits and not discrete:
            fits = bool((np.abs(array.astype(np.float64)) <= np.finfo(np.float32).max).all())
        if not fits or (discrete and not space.contains(array)):
            with pytest.raises(ValueError, match="action must"):
                env.step(action)
            continue
        _, reward, *_ = env.step(action)
        assert math.isfinite(reward)


def test_finite_actions_out_of_bounds_are_taken_as_they_are():
    env = TaskEnv(make_task("PlasticCueReward-v0"))
    env.reset(seed=0)
    for _ in range(10):
        env.step([0.0])
    _, reward, *_, info = env.step([7.0])
    assert reward == -((7 - float(info["target"][0])) ** 2)


def test_ids_have_limits_tests():
    assert {env_id for env_id, _, _ in TOO_LARGE} == set(plastic_envs.ids())
