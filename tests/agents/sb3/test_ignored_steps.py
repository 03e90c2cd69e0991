"""Steps whose action an environment ignores (Gymnasium's mode NEXT_STEP) teach nothing."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize
from torch import nn

from agents.sb3 import RecurrentPPO, VectorEnvAdapter
from agents.sb3.vec_env import IGNORED
from agents.tree import map_tree

NEXT, SAME, DISABLED = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED
LENGTHS = [1, 2, 3, 5, 3]


def still(env):
    return np.zeros((env.num_envs, 1), np.float32)


@pytest.fixture
def make(make_clocks, make_model):
    """Return a function that makes a model on clocks that do not end together."""

    def made(policy_kwargs=None, **kwargs):
        env = make_clocks(LENGTHS, NEXT, native=True)
        return make_model(policy_kwargs or {"hidden_size": 8}, env, **{"n_steps": 17, **kwargs})

    return made


def test_without_them_a_stream_is_that_of_dummy_vec_env(make_clock, make_clocks):
    env = VectorEnvAdapter(make_clocks(LENGTHS, NEXT, native=True), ignored_steps="show")
    functions = [lambda n=n, k=k: Monitor(make_clock(n, k)) for k, n in enumerate(LENGTHS)]
    reference = DummyVecEnv(functions)
    for each in (env, reference):
        each.seed(3)
    shown, expected = [env.reset()], [reference.reset()]
    streams = [[] for _ in LENGTHS]
    for _ in range(30):
        before = shown[-1]
        observations, rewards, dones, infos = env.step(still(env))
        shown.append(observations)
        for k, info in enumerate(infos):
            if info.get(IGNORED):
                assert (rewards[k], dones[k]) == (0, True)
                assert not info["TimeLimit.truncated"]
                assert "episode" not in info
                np.testing.assert_array_equal(before[k], info["terminal_observation"])
                streams[k][-1][3] = observations[k]  # what the next episode starts with
                continue
            info.get("episode", {}).pop("t", None)
            streams[k].append([rewards[k], dones[k], info, observations[k]])
    for t in range(15):
        observations, rewards, dones, infos = reference.step(still(env))
        for k, (reward, done, info, observation) in enumerate(row[t] for row in streams):
            infos[k].get("episode", {}).pop("t", None)
            np.testing.assert_array_equal(observation, observations[k])
            assert (reward, done) == (rewards[k], dones[k])
            assert info.keys() == infos[k].keys() - {"options"}
            assert info.get("episode") == infos[k].get("episode")
            if done:
                np.testing.assert_array_equal(
                    info["terminal_observation"], infos[k]["terminal_observation"]
                )
    assert len(expected) == 1


def doubled(batch):
    """Return a batch in float64."""

    def double(part):
        return part.double() if part.is_floating_point() else part

    parts = {
        name: map_tree(double, part)
        for name, part in batch._asdict().items()
        if part is not None and name != "valid"
    }
    return batch._replace(**parts)


def gradients(model, loss):
    model.policy.zero_grad()
    loss.backward()
    return [part.grad.clone() for part in model.policy.parameters() if part.requires_grad]


def in_float64(model):
    model.policy.double()
    model.policy.extract_features = lambda obs: obs.flatten(1)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("clip_range_vf", [None, 0.1])
def test_loss_and_gradient_are_those_of_the_other_steps(
    make, collect, some_core, normalize, clip_range_vf
):
    """Each environment's sequence, with the ignored steps cut out of it, gives the same."""
    model = make(some_core, normalize_advantage=normalize, ent_coef=0.1, n_epochs=1)
    batch = collect(model)
    in_float64(model)
    batch = doubled(batch)
    valid = batch.valid
    assert 0.1 < (~valid).double().mean() < 0.5
    loss, terms = model._loss(batch, 0.2, clip_range_vf)
    actual = gradients(model, loss)

    joined = {name: [] for name in ("values", "log_prob", "entropy")}
    for k, kept in enumerate(valid):
        values, log_prob, entropy = model.policy.evaluate_actions(
            batch.observations[k : k + 1, kept],
            batch.actions[k : k + 1, kept],
            map_tree(lambda leaf, k=k: leaf[k : k + 1], batch.initial_state),
            batch.episode_starts[k : k + 1, kept],
        )
        for name, part in zip(joined, (values, log_prob, entropy), strict=True):
            joined[name].append(part[0])
    values, log_prob, entropy = (torch.cat(part) for part in joined.values())
    old_values, old_log_prob, advantages, returns = (
        torch.cat([row[kept] for row, kept in zip(part, valid, strict=True)])
        for part in (batch.old_values, batch.old_log_prob, batch.advantages, batch.returns)
    )
    torch.testing.assert_close(values, old_values, rtol=1e-4, atol=1e-5)
    if normalize:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    ratio = (log_prob - old_log_prob).exp()
    gain = torch.min(advantages * ratio, advantages * ratio.clamp(0.8, 1.2)).mean()
    if clip_range_vf is not None:
        values = old_values + (values - old_values).clamp(-clip_range_vf, clip_range_vf)
    error = ((values - returns) ** 2).mean()
    expected = -gain - 0.1 * entropy.mean() + 0.5 * error
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(actual, gradients(model, expected), rtol=1e-9, atol=1e-10)
    assert terms["value_loss"] == pytest.approx(error.item())


def test_advantages_are_those_of_the_other_steps(make, collect):
    model = make(gamma=0.9, gae_lambda=0.7)
    collect(model)
    buffer = model.rollout_buffer
    for k in range(len(LENGTHS)):
        kept = np.flatnonzero(buffer.valid[:, k])
        starts = np.append(buffer.episode_starts[kept, k], 0)
        over = model._last_episode_starts[k] or not buffer.valid[-1, k]
        with torch.no_grad():
            last = model.policy.predict_values(
                torch.as_tensor(model._last_obs), model._last_state, torch.zeros(5) > 0
            )[k].item()
        ahead = 0.0
        for row in reversed(range(len(kept))):
            t, ends = kept[row], bool(starts[row + 1])
            after = buffer.values[kept[row + 1], k] if row + 1 < len(kept) else last
            if row + 1 == len(kept):
                ends = over
            delta = buffer.rewards[t, k] + (0 if ends else 0.9 * after) - buffer.values[t, k]
            ahead = delta + (0 if ends else 0.63 * ahead)
            assert buffer.advantages[t, k] == pytest.approx(ahead, rel=1e-4, abs=1e-5)


def test_nothing_stored_at_them_matters(make, collect, some_core):
    model = make(some_core)
    batch = collect(model)
    in_float64(model)
    batch = doubled(batch)
    lost = ~batch.valid
    reference = gradients(model, model._loss(batch, 0.2, 0.1)[0])
    spoilt = batch._asdict()
    for name in ("old_values", "old_log_prob", "advantages", "returns", "observations", "actions"):
        spoilt[name] = spoilt[name].clone()
        spoilt[name][lost] = 7.0
    loss, _ = model._loss(batch._replace(**spoilt), 0.2, 0.1)
    torch.testing.assert_close(gradients(model, loss), reference, rtol=1e-10, atol=1e-12)


class Statistics(BaseFeaturesExtractor):
    def __init__(self, space):
        super().__init__(space, space.shape[0])
        self.norm = nn.BatchNorm1d(space.shape[0], momentum=1.0)

    def forward(self, observations):
        return self.norm(observations)


def test_statistics_episodes_and_steps_count_the_others_alone(make):
    model = make({"features_extractor_class": Statistics, "hidden_size": 8}, batch_size=17 * 5)
    model.learn(17 * 5)
    buffer = model.rollout_buffer
    seen = buffer.observations[buffer.valid]
    norm = model.policy.features_extractor.norm
    np.testing.assert_allclose(norm.running_mean, seen.mean(axis=0), rtol=1e-5)
    explained = 1 - np.var((buffer.returns - buffer.values)[buffer.valid]) / np.var(
        buffer.returns[buffer.valid]
    )
    logged = model.logger.name_to_value
    assert logged["train/explained_variance"] == pytest.approx(explained, rel=1e-4)
    assert model.num_timesteps == 17 * 5
    counted = {(info["l"], info["r"]) for info in model.ep_info_buffer}
    assert counted == {(n, n * (n + 1) / 2) for n in LENGTHS}
    assert len(model.ep_info_buffer) == sum(-(-(17 - n + 1) // (n + 1)) for n in LENGTHS)
    successes = len(model.ep_success_buffer)
    assert successes == len(model.ep_info_buffer)


def test_minibatches_and_rollouts_without_experience_are_left_out(make, collect):
    model = make(n_steps=4, num_envs=5)
    collect(model, rollouts=1)
    buffer = model.rollout_buffer
    buffer.valid[:, :3] = False
    assert sum(len(batch.actions) for batch in buffer.sequences(1)) == 2
    buffer.valid[:] = False
    before = [parameter.clone() for parameter in model.policy.parameters()]
    model.train()
    torch.testing.assert_close(before, list(model.policy.parameters()))


@pytest.mark.parametrize("wrap", [lambda env: env, VecNormalize, lambda env: VecFrameStack(env, 2)])
def test_an_adapter_shows_them_to_recurrent_ppo_alone(make_clocks, wrap):
    adapter = VectorEnvAdapter(make_clocks(LENGTHS, NEXT, native=True))
    model = RecurrentPPO("PlasticPolicy", wrap(adapter), n_steps=8, n_epochs=1, device="cpu")
    model.learn(80)
    assert not model.rollout_buffer.valid.all()
    assert adapter.ignored_steps == "raise"
    ppo = PPO("MlpPolicy", adapter, n_steps=8, batch_size=8, n_epochs=1, device="cpu")
    with pytest.raises(RuntimeError, match=r"SAME_STEP.*vector_kwargs.*ignored_steps='show'"):
        ppo.learn(40)


def test_evaluation_counts_true_episodes(make, make_clocks):
    model = make()
    env = VectorEnvAdapter(make_clocks(LENGTHS, NEXT, native=True), ignored_steps="show")
    returns, lengths = evaluate_policy(model, env, 25, return_episode_rewards=True)
    assert sorted(lengths) == sorted(LENGTHS * 5)
    assert returns == [n * (n + 1) / 2 for n in lengths]


@pytest.mark.parametrize("native", [True, False])
def test_disabled_resets_what_ended_and_nothing_else(make_clocks, make_model, native):
    envs = [VectorEnvAdapter(make_clocks(LENGTHS, mode, native)) for mode in (DISABLED, SAME)]
    for env in envs:
        env.seed(0)
    np.testing.assert_array_equal(*(env.reset() for env in envs))
    for _ in range(12):
        (left, *results), (right, *others) = (env.step(still(env)) for env in envs)
        np.testing.assert_array_equal(left, right)
        np.testing.assert_array_equal(results[:2], others[:2])
    model = make_model({"hidden_size": 8}, make_clocks(LENGTHS, DISABLED, native), n_steps=8)
    model.learn(80)
    assert model.rollout_buffer.valid.all()


class MaskedInNextStep(gym.vector.VectorWrapper):
    """Somebody else's wrapper with a state, which says that it takes a mask."""

    takes_reset_mask = True


def test_who_says_so_is_reset_by_a_mask(make_clocks):
    env = MaskedInNextStep(make_clocks(LENGTHS, NEXT))
    adapter = VectorEnvAdapter(env)
    adapter.reset()
    for _ in range(9):
        _, _, _, infos = adapter.step(still(adapter))
        assert not any(IGNORED in info for info in infos)
    MaskedInNextStep.takes_reset_mask = False
    try:
        other = VectorEnvAdapter(env)
        other.reset()
        with pytest.raises(RuntimeError, match="SAME_STEP"):
            other.step(still(other))
    finally:
        MaskedInNextStep.takes_reset_mask = True


def test_native_cartpole_in_gymnasiums_default_mode():
    env = gym.make_vec("CartPole-v1", num_envs=4)
    assert env.metadata["autoreset_mode"] is NEXT
    kwargs = {"hidden_size": 8}
    model = RecurrentPPO("PlasticPolicy", env, n_steps=64, n_epochs=1, policy_kwargs=kwargs, seed=0)
    model.learn(512)
    lost = ~model.rollout_buffer.valid
    assert 0 < lost.sum() < 40
    assert (model.rollout_buffer.rewards[~lost] >= 1).all()
    returns, lengths = evaluate_policy(model, model.get_env(), 6, return_episode_rewards=True)
    assert returns == lengths  # a reward of 1 for every step that counts


def test_advice_about_cartpole_is_true():
    kwargs = {"vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": SAME}}
    env = VectorEnvAdapter(gym.make_vec("CartPole-v1", num_envs=2, **kwargs))
    PPO("MlpPolicy", env, n_steps=64, n_epochs=1, batch_size=64, device="cpu").learn(256)
    native = VectorEnvAdapter(gym.make_vec("CartPole-v1", num_envs=2))
    ppo = PPO("MlpPolicy", native, n_steps=64, n_epochs=1, batch_size=64, device="cpu")
    with pytest.raises(RuntimeError, match="SAME_STEP"):
        ppo.learn(512)


@pytest.mark.parametrize("value", ["hide", None, True, 3])
def test_refuses_other_ways(make_clocks, value):
    with pytest.raises(ValueError, match="ignored_steps must be one of 'raise', 'show', got"):
        VectorEnvAdapter(make_clocks([2], SAME), ignored_steps=value)


def test_any_vec_env_may_mark_them():
    class Marking(DummyVecEnv):
        """Ignores every other action, after episodes of one step."""

        def step_wait(self):
            observations, rewards, dones, infos = super().step_wait()
            self.count = getattr(self, "count", 0) + 1
            if self.count % 2 == 0:
                infos[0][IGNORED], rewards[0] = True, 1e9
            return observations, rewards, dones, infos

    class Shows(gym.Env):
        observation_space, action_space = spaces.Box(-1, 1, (1,)), spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            return np.zeros(1, np.float32), {}

        def step(self, action):
            return np.zeros(1, np.float32), 0.0, True, False, {}

    model = RecurrentPPO("PlasticPolicy", Marking([Shows]), n_steps=16, n_epochs=1, seed=0)
    model.learn(16)
    assert model.rollout_buffer.valid.sum() == 8
    assert model.logger.name_to_value["train/value_loss"] < 100
