"""Random streams and resets of the vector environments, in every autoreset mode.

With a list of seeds they must be what Gymnasium's own vector environment around single ones is, to
the bit, whichever sub-environments are reset in between.
"""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

import plastic_envs
from plastic_envs import make_task
from plastic_envs.spaces import at
from plastic_envs.wrappers import (
    History,
    PreviousActionReward,
    VectorHistory,
    VectorPreviousActionReward,
)
from tests.plastic_envs.players import random_actions, same, scribble

quick = settings(max_examples=6, deadline=None, database=None)
SHORT = {
    "PlasticAssociation-v0": {"num_pairs": 2, "num_queries": 2},
    "PlasticConcentration-v0": {"num_pairs": 1, "episode_length": 5},
    "PlasticPatternCompletion-v0": {"num_patterns": 2, "num_bits": 3, "num_queries": 2},
    "PlasticStories-v0": {"story_length": 3},
    "PlasticCopy-v0": {"length": 2, "dim": 2},
    "PlasticCueReward-v0": {"episode_length": 4},
    "PlasticFewShot-v0": {"n_way": 2, "n_query": 2},
    "PlasticRegression-v0": {"num_support": 2, "num_query": 2},
    "PlasticBandit-v0": {"num_trials": 4},
    "PlasticMaze-v0": {"episode_length": 5, "size": 5},
    "PlasticTargetSearch-v0": {"num_cues": 2, "episode_length": 6},
}
every_id = pytest.mark.parametrize("env_id", SHORT)
every_mode = pytest.mark.parametrize("mode", AutoresetMode, ids=lambda mode: mode.value)
NUM_ENVS = 3
seeds = st.integers(0, 2**32 - 1)
masks = st.lists(st.booleans(), min_size=NUM_ENVS, max_size=NUM_ENVS).filter(any)
calls = st.lists(
    st.one_of(
        st.none(),  # a step
        st.none(),
        st.tuples(masks, st.lists(st.none() | seeds, min_size=NUM_ENVS, max_size=NUM_ENVS)),
    ),
    max_size=12,
)


def make(env_id, mode, num_envs=NUM_ENVS, **kwargs):
    return gym.make_vec(env_id, num_envs=num_envs, autoreset_mode=mode, **SHORT[env_id], **kwargs)


def test_every_id_is_tried():
    assert set(SHORT) == set(plastic_envs.ids())


def assert_same_infos(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        if isinstance(value, dict):
            assert_same_infos(ours[name], value)
        elif name == "final_obs":
            assert same(list(ours[name]), list(value))
        else:
            np.testing.assert_array_equal(ours[name], value, strict=True)


def play_both(ours, theirs, script, seed):
    """Compare two vector environments over resets of some and steps of all."""
    mode = ours.metadata["autoreset_mode"]
    space = ours.unwrapped.single_action_space
    actions = random_actions(space, len(script), NUM_ENVS, seed=seed % 1000)
    first = [seed, seed + 1, seed + 2]
    assert same(ours.reset(seed=first), theirs.reset(seed=list(first)))
    over = np.zeros(NUM_ENVS, bool)
    for call, action in zip(script, actions, strict=True):
        if call is None and mode is AutoresetMode.DISABLED and over.any():
            call = (over.tolist(), [None] * NUM_ENVS)
        if call is not None:
            mask = np.array(call[0])
            shown = [
                envs.reset(seed=list(call[1]), options={"reset_mask": mask.copy()})
                for envs in (ours, theirs)
            ]
            assert same(*shown)
            over &= ~mask
            continue
        *arrays, infos = ours.step(action)
        *their_arrays, their_infos = theirs.step(action)
        assert same(arrays, their_arrays)
        for array, their_array in zip(arrays[1:], their_arrays[1:], strict=True):
            np.testing.assert_array_equal(array, their_array, strict=True)
        assert_same_infos(infos, their_infos)
        over = arrays[2] | arrays[3]


@every_mode
@every_id
@quick
@given(script=calls, seed=seeds)
def test_seeds_of_their_own_make_sub_environments_single_ones(env_id, mode, script, seed):
    theirs = SyncVectorEnv(
        [lambda: gym.make(env_id, **SHORT[env_id])] * NUM_ENVS, autoreset_mode=mode
    )
    play_both(make(env_id, mode), theirs, script, seed)


@every_mode
@pytest.mark.parametrize(
    ("single", "vector"),
    [(History, VectorHistory), (PreviousActionReward, VectorPreviousActionReward)],
)
@pytest.mark.parametrize("env_id", ["PlasticCueReward-v0", "PlasticMaze-v0"])
@quick
@given(script=calls, seed=seeds)
def test_wrapped_ones_are_what_wrapped_single_ones_are(env_id, single, vector, mode, script, seed):
    theirs = SyncVectorEnv(
        [lambda: single(gym.make(env_id, **SHORT[env_id]))] * NUM_ENVS, autoreset_mode=mode
    )
    play_both(vector(make(env_id, mode)), theirs, script, seed)


@every_mode
@every_id
@quick
@given(seed=seeds, script=st.lists(masks | st.none(), max_size=10))
def test_one_stream_goes_to_whatever_starts(env_id, mode, seed, script):
    """Each episode that starts is the next of the stream, by sub-environment within a call."""
    task = make_task(env_id, **SHORT[env_id])
    firsts = iter(first_observations(task, 100, seed))
    envs = make(env_id, mode)
    shown, _ = envs.reset(seed=seed)
    assert_next(firsts, shown, np.ones(NUM_ENVS, bool))
    over = np.zeros(NUM_ENVS, bool)
    for mask in script:
        if mask is None and mode is AutoresetMode.DISABLED and over.any():
            mask = over
        if mask is not None:
            before, mask = shown, np.array(mask)
            shown, _ = envs.reset(options={"reset_mask": mask})
            assert_next(firsts, shown, mask)
            for k in np.flatnonzero(~mask):
                assert same(at(shown, k), at(before, k))
            over = over & ~mask
            continue
        shown, _, terminated, _, _ = envs.step(random_actions(task.action_space, NUM_ENVS))
        if mode is not AutoresetMode.DISABLED:
            started = over if mode is AutoresetMode.NEXT_STEP else terminated
            assert_next(firsts, shown, started)
        over = terminated


def first_observations(task, count, seed):
    observations = task.observe(task.sample_states(count, seed), 0)
    return [at(observations, k) for k in range(count)]


def assert_next(firsts, shown, where):
    for k in np.flatnonzero(where):
        assert same(at(shown, k), next(firsts))


@every_id
def test_an_integer_after_a_list_serves_all_again(env_id):
    plain, mixed = make(env_id, "NextStep"), make(env_id, "NextStep")
    mixed.reset(seed=[1, None, 3])
    assert same(mixed.reset(seed=5), plain.reset(seed=5))
    assert same(mixed.reset(), plain.reset())


@pytest.mark.parametrize("through", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@every_id
def test_a_copy_out_of_step_goes_on_alike(env_id, through):
    envs = make(env_id, "SameStep", render_mode="ansi")
    envs.reset(seed=[1, None, 3])
    action = random_actions(envs.single_action_space, NUM_ENVS)
    envs.step(action)
    envs.reset(options={"reset_mask": np.array([False, True, False])})
    twin = through(envs)
    for _ in range(12):
        ours, theirs = envs.step(action), twin.step(action)
        assert same(ours[:4], theirs[:4])
        assert envs.render() == twin.render()


@every_id
def test_pictures_are_those_of_the_steps_of_each(env_id):
    envs = make(env_id, "Disabled", render_mode="ansi")
    envs.reset(seed=[4, 5, 6])
    single = gym.make(env_id, render_mode="ansi", **SHORT[env_id])
    action = random_actions(envs.single_action_space, NUM_ENVS)
    envs.step(action)
    envs.reset(options={"reset_mask": np.array([False, True, False])})
    envs.step(action)
    for k, episodes in ((0, [2]), (1, [1, 1]), (2, [2])):
        for episode, steps in enumerate(episodes):
            single.reset(seed=4 + k if episode == 0 else None)
            for _ in range(steps):
                single.step(action[k])
        assert envs.render()[k] == single.render()


@every_id
def test_what_was_returned_out_of_step_is_the_callers_own(env_id):
    clean, dirty = make(env_id, "SameStep"), make(env_id, "SameStep")
    action = random_actions(clean.single_action_space, NUM_ENVS)
    for envs in (clean, dirty):
        envs.reset(seed=1)
        envs.step(action)
    mask = np.array([True, False, False])
    assert same(
        clean.reset(options={"reset_mask": mask}), dirty.reset(options={"reset_mask": mask})
    )
    for _ in range(10):
        expected, returned = clean.step(action), dirty.step(action)
        assert same(expected[:4], returned[:4])
        assert_same_infos(expected[4], returned[4])
        scribble(returned)


@every_id
def test_what_has_ended_must_be_reset_first_where_nothing_does_it(env_id):
    envs = make(env_id, "Disabled")
    action = random_actions(envs.single_action_space, NUM_ENVS)
    envs.reset(seed=0)
    envs.step(action)
    envs.reset(options={"reset_mask": np.array([False, False, True])})
    over = np.zeros(NUM_ENVS, bool)
    while not over.any():
        over = envs.step(action)[2]
    assert over.tolist() == [True, True, False]
    for _ in range(2):
        with pytest.raises(ResetNeeded, match=r"sub-environments \[0, 1\] have ended.*reset_mask"):
            envs.step(action)
    envs.reset(options={"reset_mask": over})
    assert envs.step(action)[2].tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        ([True, False, True], TypeError, "must be an array of bools, got \\[True"),
        (np.array([1, 0, 1]), TypeError, "must be an array of bools"),
        (None, TypeError, "must be an array of bools, got None"),
        (np.array([True, False]), ValueError, r"must have shape \(3,\).* got \(2,\)"),
        (np.array(True), ValueError, r"must have shape \(3,\).* got \(\)"),
        (np.ones((3, 1), bool), ValueError, r"must have shape \(3,\).* got \(3, 1\)"),
        (np.zeros(3, bool), ValueError, "must be true somewhere"),
    ],
)
@pytest.mark.parametrize("wrapper", [None, VectorHistory, VectorPreviousActionReward])
@pytest.mark.parametrize("env_id", ["PlasticCopy-v0", "PlasticBandit-v0"])
def test_a_mask_that_is_none_is_refused_and_changes_nothing(env_id, wrapper, mask, error, message):
    envs, twin = (make(env_id, "NextStep") for _ in range(2))
    if wrapper:
        envs, twin = wrapper(envs), wrapper(twin)
    action = random_actions(envs.single_action_space, NUM_ENVS)
    for one in (envs, twin):
        one.reset(seed=0)
        one.step(action)
    with pytest.raises(error, match=f"options\\['reset_mask'\\] {message}"):
        envs.reset(seed=9, options={"reset_mask": mask})
    assert same(envs.step(action)[:4], twin.step(action)[:4])


def test_a_mask_before_the_first_reset():
    envs = make("PlasticCopy-v0", "Disabled")
    with pytest.raises(ResetNeeded, match="call reset"):
        envs.reset(seed=0, options={"reset_mask": np.array([True, False, True])})
    options = {"reset_mask": np.ones(3, bool)}
    shown, _ = envs.reset(seed=0, options=options)
    assert list(options) == ["reset_mask"]  # left as it was
    assert same(shown, make("PlasticCopy-v0", "Disabled").reset(seed=0)[0])


BAD_SEEDS = [-1, 1.5, float("nan"), "3", True, 2**128, b"1", 1j, {}]


@pytest.mark.parametrize("seed", BAD_SEEDS, ids=repr)
def test_a_seed_that_is_none_is_refused_by_name(seed):
    for ask in (
        lambda: gym.make("PlasticCopy-v0").reset(seed=seed),
        lambda: make("PlasticBandit-v0", "NextStep").reset(seed=seed),
        lambda: make_task("PlasticCopy-v0").sample_episodes(1, seed),
        lambda: make_task("PlasticFewShot-v0").sample_indices(1, seed),
        lambda: make_task("PlasticBandit-v0").sample_states(1, seed),
    ):
        with pytest.raises(ValueError, match=r"^seed must be an integer of at least 0"):
            ask()
    with pytest.raises(ValueError, match=r"^seed\[1\] must be an integer of at least 0"):
        make("PlasticCopy-v0", "NextStep").reset(seed=[0, seed, 1])


@pytest.mark.parametrize(
    "seed", [[], [1], [1, 2, 3, 4], (1, 2), [[1], [2, 3]], np.zeros((3, 1), int)], ids=str
)
def test_a_list_of_another_length_is_refused(seed):
    with pytest.raises(ValueError, match=r"^seed must be .* a list of num_envs=3 of them, got"):
        make("PlasticCopy-v0", "NextStep").reset(seed=seed)


def test_any_integer_is_a_seed():
    expected = gym.make("PlasticCopy-v0").reset(seed=7)
    assert same(gym.make("PlasticCopy-v0").reset(seed=np.int64(7)), expected)
    envs = [make("PlasticCopy-v0", "NextStep") for _ in range(3)]
    lists = [[7, 8, 9], (7, np.uint8(8), 9), np.array([7, 8, 9])]
    shown = [env.reset(seed=seed)[0] for env, seed in zip(envs, lists, strict=True)]
    assert same(shown[0], shown[1])
    assert same(shown[0], shown[2])
    assert make("PlasticCopy-v0", "NextStep").reset(seed=2**128 - 1)
