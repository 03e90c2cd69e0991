"""The few-shot task in Gymnasium: answers, infos, images shared by environments and processes."""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest

from plastic_envs import TaskEnv, TaskVectorEnv, make_task
from plastic_envs.images import Glyphs, load_images
from plastic_envs.spaces import at
from plastic_envs.tasks import FewShot
from tests.plastic_envs.players import same

THOUSAND = 1000


@pytest.mark.parametrize("actions", [[0, 5], [-1, 0], [0.0, 1.0], [True, False], [0], [[0, 1]], 0])
def test_what_are_no_labels_are_no_actions(image_source, actions):
    envs = TaskVectorEnv(FewShot(source=image_source), num_envs=2)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"action must (have shape \(2,\)|be an integer)"):
        envs.step(actions)


@pytest.mark.parametrize("integer", [int, np.int64, np.int32, np.uint8, np.array])
def test_any_integer_is_a_label_and_the_right_one_brings_1_at_queries(image_source, integer):
    task = FewShot(3, 1, 4, source=image_source)
    targets = task.sample_episodes(1, seed=1).targets[0]
    env = TaskEnv(task)
    env.reset(seed=1)
    for step, target in enumerate(targets):
        answer = target if step != 4 else (target + 1) % 3
        _, reward, terminated, _, info = env.step(integer(answer))
        assert type(reward) is float
        assert reward == (1 if step in (3, 5, 6) else 0)
        assert info["target"] == target
        assert info["scored"] == (step >= 3)
        assert terminated is (step == 6)


def test_images_are_shared_by_all_environments():
    task = make_task("PlasticFewShot-v0", split="test")
    envs = [gym.make("PlasticFewShot-v0", split="test").unwrapped for _ in range(3)]
    envs += [TaskEnv(FewShot(split="test")) for _ in range(THOUSAND)]
    images = load_images(Glyphs(), "test").images
    assert all(env.task.images.images is images for env in envs)
    assert all(env.task.images is task.images for env in envs)
    assert not images.flags.writeable


def test_copies_leave_the_images_behind():
    env = gym.make("PlasticFewShot-v0", split="test").unwrapped
    images = load_images(Glyphs(), "test").images
    env.reset(seed=0)
    shown = env.task.num_steps * images[0].nbytes
    assert len(pickle.dumps(env)) < shown + 10_000 < images.nbytes / 100
    assert len(pickle.dumps(env.task)) < 1000
    assert copy.deepcopy(env).task.images.images is images
    assert pickle.loads(pickle.dumps(env)).task.images.images is images


def test_a_source_of_the_users_own_goes_through_gymnasium(image_source):
    kwargs = {"source": image_source, "n_way": 3}
    env = gym.make("PlasticFewShot-v0", **kwargs)
    envs = gym.make_vec("PlasticFewShot-v0", num_envs=4, **kwargs)
    images = load_images(image_source, "train").images
    for made in (env, envs, gym.make(env.spec), gym.make_vec(envs.spec)):
        assert made.unwrapped.task.images.images is images
    expected = make_task("PlasticFewShot-v0", **kwargs).sample_episodes(4, seed=1).observations
    assert same(env.reset(seed=1)[0], at(expected, (0, 0)))
    assert same(envs.reset(seed=1)[0], at(expected, (slice(None), 0)))


@pytest.mark.parametrize("own", [False, True], ids=["glyphs", "arrays"])
def test_processes_can_share_the_work(image_source, own):
    kwargs = {"source": image_source} if own else {"split": "test"}
    task = make_task("PlasticFewShot-v0", **kwargs)
    episodes = [task.sample_episodes(1, seed=seed) for seed in (3, 4)]
    envs = gym.make_vec("PlasticFewShot-v0", num_envs=2, vectorization_mode="async", **kwargs)
    try:
        observations, _ = envs.reset(seed=3)
        for t in range(task.num_steps):
            for k, episode in enumerate(episodes):
                assert same(at(observations, k), at(episode.observations, (0, t)))
            right = np.array([episode.targets[0, t] for episode in episodes])
            observations, rewards, terminated, _, infos = envs.step(right)
            np.testing.assert_array_equal(rewards, [float(t >= 5)] * 2)
            np.testing.assert_array_equal(infos["target"], right)
        assert terminated.all()
    finally:
        envs.close()
