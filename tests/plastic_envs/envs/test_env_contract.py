import copy
import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

import plastic_envs
from plastic_envs import SequenceEnv, SequenceVectorEnv, make_task
from plastic_envs.tasks.base import at
from tests.plastic_envs.players import expected_rewards, joined, leaves, random_actions, same

quick = settings(max_examples=10, deadline=None, database=None)
seeds = st.integers(0, 2**32 - 1)


def same_episodes(a, b):
    return same(tuple(a), tuple(b))


def cut(episodes, part):
    return [at(episodes.observations, part), episodes.targets[part], episodes.scored[part]]


def actions_for(env, count):
    batch = (env.unwrapped.num_envs,) if hasattr(env.unwrapped, "num_envs") else ()
    return random_actions(env.unwrapped.task.action_space, count, *batch)


def played(env, num_episodes, seed=None):
    """Return everything that an environment says in some episodes."""
    said = []
    for episode in range(num_episodes):
        said.append(env.reset(seed=seed if episode == 0 else None))
        for action in actions_for(env, 1000):
            said.append(env.step(action))
            if said[-1][2] or said[-1][3]:
                break
    return said


def leaves_of_space(space):
    return list(space.spaces.values()) if isinstance(space, spaces.Dict) else [space]


def scribble(value):
    """Overwrite every array in what an environment returned."""
    if isinstance(value, dict):
        scribble(list(value.values()))
    elif isinstance(value, (tuple, list)):
        for part in value:
            scribble(part)
    elif isinstance(value, np.ndarray):
        if value.dtype == object:
            scribble(list(value))
        else:
            value[...] = True if value.dtype == np.bool_ else 1


@pytest.mark.parametrize("render_mode", [None, "rgb_array", "ansi"])
def test_gymnasium_finds_nothing_to_object(variant, render_mode):
    env_id, kwargs = variant
    env = gym.make(env_id, render_mode=render_mode, **kwargs)
    with warnings.catch_warnings():
        if env_id == "PlasticRegression-v0":  # its answers have no bound of 1: advice only
            warnings.filterwarnings("ignore", message=".*using a symmetric and normalized space")
        check_env(env.unwrapped, skip_render_check=render_mode is not None)
    env.close()


@pytest.mark.parametrize("render_mode", ["rgb_array", "ansi"])
def test_every_render_mode_survives_the_checks_of_gym_make(variant, render_mode):
    env_id, kwargs = variant
    env = gym.make(env_id, render_mode=render_mode, **kwargs)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    assert env.render() is not None
    env.close()
    env.close()


def test_stable_baselines_finds_nothing_to_object(variant):
    sb3_checker = pytest.importorskip("stable_baselines3.common.env_checker")
    env_id, kwargs = variant
    env = gym.make(env_id, render_mode="ansi", **kwargs)
    with warnings.catch_warnings():
        if env_id == "PlasticRegression-v0":
            warnings.filterwarnings("ignore", message=".*symmetric and normalized Box action")
        if env_id == "PlasticFewShot-v0":  # its CNN takes sides from 36 on; glyphs have 28
            warnings.filterwarnings("ignore", message=".*minimal resolution for an image")
        sb3_checker.check_env(env.unwrapped, skip_render_check=False)


def test_same_seed_same_episodes(variant):
    env_id, kwargs = variant
    first, second = gym.make(env_id, **kwargs), gym.make(env_id, **kwargs)
    assert same(played(first, 3, seed=7), played(second, 3, seed=7))
    assert same(played(first, 2, seed=7), played(second, 2, seed=7))


def test_same_seed_same_batches(variant):
    env_id, kwargs = variant
    first = gym.make_vec(env_id, num_envs=3, **kwargs)
    second = gym.make_vec(env_id, num_envs=3, **kwargs)
    assert same([first.reset(seed=7), first.reset()], [second.reset(seed=7), second.reset()])
    assert same(first.reset(seed=7), second.reset(seed=7))


def test_different_seeds_and_successive_resets_give_different_episodes(variant):
    env_id, kwargs = variant
    task, env = make_task(env_id, **kwargs), gym.make(env_id, **kwargs)
    envs = gym.make_vec(env_id, num_envs=2, **kwargs)
    firsts = [env.reset(seed=s)[0] for s in (0, 1, None)]
    firsts += [at(batch, k) for batch in (envs.reset(seed=2)[0], envs.reset()[0]) for k in (0, 1)]
    firsts += [at(task.sample_episodes(1, seed=s).observations, (0, 0)) for s in (3, 4)]
    assert len(np.unique([joined(first) for first in firsts], axis=0)) == len(firsts)


def test_without_a_seed_episodes_differ_from_run_to_run(variant):
    env_id, kwargs = variant
    task = make_task(env_id, **kwargs)
    assert not same_episodes(task.sample_episodes(2), task.sample_episodes(2))


def test_an_environment_shows_the_episodes_that_are_sampled(variant):
    env_id, kwargs = variant
    task = make_task(env_id, **kwargs)
    episodes = task.sample_episodes(3, seed=11)
    env = gym.make(env_id, **kwargs)
    actions = actions_for(env, task.num_steps)
    for k in range(3):
        observation, info = env.reset(seed=11 if k == 0 else None)
        assert info == {}
        for t, action in enumerate(actions):
            assert same(observation, at(episodes.observations, (k, t)))
            observation, reward, terminated, truncated, info = env.step(action)
            target, scored = episodes.targets[k, t], episodes.scored[k, t]
            expected = float(expected_rewards(action, target))
            assert reward == pytest.approx(expected if scored else 0.0, abs=1e-12)
            assert terminated is (t == task.num_steps - 1)
            assert truncated is False
            assert same(info, {"target": target, "scored": np.array(scored)})
        assert not joined(observation).any()


@quick
@given(seed=seeds, parts=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_drawing_in_parts_gives_the_same_episodes(variant, seed, parts):
    task = make_task(variant[0], **variant[1])
    whole = task.sample_episodes(sum(parts), seed)
    rng = np.random.default_rng(seed)
    drawn = [task.sample_episodes(count, rng) for count in parts]
    starts = np.cumsum([0, *parts])
    for start, part in zip(starts, drawn, strict=False):
        assert same_episodes(part, cut(whole, slice(start, start + len(part.scored))))


@quick
@given(seed=seeds, fewer=st.integers(1, 6), more=st.integers(0, 6))
def test_the_first_episodes_do_not_depend_on_how_many_are_drawn(variant, seed, fewer, more):
    task = make_task(variant[0], **variant[1])
    many = task.sample_episodes(fewer + more, seed)
    few = task.sample_episodes(fewer, np.random.SeedSequence(seed))
    assert same_episodes(few, cut(many, slice(fewer)))


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
)


@settings(quick, max_examples=60)
@given(sizes=_SIZES, seed=seeds, count=st.integers(1, 5))
def test_any_sizes_give_episodes_of_the_declared_shape_and_range(sizes, seed, count):
    task = make_task(sizes[0], **sizes[1])
    observations, targets, scored = task.sample_episodes(count, seed)
    assert observations.shape == (count, task.num_steps, *task.observation_space.shape)
    assert targets.shape == (count, task.num_steps, *task.action_space.shape)
    assert scored.shape == (count, task.num_steps)
    assert (observations.dtype, targets.dtype, scored.dtype) == (np.float32, np.float32, np.bool_)
    assert np.isfinite(observations).all()
    assert np.isfinite(targets).all()
    assert (observations >= task.observation_space.low).all()
    assert (observations <= task.observation_space.high).all()
    assert (scored.sum(axis=1) == scored[0].sum()).all()
    assert scored.any()
    assert len(task.observation_labels) == observations.shape[-1]
    answers = task.oracle(observations)
    assert answers.shape == targets.shape
    assert answers.dtype == np.float32
    assert np.isfinite(answers).all()


def test_observations_and_targets_stay_in_their_spaces(variant):
    task = make_task(variant[0], **variant[1])
    observations, targets, _ = task.sample_episodes(3000, seed=5)
    space = task.observation_space
    for array, box in zip(leaves(observations), leaves_of_space(space), strict=True):
        assert (array >= box.low).all()
        assert (array <= box.high).all()
    if isinstance(task.action_space, spaces.Discrete):
        assert set(np.unique(targets)) == set(range(task.action_space.n))
    else:
        assert (np.abs(targets) <= task.action_space.high * (1 + 1e-6)).all()


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


def test_observation_bounds_are_not_far_off(variant):
    task = make_task(variant[0], **variant[1])
    observations, targets, _ = task.sample_episodes(3000, seed=5)
    for array, box in zip(
        leaves(observations), leaves_of_space(task.observation_space), strict=True
    ):
        # Images are black in their corners, and flat ones lie beside the label.
        over = None if variant[0] == "PlasticFewShot-v0" else (0, 1)
        assert (np.abs(array).max(axis=over) > box.high / 3).all()
    if isinstance(task.action_space, spaces.Box):
        assert (np.abs(targets).max(axis=(0, 1)) > task.action_space.high / 3).all()


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


def test_changing_sampled_episodes_changes_nothing_later(variant):
    task = make_task(variant[0], **variant[1])
    kept = task.sample_episodes(2, seed=0)
    changed = task.sample_episodes(2, seed=0)
    assert same_episodes(kept, changed)
    scribble(changed)
    assert same_episodes(kept, task.sample_episodes(2, seed=0))
    arrays = [leaf for episodes in (kept, changed) for part in episodes for leaf in leaves(part)]
    assert not any(np.shares_memory(a, b) for a in arrays for b in arrays if a is not b)


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
    env_id, kwargs = variant
    env = gym.make(env_id, **kwargs)
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert env.unwrapped.task == gym.make(env.spec).unwrapped.task == again.unwrapped.task
    assert same(played(env, 2, seed=0), played(gym.make(env.spec), 2, seed=0))


def test_a_task_object_serves_as_well_as_its_name(variant):
    env_id, kwargs = variant
    task = make_task(env_id, **kwargs)
    named, given_ = gym.make(env_id, **kwargs), SequenceEnv(task)
    assert given_.task is task
    assert same(played(named, 2, seed=0), played(given_, 2, seed=0))
    envs = SequenceVectorEnv(task, num_envs=2)
    assert same(envs.reset(seed=0), gym.make_vec(env_id, num_envs=2, **kwargs).reset(seed=0))


@pytest.mark.parametrize("use", ["step", "render"])
def test_nothing_works_before_reset(use):
    env = SequenceEnv(make_task("PlasticCopy-v0"), render_mode="ansi")
    with pytest.raises(ResetNeeded, match=r"call reset\(\) before"):
        env.step(np.zeros(1, np.float32)) if use == "step" else env.render()


def test_no_step_follows_the_last():
    env = SequenceEnv(make_task("PlasticCopy-v0", length=1))
    played(env, 1, seed=0)
    with pytest.raises(ResetNeeded, match=r"call reset\(\) before step"):
        env.step(np.zeros(1, np.float32))
    env.reset()
    env.step(np.zeros(1, np.float32))


@pytest.mark.parametrize("action", [0.0, [0.0], [[0.0, 0.0]], [0.0, 0.0, 0.0]])
def test_an_action_of_another_shape_is_refused(action):
    env = SequenceEnv(make_task("PlasticCopy-v0", dim=2))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"action must have shape \(2,\)"):
        env.step(np.array(action, np.float32))


def test_ids_are_those_registered_with_gymnasium():
    registered = sorted(name for name in gym.registry if name.startswith("Plastic"))
    assert sorted(plastic_envs.ids()) == registered
    plastic_envs.ids().clear()
    assert sorted(plastic_envs.ids()) == registered


def test_a_task_can_be_registered_from_outside(monkeypatch):
    monkeypatch.setattr(gym.envs.registration, "registry", dict(gym.registry))
    plastic_envs.register_task("Other/Copy-v3", "plastic_envs.tasks.copy:Copy")
    assert "Other/Copy-v3" in plastic_envs.ids()
    assert make_task("Other/Copy-v3", length=2) == make_task("PlasticCopy-v0", length=2)
    assert gym.make("Other/Copy-v3", length=2).reset()[0].shape == (3,)
    assert gym.make_vec("Other/Copy-v3", num_envs=5).reset()[0].shape == (5, 3)
