"""RecurrentPPO on other people's vector environments, as they come."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.wrappers import FilterObservation
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy

import plastic_envs  # noqa: F401
from agents.sb3 import DictExtractor, RecurrentPPO, VectorEnvAdapter

pytestmark = pytest.mark.slow
NEXT, SAME = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP


def learn(env, steps, **kwargs):
    settings = {"n_steps": 64, "n_epochs": 2, "seed": 0, "device": "cpu", **kwargs}
    policy = settings.pop("policy", {"hidden_size": 16})
    model = RecurrentPPO("PlasticPolicy", env, policy_kwargs=policy, **settings)
    return model.learn(steps)


def test_native_cartpole_is_learned():
    env = gym.make_vec("CartPole-v1", num_envs=8)
    policy = {"core": "gru", "hidden_size": 32}
    model = learn(
        env, 60_000, policy=policy, n_steps=128, n_epochs=10, learning_rate=1e-3, vf_coef=0.005
    )
    test = VectorEnvAdapter(gym.make_vec("CartPole-v1", num_envs=8), ignored_steps="show")
    returns, lengths = evaluate_policy(model, test, 16, return_episode_rewards=True)
    assert returns == lengths
    assert np.mean(returns) > 100


@pytest.mark.parametrize("shared_memory", [True, False])
@pytest.mark.parametrize("mode", AutoresetMode)
def test_async_vector_env(shared_memory, mode):
    functions = [lambda: gym.make("CartPole-v1")] * 3
    env = AsyncVectorEnv(functions, shared_memory=shared_memory, autoreset_mode=mode)
    try:
        model = learn(env, 1_200)
        ignores = mode is NEXT and not shared_memory
        assert model.rollout_buffer.valid.all() != ignores
        returns, lengths = evaluate_policy(model, model.get_env(), 6, return_episode_rewards=True)
        assert returns == lengths
    finally:
        env.close()


def test_async_vector_env_equals_sync():
    """With shared memory, which the environments write into again and again."""
    rollouts = []
    for vectorization_mode in ("sync", "async"):
        kwargs = {"autoreset_mode": SAME} | (
            {"copy": False} if vectorization_mode == "async" else {}
        )
        env = gym.make_vec(
            "CartPole-v1", 3, vectorization_mode=vectorization_mode, vector_kwargs=kwargs
        )
        model = learn(env, 600)
        rollouts.append([model.rollout_buffer.observations, model.rollout_buffer.returns])
        env.close()
    np.testing.assert_array_equal(rollouts[0][0], rollouts[1][0])
    np.testing.assert_array_equal(rollouts[0][1], rollouts[1][1])


def test_advice_for_stable_baselines_with_processes():
    kwargs = {"vectorization_mode": "async", "vector_kwargs": {"autoreset_mode": SAME}}
    env = VectorEnvAdapter(gym.make_vec("CartPole-v1", num_envs=2, **kwargs))
    model = PPO("MlpPolicy", env, n_steps=64, batch_size=64, n_epochs=1, device="cpu").learn(256)
    env.close()
    assert model.num_timesteps == 256
    assert len(model.ep_info_buffer) > 0


def test_minigrid():
    pytest.importorskip("minigrid", reason="needs the package minigrid")
    import minigrid  # noqa: F401

    with pytest.raises(
        ValueError, match=r"observation_space\['mission'\] must .*FilterObservation"
    ):
        RecurrentPPO("PlasticPolicy", gym.make("MiniGrid-MemoryS7-v0"))

    def without_mission():
        env = gym.make("MiniGrid-MemoryS7-v0", max_steps=30)
        return FilterObservation(env, ["image", "direction"])

    env = gym.vector.SyncVectorEnv([without_mission] * 4)
    assert env.metadata["autoreset_mode"] is NEXT
    model = learn(env, 2_000)
    assert isinstance(model.policy.features_extractor, DictExtractor)
    assert model.rollout_buffer.observations["image"].shape[2:] == (3, 7, 7)
    assert model.ep_info_buffer
    single = learn(without_mission(), 200)
    observation, _ = without_mission().reset(seed=0)
    action, _ = single.predict(observation)
    assert env.single_action_space.contains(action)


@pytest.mark.parametrize("mode", [NEXT, SAME])
def test_atari_vector_env(mode):
    vector_env = pytest.importorskip("ale_py.vector_env", reason="needs the package ale-py")

    def make(num_envs):
        return vector_env.AtariVectorEnv(
            "breakout", num_envs=num_envs, episodic_life=True, autoreset_mode=mode
        )

    env = make(3)
    policy = {"hidden_size": 32, "core": "gru"}
    model = learn(env, 800, policy=policy, n_epochs=1)
    assert env.single_observation_space == spaces.Box(0, 255, (4, 84, 84), np.uint8)
    assert model.ep_info_buffer
    assert model.rollout_buffer.valid.all() == (mode is SAME)
    adapter = VectorEnvAdapter(make(2))
    algorithm = PPO("CnnPolicy", adapter, n_steps=64, batch_size=64, n_epochs=1, device="cpu")
    if mode is SAME:
        algorithm.learn(256)
    else:
        with pytest.raises(RuntimeError, match=r"autoreset_mode.*SAME_STEP"):
            algorithm.learn(2_000)


def test_few_shot_images_in_stable_baselines():
    env = VectorEnvAdapter(gym.make_vec("PlasticFewShot-v0", num_envs=4))
    kwargs = {"features_extractor_class": DictExtractor}
    model = PPO(
        "MultiInputPolicy", env, n_steps=25, batch_size=50, n_epochs=1, policy_kwargs=kwargs
    )
    model.learn(200)
    assert model.ep_info_buffer
