import copy
import dataclasses
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from hypothesis import given, settings
from hypothesis import strategies as st
from plastic_envs.tasks.interactive import ConstantPlayer, Player, RandomPlayer

import plastic_envs
from plastic_envs import InteractiveEnv, InteractiveVectorEnv, SequenceEnv, make_task

quick = settings(max_examples=10, deadline=None, database=None)
seeds = st.integers(0, 2**32 - 1)

VARIANTS = [
    ("PlasticBandit-v0", {}),
    ("PlasticBandit-v0", {"num_arms": 2, "num_trials": 7}),
    ("PlasticMaze-v0", {}),
    ("PlasticMaze-v0", {"size": 5, "episode_length": 12, "wall_penalty": 0}),
    ("PlasticTargetSearch-v0", {}),
    ("PlasticTargetSearch-v0", {"num_cues": 3, "cue_size": 2, "episode_length": 23}),
]
every_variant = pytest.mark.parametrize(
    ("env_id", "kwargs"), VARIANTS, ids=lambda value: str(value).removeprefix("Plastic")
)
both_modes = pytest.mark.parametrize(
    "mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP], ids=["next", "same"]
)
SIZES = st.one_of(
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


def same(a, b):
    return data_equivalence(a, b, exact=True)


def same_states(a, b):
    return type(a) is type(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def random_actions(task, shape, seed=3):
    return np.random.default_rng(seed).integers(task.action_space.n, size=shape)


class Script(Player):
    """Does what is written down."""

    def __init__(self, actions):
        self.actions, self.step = actions, 0

    def act(self, observations, state):
        self.step += 1
        return self.actions[:, self.step - 1]


@pytest.mark.parametrize("render_mode", [None, "rgb_array", "ansi"])
@every_variant
def test_gymnasium_finds_nothing_to_object(env_id, kwargs, render_mode):
    env = gym.make(env_id, render_mode=render_mode, **kwargs)
    check_env(env.unwrapped, skip_render_check=render_mode is not None)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    if render_mode:
        assert env.render() is not None
    env.close()


@every_variant
def test_stable_baselines_finds_nothing_to_object(env_id, kwargs):
    sb3_checker = pytest.importorskip("stable_baselines3.common.env_checker")
    sb3_checker.check_env(gym.make(env_id, **kwargs).unwrapped)


@settings(quick, max_examples=60)
@given(sizes=SIZES, seed=seeds, count=st.integers(1, 5))
def test_any_sizes_give_what_the_spaces_declare(sizes, seed, count):
    task = make_task(sizes[0], **sizes[1])
    actions = random_actions(task, (count, task.num_steps), seed)
    state = task.sample_states(count, seed)
    space, (low, high) = task.observation_space, task.reward_bounds
    for step in range(task.num_steps + 1):
        observations = task.observe(state, step)
        assert observations.shape == (count, *space.shape)
        assert observations.dtype == np.float32
        assert all(space.contains(row) for row in observations)
        np.testing.assert_array_equal(observations[:, -1], np.float32(step / task.num_steps))
        if step < task.num_steps:
            state, rewards, infos = task.step(state, step, actions[:, step])
            assert rewards.shape == (count,)
            assert rewards.dtype == np.float64
            assert ((rewards >= low) & (rewards <= high)).all()
            assert infos["scored"].dtype == np.bool_
            assert all(array.shape == (count,) for array in infos.values())


@settings(quick, max_examples=30)
@given(sizes=SIZES, seed=seeds, fewer=st.integers(1, 4), more=st.integers(0, 4))
def test_an_episode_does_not_depend_on_its_batch(sizes, seed, fewer, more):
    task = make_task(sizes[0], **sizes[1])
    actions = random_actions(task, (fewer + more, task.num_steps), seed)
    many = task.play(Script(actions), fewer + more, seed)
    few = task.play(Script(actions[:fewer]), fewer, np.random.SeedSequence(seed))
    assert all(np.array_equal(a[:fewer], b) for a, b in zip(many, few, strict=True))
    rng = np.random.default_rng(seed)
    parts = [task.sample_states(count, rng) for count in (fewer, more) if count]
    joined = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    whole = task.sample_states(fewer + more, seed)
    assert all(np.array_equal(a, b) for a, b in zip(whole, joined, strict=True))


@every_variant
def test_a_step_leaves_the_state_before_it_as_it_was(env_id, kwargs):
    task = make_task(env_id, **kwargs)
    state = task.sample_states(3, seed=0)
    for step in range(task.num_steps):
        kept = type(state)(*(array.copy() for array in state))
        outcome = task.step(state, step, random_actions(task, 3, step))
        task.observe(state, step)[...] = 77
        for array in (outcome.rewards, *outcome.infos.values()):
            array[...] = 1
        assert same_states(state, kept)
        state = outcome.state


@every_variant
def test_single_environments_play_the_episodes_of_the_task(env_id, kwargs):
    env, task = gym.make(env_id, **kwargs), make_task(env_id, **kwargs)
    actions = random_actions(task, (3, task.num_steps))
    played = task.play(Script(actions), 3, seed=11)
    for k in range(3):
        observation, info = env.reset(seed=11 if k == 0 else None)
        state = task.sample_states(3, seed=11)
        assert info == {}
        for t in range(task.num_steps):
            np.testing.assert_array_equal(observation, task.observe(state, t)[k])
            observation, reward, terminated, truncated, info = env.step(actions[k, t])
            state, rewards, infos = task.step(state, t, actions[:, t])
            assert reward == rewards[k] == played.rewards[k, t]
            assert type(reward) is float
            assert info == {name: array[k] for name, array in infos.items()}
            assert type(info["scored"]) is np.ndarray
            assert info["scored"] == played.scored[k, t]
            assert terminated is (t == task.num_steps - 1)
            assert truncated is False
        np.testing.assert_array_equal(observation, task.observe(state, task.num_steps)[k])


@both_modes
@every_variant
def test_sub_environments_play_the_episodes_of_the_task_in_order(env_id, kwargs, mode):
    envs = gym.make_vec(env_id, num_envs=4, autoreset_mode=mode, **kwargs)
    assert isinstance(envs.unwrapped, InteractiveVectorEnv)
    task = envs.unwrapped.task
    rng = np.random.default_rng(9)
    observations, infos = envs.reset(seed=9)
    assert infos == {}
    every, never = np.full(4, True), np.full(4, False)
    for _ in range(3):
        state = task.sample_states(4, rng)
        for t in range(task.num_steps):
            np.testing.assert_array_equal(observations, task.observe(state, t), strict=True)
            actions = random_actions(task, 4, t)
            observations, rewards, terminated, truncated, infos = envs.step(actions)
            state, expected, expected_infos = task.step(state, t, actions)
            last = t == task.num_steps - 1
            np.testing.assert_array_equal(rewards, expected, strict=True)
            np.testing.assert_array_equal(terminated, every if last else never, strict=True)
            np.testing.assert_array_equal(truncated, never, strict=True)
            behind = observations
            if last and mode is AutoresetMode.SAME_STEP:
                assert set(infos) == {"final_obs", "_final_obs", "final_info", "_final_info"}
                assert infos["_final_obs"].all()
                behind, infos = np.stack(infos["final_obs"]), infos["final_info"]
            masks = {f"_{name}": every for name in expected_infos}
            assert same(infos, expected_infos | masks)
        np.testing.assert_array_equal(behind, task.observe(state, task.num_steps))
        if mode is AutoresetMode.NEXT_STEP:
            wild = np.full(4, -5)  # ignored
            observations, rewards, terminated, truncated, infos = envs.step(wild)
            assert not rewards.any()
            assert not (terminated | truncated).any()
            assert infos == {}


@both_modes
@every_variant
def test_a_batch_of_one_equals_gymnasiums_own_vectorisation(env_id, kwargs, mode):
    ours = gym.make_vec(env_id, num_envs=1, autoreset_mode=mode, **kwargs)
    theirs = SyncVectorEnv([lambda: gym.make(env_id, **kwargs)], autoreset_mode=mode)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.metadata == theirs.metadata
    assert same(ours.reset(seed=8), theirs.reset(seed=8))
    for t in range(2 * ours.unwrapped.task.num_steps + 3):
        actions = random_actions(ours.unwrapped.task, 1, t)
        *arrays, infos = ours.step(actions)
        *their_arrays, their_infos = theirs.step(actions)
        for array, their_array in zip(arrays, their_arrays, strict=True):
            np.testing.assert_array_equal(array, their_array, strict=True)
        assert_equal_infos(infos, their_infos)


def assert_equal_infos(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        if isinstance(value, dict):
            assert_equal_infos(value, theirs[key])
        elif value.dtype == object:
            for a, b in zip(value, theirs[key], strict=True):
                np.testing.assert_array_equal(a, b, strict=True)
        else:
            np.testing.assert_array_equal(value, theirs[key], strict=True)


@every_variant
def test_different_episodes_differ(env_id, kwargs):
    task = make_task(env_id, **kwargs)
    state = task.sample_states(50, seed=0)
    again = task.sample_states(50, seed=1)
    assert not same_states(state, again)
    assert not same_states(task.sample_states(50), task.sample_states(50))
    rows = {tuple(np.concatenate([a[k].ravel() for a in state])) for k in range(50)}
    assert len(rows) > 45


@pytest.mark.parametrize("through", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@pytest.mark.parametrize("vector", [False, True], ids=["single", "vector"])
@every_variant
def test_a_copy_made_in_mid_episode_goes_on_alike(env_id, kwargs, vector, through):
    make = gym.make_vec if vector else gym.make
    env = make(env_id, render_mode="ansi", **({"num_envs": 2} if vector else {}), **kwargs)
    env.reset(seed=4)
    task = env.unwrapped.task
    shape = (2,) if vector else ()
    for t in range(3):
        env.step(random_actions(task, shape, t))
    twin = through(env)
    for t in range(3, 2 * task.num_steps):
        actions = random_actions(task, shape, t)
        ours = env.step(actions)
        assert same(ours, twin.step(actions))
        if not vector and ours[2]:
            assert same(env.reset(), twin.reset())
    assert env.render() == twin.render()


@every_variant
def test_changing_what_was_returned_changes_nothing_later(env_id, kwargs):
    clean, dirty = (gym.make_vec(env_id, num_envs=2, **kwargs) for _ in range(2))
    clean.reset(seed=6)
    dirty.reset(seed=6)[0][...] = 77
    for t in range(clean.unwrapped.task.num_steps):
        actions = random_actions(clean.unwrapped.task, 2, t)
        expected, returned = clean.step(actions), dirty.step(actions)
        assert same(expected, returned)
        *arrays, infos = returned
        arrays += list(infos.values())
        assert not any(np.shares_memory(a, b) for a in arrays for b in arrays if a is not b)
        for array in arrays:
            array[...] = 1
        actions[...] = 0


@both_modes
@every_variant
def test_episode_statistics_are_the_returns_and_lengths(env_id, kwargs, mode):
    version = tuple(int(part) for part in gym.__version__.split(".")[:2])
    if mode is AutoresetMode.SAME_STEP and version < (1, 4):
        pytest.skip("the wrapper of this Gymnasium counts a step too few under SAME_STEP")
    plain = gym.make_vec(env_id, num_envs=3, autoreset_mode=mode, **kwargs)
    envs, task = RecordEpisodeStatistics(plain), plain.unwrapped.task
    envs.reset(seed=0)
    total, ended = np.zeros(3), 0
    for t in range(2 * (task.num_steps + 1)):
        _, rewards, terminated, _, infos = envs.step(random_actions(task, 3, t))
        total += rewards
        if terminated.all():
            np.testing.assert_allclose(infos["episode"]["r"], total, rtol=1e-6, atol=1e-6)
            np.testing.assert_array_equal(infos["episode"]["l"], np.full(3, task.num_steps))
            total[:] = 0
            ended += 1
    assert ended == 2


@every_variant
def test_a_spec_and_a_task_make_the_same_environment_again(env_id, kwargs):
    env = gym.make(env_id, **kwargs)
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    task = make_task(env_id, **kwargs)
    assert env.unwrapped.task == again.unwrapped.task == task
    assert hash(env.unwrapped.task) == hash(task)
    envs = gym.make_vec(env_id, num_envs=2, autoreset_mode="SameStep", **kwargs)
    assert same(envs.reset(seed=2), gym.make_vec(envs.spec).reset(seed=2))
    assert same(envs.reset(seed=2), InteractiveVectorEnv(task, num_envs=2).reset(seed=2))
    assert same(env.reset(seed=2), InteractiveEnv(task).reset(seed=2))


def test_kinds_of_ids():
    sequence, interactive = plastic_envs.ids("sequence"), plastic_envs.ids("interactive")
    assert interactive == ["PlasticBandit-v0", "PlasticMaze-v0", "PlasticTargetSearch-v0"]
    assert sorted(sequence + interactive) == sorted(plastic_envs.ids())
    for ask in (plastic_envs.ids, lambda kind: plastic_envs.register_task("A-v0", "a:b", kind)):
        with pytest.raises(ValueError, match=r"kind must be one of .*'sequence', 'interactive'"):
            ask("both")


def test_an_interactive_task_can_be_registered_from_outside(monkeypatch):
    monkeypatch.setattr(gym.envs.registration, "registry", dict(gym.registry))
    plastic_envs.register_task("Other/B-v3", "plastic_envs.tasks.bandit:Bandit", "interactive")
    assert "Other/B-v3" in plastic_envs.ids("interactive")
    assert make_task("Other/B-v3", num_arms=3) == make_task("PlasticBandit-v0", num_arms=3)
    assert gym.make_vec("Other/B-v3", num_envs=5).reset()[0].shape == (5, 1)


def test_a_task_of_the_other_kind_is_refused():
    with pytest.raises(ValueError, match=r"task must be a InteractiveTask here, got Copy\("):
        InteractiveEnv(make_task("PlasticCopy-v0"))
    with pytest.raises(ValueError, match=r"task must be a SequenceTask here, got Bandit\("):
        SequenceEnv(make_task("PlasticBandit-v0"))


INTEGERS = [
    ("PlasticBandit-v0", "num_arms", 2),
    ("PlasticBandit-v0", "num_trials", 1),
    ("PlasticMaze-v0", "size", 5),
    ("PlasticMaze-v0", "episode_length", 1),
    ("PlasticTargetSearch-v0", "num_cues", 2),
    ("PlasticTargetSearch-v0", "cue_size", 1),
    ("PlasticTargetSearch-v0", "episode_length", 8),
]


@pytest.mark.parametrize("below", [1, 100, 1.5, None, True, "3"])
@pytest.mark.parametrize(("env_id", "name", "minimum"), INTEGERS)
def test_a_size_that_does_not_fit_is_refused_by_name(env_id, name, minimum, below):
    value = minimum - below if type(below) is int else below
    for make in (make_task, gym.make, gym.make_vec):
        with pytest.raises(ValueError, match=f"^{name} must be an integer of at least {minimum}"):
            make(env_id, **{name: value})


@pytest.mark.parametrize(("env_id", "name", "minimum"), INTEGERS)
def test_numpy_integers_are_taken(env_id, name, minimum):
    value = np.int16(minimum + 2)
    assert make_task(env_id, **{name: value}) == make_task(env_id, **{name: int(value)})
    assert type(getattr(make_task(env_id, **{name: value}), name)) is int


def test_other_arguments_that_do_not_fit_are_refused_by_name():
    with pytest.raises(ValueError, match="size must be odd, got 8"):
        make_task("PlasticMaze-v0", size=8)
    for penalty in (-0.1, np.nan, np.inf, "0.1", True):
        with pytest.raises(ValueError, match="wall_penalty must be a finite number of at least 0"):
            make_task("PlasticMaze-v0", wall_penalty=penalty)
    with pytest.raises(ValueError, match="num_cues must be at most"):
        make_task("PlasticTargetSearch-v0", num_cues=5, cue_size=2)
    assert make_task("PlasticTargetSearch-v0", num_cues=4, cue_size=2).num_cues == 4
    for env_id in plastic_envs.ids("interactive"):
        task = make_task(env_id)
        known = ", ".join(field.name for field in dataclasses.fields(task))
        with pytest.raises(
            TypeError, match=f"unexpected keyword argument 'colour'; it takes {known}$"
        ):
            make_task(env_id, colour=3)
        with pytest.raises(ValueError, match="num_episodes must be an integer of at least 1"):
            task.sample_states(0)
        with pytest.raises(AttributeError):
            task.size = 3


@pytest.mark.parametrize("action", [-1, 5, 1.0, [1], None, "a"])
def test_an_action_that_is_none_is_refused(action):
    env = InteractiveEnv(make_task("PlasticBandit-v0"))
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action must"):
        env.step(action)


@pytest.mark.parametrize("use", ["step", "render"])
@pytest.mark.parametrize("make", [InteractiveEnv, InteractiveVectorEnv])
def test_nothing_works_before_reset_or_behind_the_end(make, use):
    env = make(make_task("PlasticBandit-v0", num_trials=1), render_mode="ansi")
    action = np.zeros(env.action_space.shape, np.int64)
    with pytest.raises(ResetNeeded, match=r"call reset\(\) before"):
        env.step(action) if use == "step" else env.render()
    if make is InteractiveEnv:
        env.reset()
        env.step(action)
        with pytest.raises(ResetNeeded, match=r"call reset\(\) before step"):
            env.step(action)


@every_variant
def test_players_start_afresh(env_id, kwargs):
    task = make_task(env_id, **kwargs)
    player = task.oracle()
    first = task.play(player, 20, seed=0)
    task.play(player, 7, seed=1)
    assert same_states(first, task.play(player, 20, seed=0))
    constant = task.play(ConstantPlayer(1), 20, seed=0)
    assert (constant.actions == 1).all()
    random = task.play(RandomPlayer(task, np.random.default_rng(0)), 20, seed=0)
    assert set(np.unique(random.actions)) == set(range(task.action_space.n))
