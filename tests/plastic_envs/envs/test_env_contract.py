"""What every task is, ours and a user's own: alone, and as an environment."""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from plastic_envs import SequenceTask, TaskEnv, TaskVectorEnv, make_task
from plastic_envs.spaces import at, rows_of
from plastic_envs.tasks.players import ConstantPlayer, RandomPlayer
from tests.plastic_envs.players import (
    Script,
    expected_rewards,
    joined,
    leaves,
    random_actions,
    same,
    same_trees,
    scribble,
)

quick = settings(max_examples=10, deadline=None, database=None)
seeds = st.integers(0, 2**32 - 1)


def made(variant):
    return make_task(variant[0], **variant[1])


def actions_for(env, count):
    batch = (env.unwrapped.num_envs,) if hasattr(env.unwrapped, "num_envs") else ()
    return random_actions(env.unwrapped.task.action_space, count, *batch)


def played(env, num_episodes, seed=None):
    """Return everything that an environment says in some episodes."""
    said = []
    for episode in range(num_episodes):
        said.append(env.reset(seed=seed if episode == 0 else None))
        for action in actions_for(env, env.unwrapped.task.num_steps):
            said.append(env.step(action))
        assert said[-1][2]
    return said


def leaves_of_space(space):
    return list(space.spaces.values()) if isinstance(space, spaces.Dict) else [space]


# --- the checkers of others


@pytest.mark.filterwarnings("ignore:.*using a symmetric and normalized space")  # advice only
def test_gymnasium_finds_nothing_to_object(variant):
    check_env(gym.make(variant[0], **variant[1]).unwrapped)


@pytest.mark.filterwarnings("ignore:.*symmetric and normalized Box action")
@pytest.mark.filterwarnings("ignore:.*minimal resolution for an image")  # its CNN takes more
def test_stable_baselines_finds_nothing_to_object(variant):
    sb3_checker = pytest.importorskip("stable_baselines3.common.env_checker")
    env = gym.make(variant[0], render_mode="ansi", **variant[1])
    sb3_checker.check_env(env.unwrapped, skip_render_check=False)


# --- seeds


def test_same_seed_same_episodes(variant):
    env_id, kwargs = variant
    first, second = gym.make(env_id, **kwargs), gym.make(env_id, **kwargs)
    assert same(played(first, 2, seed=7), played(second, 2, seed=7))
    assert same(played(first, 2, seed=7), played(second, 2, seed=7))
    first, second = (gym.make_vec(env_id, num_envs=3, **kwargs) for _ in range(2))
    assert same([first.reset(seed=7), first.reset()], [second.reset(seed=7), second.reset()])
    assert same(first.reset(seed=7), second.reset(seed=7))


def test_different_seeds_and_successive_resets_give_different_episodes(variant):
    task, env = made(variant), gym.make(variant[0], **variant[1])
    envs = gym.make_vec(variant[0], num_envs=2, **variant[1])
    starts = []
    for seed in (0, 1, None, None):
        env.reset(seed=seed)
        starts.append(env.unwrapped._start)
    for seed in (2, None):
        envs.reset(seed=seed)
        starts += [rows_of(envs.unwrapped._first, np.array([k])) for k in range(2)]
    starts += [task.sample_states(1, seed=seed) for seed in (3, 4, None)]
    for k, start in enumerate(starts):
        assert not any(same_trees(start, other) for other in starts[k + 1 :])


@quick
@given(seed=seeds, parts=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_drawing_in_parts_gives_the_same_episodes(variant, seed, parts):
    task = made(variant)
    whole = task.sample_states(sum(parts), seed)
    rng, start = np.random.default_rng(seed), 0
    for count in parts:
        rows = np.arange(start, start + count)
        assert same_trees(task.sample_states(count, rng), rows_of(whole, rows))
        start += count


@quick
@given(seed=seeds, fewer=st.integers(1, 4), more=st.integers(0, 4))
def test_an_episode_does_not_depend_on_its_batch(variant, seed, fewer, more):
    task = made(variant)
    actions = random_actions(task.action_space, fewer + more, task.num_steps, seed=seed)
    many = task.play(Script(actions), fewer + more, seed)
    few = task.play(Script(actions[:fewer]), fewer, np.random.SeedSequence(seed))
    assert same_trees(rows_of(tuple(many), np.arange(fewer)), tuple(few))


# --- episodes


_SIZES = st.one_of(
    st.tuples(
        st.just("PlasticCopy-v0"),
        st.fixed_dictionaries(
            {"length": st.integers(1, 6), "dim": st.integers(1, 4), "delay": st.integers(0, 5)}
        ),
    ),
    st.tuples(
        st.just("PlasticCueReward-v0"),
        st.fixed_dictionaries(
            {
                "num_cues": st.integers(1, 6),
                "cue_size": st.integers(1, 4),
                "noise": st.floats(0, 3),
                "episode_length": st.integers(2, 9),
            }
        ),
    ),
    st.tuples(
        st.just("PlasticRegression-v0"),
        st.fixed_dictionaries(
            {
                "kind": st.sampled_from(["linear", "mlp"]),
                "input_size": st.one_of(st.none(), st.integers(1, 4)),
                "num_support": st.integers(1, 5),
                "num_query": st.integers(2, 5),
                "noise": st.floats(0.01, 3),
            }
        ),
    ),
    st.tuples(
        st.just("PlasticBandit-v0"),
        st.fixed_dictionaries({"num_arms": st.integers(2, 6), "num_trials": st.integers(1, 9)}),
    ),
    st.tuples(
        st.just("PlasticMaze-v0"),
        st.fixed_dictionaries(
            {
                "size": st.sampled_from([5, 7, 9, 11]),
                "episode_length": st.integers(1, 20),
                "wall_penalty": st.floats(0, 3),
            }
        ),
    ),
    st.tuples(
        st.just("PlasticTargetSearch-v0"),
        st.fixed_dictionaries(
            {
                "num_cues": st.integers(2, 8),
                "cue_size": st.integers(3, 30),
                "episode_length": st.integers(14, 40),
            }
        ),
    ),
)


@settings(quick, max_examples=100)
@given(sizes=_SIZES, seed=seeds, count=st.integers(1, 4))
def test_any_sizes_give_what_the_spaces_declare(sizes, seed, count):
    assert_as_declared(make_task(sizes[0], **sizes[1]), seed, count)


def test_every_task_gives_what_its_spaces_declare(variant):
    assert_as_declared(made(variant), 0, 3)


def assert_as_declared(task, seed, count):
    actions = random_actions(task.action_space, count, task.num_steps, seed=seed)
    state, (low, high) = task.sample_states(count, seed), task.reward_bounds
    parts = leaves_of_space(task.observation_space)
    some = False
    for step in range(task.num_steps + 1):
        observations = task.observe(state, step)
        for array, box in zip(leaves(observations), parts, strict=True):
            assert array.shape == (count, *box.shape)
            assert array.dtype == box.dtype
            assert np.isfinite(array).all()
            if step < task.num_steps or not isinstance(task, SequenceTask):
                assert ((array >= box.low) & (array <= box.high)).all()
        if step < task.num_steps:
            state, rewards, infos = task.step(state, step, actions[:, step])
            assert rewards.shape == (count,)
            assert rewards.dtype == np.float64
            assert ((rewards >= low) & (rewards <= high)).all()
            assert infos["scored"].dtype == np.bool_
            assert not rewards[~infos["scored"]].any()
            assert all(len(array) == count for array in infos.values())
            some |= infos["scored"].any()
    assert some
    assert len(task.observation_labels) == sum(box.low.size for box in parts)
    if isinstance(task, SequenceTask):
        observations, targets, scored = task.sample_episodes(count, seed)
        assert targets.shape == (count, task.num_steps, *task.action_space.shape)
        assert targets.dtype == task.action_space.dtype
        assert np.isfinite(targets).all()
        assert (scored.sum(axis=1) == scored[0].sum()).all()
        if task.oracle_player() is not None:
            answers = task.oracle(observations)
            assert answers.shape == targets.shape
            assert answers.dtype == targets.dtype
            assert np.isfinite(answers).all()


def test_an_environment_plays_the_episodes_of_the_task(variant):
    env, task = gym.make(variant[0], **variant[1]), made(variant)
    actions = random_actions(task.action_space, 3, task.num_steps)
    whole = task.play(Script(actions), 3, seed=11)
    for k in range(3):
        observation, info = env.reset(seed=11 if k == 0 else None)
        state = task.sample_states(3, seed=11)
        assert info == {}
        for t in range(task.num_steps):
            assert same(observation, at(task.observe(state, t), k))
            observation, reward, terminated, truncated, info = env.step(actions[k, t])
            state, rewards, infos = task.step(state, t, actions[:, t])
            assert reward == rewards[k] == whole.rewards[k, t]
            assert type(reward) is float
            assert info.keys() == infos.keys()
            for name, array in infos.items():
                np.testing.assert_array_equal(info[name], array[k, ...], strict=True)
            assert type(info["scored"]) is np.ndarray
            assert info["scored"] == whole.scored[k, t]
            assert terminated is (t == task.num_steps - 1)
            assert truncated is False
        assert same(observation, at(task.observe(state, task.num_steps), k))


def test_an_environment_shows_the_episodes_that_are_sampled(sequence):
    task, env = made(sequence), gym.make(sequence[0], **sequence[1])
    episodes = task.sample_episodes(2, seed=11)
    for k in range(2):
        observation, _ = env.reset(seed=11 if k == 0 else None)
        for t, action in enumerate(actions_for(env, task.num_steps)):
            assert same(observation, at(episodes.observations, (k, t)))
            observation, reward, *_, info = env.step(action)
            target, scored = episodes.targets[k, t], episodes.scored[k, t]
            expected = float(expected_rewards(action, target))
            assert reward == pytest.approx(expected if scored else 0.0, abs=1e-12)
            assert same(info, {"target": target, "scored": np.array(scored)})
        assert not joined(observation).any()


def test_a_step_leaves_the_state_before_it_as_it_was(variant):
    task = made(variant)
    state = task.sample_states(3, seed=0)
    for step in range(task.num_steps):
        kept = copy.deepcopy(state)
        outcome = task.step(state, step, random_actions(task.action_space, 3, seed=step))
        scribble([task.observe(state, step), outcome.rewards, outcome.infos])
        assert same_trees(state, kept)
        state = outcome.state


def test_changing_what_was_drawn_changes_nothing_later(variant):
    task = made(variant)
    kept, changed = task.sample_states(2, seed=0), task.sample_states(2, seed=0)
    arrays = [leaf for state in (kept, changed) for part in state for leaf in leaves(part)]
    assert not any(np.shares_memory(a, b) for a in arrays for b in arrays if a is not b)
    scribble(changed)
    assert same_trees(kept, task.sample_states(2, seed=0))


def test_players_start_afresh(variant):
    task = made(variant)
    player = task.oracle_player() or ConstantPlayer(0)
    if isinstance(task.action_space, spaces.Box) and task.oracle_player() is None:
        player = RandomPlayer(task.action_space, np.random.default_rng(0))
    first = task.play(player, 20, seed=0)
    assert first.actions.shape == (20, task.num_steps, *task.action_space.shape)
    assert first.score == first.measures["score"].mean()
    if task.oracle_player() is None:
        assert task.oracle_measures(20, seed=0) == {}
        return
    task.play(player, 7, seed=1)
    assert same_trees(first, task.play(player, 20, seed=0))
    assert task.oracle_measures(20, seed=0)["score"] == first.score


def test_the_oracle_of_a_sequence_scores_by_playing_what_its_answers_do(sequence):
    task = made(sequence)
    episodes = task.sample_episodes(20, seed=0)
    assert task.oracle_measures(20, seed=0)["score"] == task.score(
        task.oracle(episodes.observations), episodes
    )


def test_random_and_constant_players(variant):
    task = made(variant)
    random = task.play(RandomPlayer(task.action_space, np.random.default_rng(0)), 40, seed=0)
    assert all(task.action_space.contains(action) for action in random.actions[:, 0])
    if isinstance(task.action_space, spaces.Discrete):
        assert set(np.unique(random.actions)) == set(range(task.action_space.n))
        assert (task.play(ConstantPlayer(1), 3, seed=0).actions == 1).all()


def test_targets_stay_in_their_space_and_bounds_are_not_far_off(sequence):
    task = made(sequence)
    observations, targets, _ = task.sample_episodes(3000, seed=5)
    parts = zip(leaves(observations), leaves_of_space(task.observation_space), strict=True)
    for array, box in parts:
        assert (array >= box.low).all()
        assert (array <= box.high).all()
        # Images are black in their corners, and flat ones lie beside the label.
        over = None if sequence[0] == "PlasticFewShot-v0" else (0, 1)
        assert (np.abs(array).max(axis=over) > box.high / 3).all()
    if isinstance(task.action_space, spaces.Discrete):
        assert set(np.unique(targets)) == set(range(task.action_space.n))
    else:
        assert (np.abs(targets) <= task.action_space.high * (1 + 1e-6)).all()
        assert (np.abs(targets).max(axis=(0, 1)) > task.action_space.high / 3).all()


@pytest.mark.parametrize("kind", ["linear", "mlp"])
@pytest.mark.parametrize("input_size", [None, 1])
@pytest.mark.parametrize("num_query", [1, 2])
def test_the_tightest_regression_stays_in_its_spaces(kind, num_query, input_size):
    sizes = {"input_size": input_size, "num_support": 1, "num_query": num_query}
    task = make_task("PlasticRegression-v0", kind=kind, noise=0, **sizes)
    observations, targets, _ = task.sample_episodes(100_000, seed=0)
    space = task.observation_space
    assert (np.abs(targets) <= task.action_space.high * (1 + 1e-6)).all()
    assert (observations >= space.low).all()
    assert (observations <= space.high).all()


def test_changing_what_was_returned_changes_nothing_later(variant):
    env_id, kwargs = variant
    clean = gym.make(env_id, **kwargs).unwrapped
    dirty = gym.make(env_id, render_mode="ansi", **kwargs).unwrapped
    witness = gym.make(env_id, render_mode="ansi", **kwargs).unwrapped
    for k in range(2):
        for env in (clean, dirty, witness):
            returned = env.reset(seed=1 if k == 0 else None)
            if env is dirty:
                scribble(returned)
        for action in actions_for(clean, clean.task.num_steps):
            expected = clean.step(action)
            witness.step(action)
            handed_over = np.array(action)
            returned = dirty.step(handed_over)
            assert same(expected, returned)
            scribble((returned, handed_over))
        assert dirty.render() == witness.render()


@pytest.mark.parametrize("through", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@pytest.mark.parametrize("vector", [False, True], ids=["single", "vector"])
def test_a_copy_made_in_mid_episode_goes_on_alike(variant, through, vector):
    env_id, kwargs = variant
    make = gym.make_vec if vector else gym.make
    env = make(env_id, render_mode="ansi", **({"num_envs": 2} if vector else {}), **kwargs)
    env.reset(seed=4)
    actions = actions_for(env, 3 * env.unwrapped.task.num_steps)
    for action in actions[:3]:
        env.step(action)
    twin = through(env)
    for action in actions[3:]:
        ours, theirs = env.step(action), twin.step(action)
        assert same(ours, theirs)
        if not vector and ours[2]:
            assert same(env.reset(), twin.reset())
    assert env.render() == twin.render()


def test_a_spec_makes_the_same_environment_again(variant):
    env = gym.make(variant[0], **variant[1])
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert env.unwrapped.task == gym.make(env.spec).unwrapped.task == again.unwrapped.task
    assert same(played(env, 2, seed=0), played(gym.make(env.spec), 2, seed=0))


def test_a_task_object_serves_as_well_as_its_name(variant):
    env_id, kwargs = variant
    task = make_task(env_id, **kwargs)
    named, given_ = gym.make(env_id, **kwargs), TaskEnv(task)
    assert given_.task is task
    assert same(played(named, 2, seed=0), played(given_, 2, seed=0))
    envs = TaskVectorEnv(task, num_envs=2)
    assert same(envs.reset(seed=0), gym.make_vec(env_id, num_envs=2, **kwargs).reset(seed=0))


@pytest.mark.parametrize("use", ["step", "render"])
@pytest.mark.parametrize("make", [TaskEnv, TaskVectorEnv])
@pytest.mark.parametrize("env_id", ["PlasticCopy-v0", "PlasticBandit-v0"])
def test_nothing_works_before_reset(env_id, make, use):
    env = make(make_task(env_id), render_mode="ansi")
    with pytest.raises(ResetNeeded, match=r"call reset\(\) before"):
        env.step(env.action_space.sample()) if use == "step" else env.render()


@pytest.mark.parametrize(
    ("env_id", "kwargs"), [("PlasticCopy-v0", {"length": 1}), ("PlasticBandit-v0", {})]
)
def test_no_step_follows_the_last(env_id, kwargs):
    env = TaskEnv(make_task(env_id, **kwargs))
    played(env, 1, seed=0)
    with pytest.raises(ResetNeeded, match=r"call reset\(\) before step"):
        env.step(env.action_space.sample())
    env.reset()
    env.step(env.action_space.sample())


@pytest.mark.parametrize("action", [0.0, [0.0], [[0.0, 0.0]], [0.0, 0.0, 0.0]])
def test_an_action_of_another_shape_is_refused(action):
    env = TaskEnv(make_task("PlasticCopy-v0", dim=2))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"action must have shape \(2,\)"):
        env.step(np.array(action, np.float32))


@pytest.mark.parametrize("action", [-1, 5, 1.0, [1], None, "a", True, np.float32(1)])
@pytest.mark.parametrize("env_id", ["PlasticBandit-v0", "PlasticFewShot-v0"])
def test_what_is_no_choice_is_no_action(env_id, action):
    env = TaskEnv(make_task(env_id))
    env.reset(seed=0)
    with pytest.raises(
        ValueError, match=r"action must (have shape \(\)|be an integer from 0 to 4)"
    ):
        env.step(action)
