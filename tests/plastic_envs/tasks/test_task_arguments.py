import dataclasses
import math

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from plastic_envs import TaskEnv, TaskVectorEnv, ids, make_task
from plastic_envs.spaces import at
from tests.plastic_envs.players import same

INTEGERS = [
    ("PlasticAssociation-v0", "num_queries", 1),
    ("PlasticAssociation-v0", "pattern_size", 1),
    ("PlasticPatternCompletion-v0", "num_patterns", 1),
    ("PlasticPatternCompletion-v0", "num_bits", 2),
    ("PlasticPatternCompletion-v0", "presentations", 1),
    ("PlasticPatternCompletion-v0", "num_queries", 1),
    ("PlasticConcentration-v0", "num_pairs", 1),
    ("PlasticConcentration-v0", "picture_size", 1),
    ("PlasticConcentration-v0", "episode_length", 8),
    ("PlasticCopy-v0", "length", 1),
    ("PlasticCopy-v0", "dim", 1),
    ("PlasticCopy-v0", "delay", 0),
    ("PlasticCueReward-v0", "num_cues", 1),
    ("PlasticCueReward-v0", "cue_size", 1),
    ("PlasticCueReward-v0", "episode_length", 2),
    ("PlasticFewShot-v0", "n_way", 2),
    ("PlasticFewShot-v0", "k_shot", 1),
    ("PlasticFewShot-v0", "n_query", 1),
    ("PlasticRegression-v0", "input_size", 1),
    ("PlasticRegression-v0", "num_support", 1),
    ("PlasticRegression-v0", "num_query", 1),
    ("PlasticBandit-v0", "num_arms", 2),
    ("PlasticBandit-v0", "num_trials", 1),
    ("PlasticMaze-v0", "size", 5),
    ("PlasticMaze-v0", "episode_length", 1),
    ("PlasticStories-v0", "story_length", 2),
    ("PlasticStories-v0", "num_people", 1),
    ("PlasticStories-v0", "num_objects", 1),
    ("PlasticStories-v0", "num_places", 2),
    ("PlasticStories-v0", "number", 1),
    ("PlasticStories-v0", "most_sentences", 1),
    ("PlasticTargetSearch-v0", "num_cues", 2),
    ("PlasticTargetSearch-v0", "cue_size", 1),
    ("PlasticTargetSearch-v0", "episode_length", 8),
]
NOISES = ["PlasticCueReward-v0", "PlasticRegression-v0"]
NOT_NUMBERS = [True, False, math.nan, math.inf, -math.inf, "3", [2], 1j]


def makers():
    return pytest.mark.parametrize("make", [make_task, gym.make, gym.make_vec])


@pytest.mark.parametrize("value", [1.5, 2.0, *NOT_NUMBERS], ids=repr)
@pytest.mark.parametrize(("env_id", "name", "minimum"), INTEGERS)
def test_a_size_that_is_no_integer_is_refused_by_name(env_id, name, minimum, value):
    with pytest.raises(ValueError, match=f"^{name} must be an integer of at least {minimum}"):
        make_task(env_id, **{name: value})


@pytest.mark.parametrize("below", [1, 2, 100])
@pytest.mark.parametrize(("env_id", "name", "minimum"), INTEGERS)
def test_a_size_below_its_minimum_is_refused_by_name(env_id, name, minimum, below):
    with pytest.raises(ValueError, match=f"^{name} must be .* got {minimum - below}$"):
        make_task(env_id, **{name: minimum - below})


@pytest.mark.parametrize(
    ("env_id", "name"), [(env_id, name) for env_id, name, _ in INTEGERS if name != "input_size"]
)
def test_no_size_at_all_is_refused_by_name(env_id, name):
    with pytest.raises(ValueError, match=f"^{name} must be"):
        make_task(env_id, **{name: None})


@pytest.mark.parametrize("integer", [int, np.int64, np.int32, np.uint8])
@pytest.mark.parametrize(("env_id", "name", "minimum"), INTEGERS)
def test_any_integer_from_the_minimum_on_is_taken(env_id, name, minimum, integer):
    rest = {"num_cues": 2} if name == "cue_size" and "Search" in env_id else {}
    for value in (minimum, minimum + 4):
        task, plain = (
            make_task(env_id, **{name: integer(value)}, **rest),
            make_task(env_id, **{name: value}, **rest),
        )
        assert task.observation_space == plain.observation_space
        assert task.action_space == plain.action_space
        state = task.sample_states(2, seed=0)
        assert task.observation_space.contains(at(task.observe(state, task.num_steps - 1), 1))
        assert same(tuple(state), tuple(plain.sample_states(2, seed=0)))


@pytest.mark.parametrize("value", [-1, -1e-9, None, *NOT_NUMBERS], ids=repr)
@pytest.mark.parametrize("env_id", NOISES)
def test_a_noise_that_is_none_is_refused_by_name(env_id, value):
    with pytest.raises(ValueError, match=r"^noise must be a finite number of at least 0"):
        make_task(env_id, noise=value)


@pytest.mark.parametrize("value", [0, 0.0, 1, 0.3, np.float32(0.25), np.float64(0.5)], ids=repr)
@pytest.mark.parametrize("env_id", NOISES)
def test_any_finite_noise_from_zero_on_is_taken(env_id, value):
    episodes = make_task(env_id, noise=value).sample_episodes(2, seed=0)
    assert episodes.observations.dtype == np.float32


@pytest.mark.parametrize("kind", ["cubic", "", "Linear", None, 0, True, math.nan])
def test_an_unknown_kind_is_refused_with_the_known_ones(kind):
    with pytest.raises(ValueError, match=r"^kind must be one of 'linear', 'mlp', got"):
        make_task("PlasticRegression-v0", kind=kind)


@makers()
@pytest.mark.parametrize("env_id", ids())
def test_an_unknown_argument_is_refused_with_the_known_ones(env_id, make):
    name = type(make_task(env_id)).__name__
    known = ", ".join(field.name for field in dataclasses.fields(make_task(env_id)))
    message = f"^{name} got an unexpected keyword argument 'colour'; it takes {known}"
    with pytest.raises(TypeError, match=message):
        make(env_id, colour=3)


@makers()
@pytest.mark.parametrize(("env_id", "name", "minimum"), INTEGERS)
def test_a_bad_argument_is_refused_whichever_way_it_comes(env_id, name, minimum, make):
    with pytest.raises(ValueError, match=f"^{name} must be an integer of at least {minimum}"):
        make(env_id, **{name: -5})


@pytest.mark.parametrize("env_id", ["PlasticNothing-v0", "PlasticCopy", "CartPole-v1", ""])
def test_an_unknown_id_is_refused_with_the_known_ones(env_id):
    with pytest.raises(ValueError, match=f"env_id must be one of .*Copy-v0.*'{env_id}'"):
        make_task(env_id)


def test_other_arguments_that_do_not_fit_are_refused_by_name():
    with pytest.raises(ValueError, match="size must be odd, got 8"):
        make_task("PlasticMaze-v0", size=8)
    with pytest.raises(ValueError, match="num_cues must be at most"):
        make_task("PlasticTargetSearch-v0", num_cues=5, cue_size=2)
    assert make_task("PlasticTargetSearch-v0", num_cues=4, cue_size=2).num_cues == 4


@pytest.mark.parametrize("value", [0, -1, 1.5, 2.0, None, *NOT_NUMBERS], ids=repr)
def test_a_bad_number_of_episodes_is_refused_by_name(variant, value):
    task = make_task(variant[0], **variant[1])
    with pytest.raises(ValueError, match=r"^num_episodes must be an integer of at least 1"):
        task.sample_states(value, seed=0)


@pytest.mark.parametrize("mode", ["human", "", "rgb", 3, True, [], np.array(["ansi"])])
@pytest.mark.parametrize("make", [TaskEnv, TaskVectorEnv])
def test_an_unknown_render_mode_is_refused_with_the_known_ones(make, mode):
    with pytest.raises(ValueError, match=r"^render_mode must be one of 'rgb_array', 'ansi'"):
        make(make_task("PlasticCopy-v0"), render_mode=mode)


@pytest.mark.parametrize("make", [TaskEnv, TaskVectorEnv])
def test_arguments_for_a_task_that_is_made_already_are_refused(make):
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'length'.*is made already"):
        make(make_task("PlasticCopy-v0"), length=3)


def test_a_task_cannot_be_changed_and_equals_one_with_the_same_arguments(variant):
    task = make_task(variant[0], **variant[1])
    assert task == make_task(variant[0], **variant[1])
    assert hash(task) == hash(make_task(variant[0], **variant[1]))
    with pytest.raises(AttributeError):
        task.noise = 3


def test_spaces_are_the_callers_own(sequence):
    task = make_task(sequence[0], **sequence[1])
    for box in boxes_of(task):
        box.high[...] = 0
    assert all(box.high.any() for box in boxes_of(task))


def boxes_of(task):
    observation = task.observation_space
    parts = observation.values() if isinstance(observation, spaces.Dict) else [observation]
    return [space for space in (*parts, task.action_space) if isinstance(space, spaces.Box)]


def test_only_fields_are_arguments():
    with pytest.raises(TypeError, match=r"argument 'loss_steps'; it takes length, dim, delay$"):
        make_task("PlasticCopy-v0", loss_steps="all")


def test_answers_of_another_shape_are_not_scored():
    task = make_task("PlasticCopy-v0")
    episodes = task.sample_episodes(40, seed=0)
    with pytest.raises(ValueError, match=r"answers must have shape \(40, 40, 1\), got \(40, 40\)"):
        task.score(episodes.targets[..., 0], episodes)
