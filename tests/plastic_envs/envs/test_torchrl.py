"""TorchRL takes the environments as they are: single ones by id, native vector ones."""

import gymnasium as gym
import numpy as np
import pytest

import plastic_envs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # its own
]
every_id = pytest.mark.parametrize("env_id", plastic_envs.ids())


@pytest.fixture(scope="module")
def envs():
    return pytest.importorskip("torchrl.envs", reason="torchrl is not installed")


@every_id
def test_gym_env_by_id(envs, env_id):
    env = envs.GymEnv(env_id)
    envs.check_env_specs(env)
    task = plastic_envs.make_task(env_id)
    played = env.rollout(2 * task.num_steps)
    assert played.shape == (task.num_steps,)
    assert played["next", "terminated"].flatten().tolist()[-1]


@every_id
def test_infos_are_read(envs, env_id):
    env = envs.GymEnv(env_id)
    env.auto_register_info_dict()
    envs.check_env_specs(env)
    assert env.rollout(2)["next", "scored"].shape == (2,)


@pytest.mark.parametrize("mode", ["Disabled", "SameStep"])
@every_id
def test_gym_wrapper_of_a_native_vector_environment(envs, env_id, mode):
    inner = gym.make_vec(env_id, num_envs=3, autoreset_mode=mode)
    env = envs.GymWrapper(inner)
    envs.check_env_specs(env)
    steps = inner.unwrapped.task.num_steps
    played = env.rollout(2 * steps + 1, break_when_any_done=False)
    ended = played["next", "terminated"].squeeze(-1).numpy()
    assert ended.shape == (3, 2 * steps + 1)
    np.testing.assert_array_equal(np.flatnonzero(ended[0]), [steps - 1, 2 * steps - 1])
