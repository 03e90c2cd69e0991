"""What RecurrentPPO computes equals what is computed another way."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback

import plastic_envs  # noqa: F401
from agents.tree import leaves, map_tree

ACTIONS = {
    "box": spaces.Box(-1, 1, (2,), np.float32),
    "discrete": spaces.Discrete(4),
    "multi-discrete": spaces.MultiDiscrete([3, 2]),
    "multi-binary": spaces.MultiBinary(3),
}
DICT = spaces.Dict(
    where=spaces.Box(-1, 1, (3,), np.float32),
    which=spaces.Discrete(4),
    grid=spaces.Box(-1, 1, (2, 2), np.float64),
)
LABELLED = spaces.Dict(
    image=spaces.Box(0, 255, (16, 16, 1), np.uint8), label=spaces.Box(-1, 1, (3,), np.float32)
)
OBSERVATIONS = {
    "box": spaces.Box(-5, 5, (2, 3), np.float64),
    "discrete": spaces.Discrete(5),
    "dict": DICT,
    "labelled": LABELLED,
    "image": spaces.Box(0, 255, (36, 36, 3), np.uint8),
}


def evaluate(model, batch):
    return model.policy.evaluate_actions(
        batch.observations, batch.actions, batch.initial_state, batch.episode_starts
    )


def assert_first_pass_is_the_same(model, collect):
    """The second rollout begins inside episodes, with a state that is not zero."""
    batch = collect(model)
    state = list(leaves(batch.initial_state))
    assert any(leaf.any() for leaf in state) or not state
    assert 0 < batch.episode_starts.float().mean() < 1
    model.policy.set_training_mode(True)
    values, log_prob, entropy = evaluate(model, batch)
    ratio = (log_prob - batch.old_log_prob).exp()
    torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=0, atol=1e-5)
    torch.testing.assert_close(values, batch.old_values, rtol=1e-4, atol=1e-5)
    assert entropy.shape == ratio.shape


def test_ratio_is_one_with_every_core(make_model, collect, core):
    assert_first_pass_is_the_same(make_model(core), collect)


@pytest.mark.parametrize("actions", ACTIONS)
def test_ratio_is_one_with_every_action_space(make_model, collect, some_core, actions):
    model = make_model(some_core, env_kwargs={"action_space": ACTIONS[actions]})
    assert_first_pass_is_the_same(model, collect)


@pytest.mark.parametrize("observations", OBSERVATIONS)
def test_ratio_is_one_with_every_observation_space(make_model, collect, some_core, observations):
    """Batch statistics have moved between the two rollouts."""
    model = make_model(
        some_core,
        env_kwargs={"observation_space": OBSERVATIONS[observations]},
        n_steps=12,
        learning_rate=1e-4,
    )
    before = [buffer.clone() for buffer in model.policy.features_extractor.buffers()]
    assert_first_pass_is_the_same(model, collect)
    after = list(model.policy.features_extractor.buffers())
    assert model.policy.has_statistics == (observations == "labelled")
    assert any(not torch.equal(*pair) for pair in zip(before, after, strict=True)) == (
        observations == "labelled"
    )


def test_gradient_of_two_steps_by_hand(make_model, collect):
    """One unit, one environment, two steps: h' = tanh(w x + u h + b), linear heads."""

    class Bandit(gym.Env):
        observation_space = spaces.Box(-2, 2, (1,), np.float32)
        action_space = spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            self.time = 0
            return np.array([0.7], np.float32), {}

        def step(self, action):
            self.time += 1
            reward = [1.5, -0.5][action] * self.time
            return np.array([-1.2], np.float32), reward, self.time == 2, False, {}

    policy_kwargs = {"core": "rnn", "hidden_size": 1, "net_arch": []}
    model = make_model(
        policy_kwargs, Bandit(), n_steps=2, normalize_advantage=False, gamma=0.9, vf_coef=0.3
    )
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.uniform_(-0.8, 0.8)
    batch = collect(model, rollouts=1)
    policy, rnn = model.policy, model.policy.core.module
    loss, _ = model._loss(batch, 0.2, None)
    loss.backward()

    def number(tensor):
        return tensor.detach().double().numpy()

    w, u = number(rnn.weight_ih_l0).item(), number(rnn.weight_hh_l0).item()
    b = number(rnn.bias_ih_l0 + rnn.bias_hh_l0).item()
    actor, actor_bias = number(policy.action_net.weight)[:, 0], number(policy.action_net.bias)
    critic, critic_bias = number(policy.value_net.weight).item(), number(policy.value_net.bias)
    x, rewards = [0.7, -1.2], model.rollout_buffer.rewards[:, 0].astype(float)
    h = [np.tanh(w * x[0] + b)]
    h.append(np.tanh(w * x[1] + u * h[0] + b))
    v = [critic * unit + critic_bias.item() for unit in h]
    delta = [rewards[0] + 0.9 * v[1] - v[0], rewards[1] - v[1]]
    advantage = [delta[0] + 0.9 * 0.95 * delta[1], delta[1]]
    taken = number(batch.actions)[0].astype(int)
    d_h, d_actor = [], np.zeros(2)
    for t in range(2):
        logits = actor * h[t] + actor_bias
        p = np.exp(logits) / np.exp(logits).sum()
        d_logits = -advantage[t] / 2 * (np.eye(2)[taken[t]] - p)
        d_v = 0.3 * (-advantage[t])  # its target is v + advantage: 2 (v - target) / 2
        d_h.append(actor @ d_logits + critic * d_v)
        d_actor += d_logits * h[t]
    d_z1 = d_h[1] * (1 - h[1] ** 2)
    d_z0 = (d_h[0] + u * d_z1) * (1 - h[0] ** 2)
    np.testing.assert_allclose(number(rnn.weight_hh_l0.grad).item(), d_z1 * h[0], rtol=1e-4)
    np.testing.assert_allclose(
        number(rnn.weight_ih_l0.grad).item(), d_z0 * x[0] + d_z1 * x[1], rtol=1e-4
    )
    np.testing.assert_allclose(number(rnn.bias_hh_l0.grad).item(), d_z0 + d_z1, rtol=1e-4)
    np.testing.assert_allclose(number(policy.action_net.weight.grad)[:, 0], d_actor, rtol=1e-4)


def test_lstm_equals_a_plain_loop(make_model, collect):
    model = make_model({"core": "lstm", "hidden_size": 16})
    batch = collect(model)
    policy, lstm = model.policy, model.policy.core.module
    expected = torch.empty_like(batch.old_log_prob)
    with torch.no_grad():
        for k in range(model.n_envs):
            h, c = (leaf[k][:, None] for leaf in batch.initial_state)
            for t in range(model.n_steps):
                if batch.episode_starts[k, t]:
                    h, c = torch.zeros_like(h), torch.zeros_like(c)
                y, (h, c) = lstm(batch.observations[k, t].view(1, 1, -1), (h, c))
                latent = policy.mlp_extractor.policy_net(y.view(1, -1))
                logits = policy.action_net(latent).log_softmax(1)
                expected[k, t] = logits[0, batch.actions[k, t]]
        _, log_prob, _ = evaluate(model, batch)
    torch.testing.assert_close(batch.old_log_prob, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(log_prob, expected, rtol=0, atol=1e-5)


def test_gradients_reach_the_episode_start_and_no_further(make_model, collect, core):
    model = make_model(core)
    batch = collect(model)
    starts = batch.episode_starts
    observations = batch.observations.requires_grad_()
    k = next(k for k in range(4) if starts[k, 3:-1].any())
    start = 3 + int(starts[k, 3:-1].nonzero()[-1])
    batch = batch._replace(observations=observations)
    values, _, _ = evaluate(model, batch)
    (gradient,) = torch.autograd.grad(values[k, -1], observations)
    assert gradient[k, -1].any()
    assert gradient[k, start:-1].any(dim=1).all() == (core.get("core") != "mlp")
    gradient[k, start:] = 0
    assert gradient.abs().max() < 1e-10  # not 0: sums of log γ cancel up to rounding


class Watch(BaseCallback):
    """Notes what the environments showed."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def _on_step(self):
        self.steps.append({name: self.locals[name] for name in ("rewards", "dones", "infos")})
        return True


def test_advantages_by_their_definition(make_model, some_core):
    """With the value of the last observation, seen with the memory of that moment, at a limit."""
    gamma, lam = 0.9, 0.8
    model = make_model(some_core, gamma=gamma, gae_lambda=lam)
    watch = Watch()
    model.train = lambda: None
    model.learn(2 * model.n_steps * model.n_envs, callback=watch)
    batch = next(model.rollout_buffer.sequences())
    shown = watch.steps[-model.n_steps :]
    order = [
        next(k for k in range(4) if np.allclose(model.rollout_buffer.values[:, k], row))
        for row in batch.old_values.numpy()
    ]
    limits = 0
    for row, k in enumerate(order):

        def value_after(t, observation, row=row):
            """Run over everything before, in an episode that goes on, then look."""
            seen = batch.observations[row : row + 1, : t + 1]
            x = torch.cat([seen, torch.as_tensor(observation).view(1, 1, -1)], dim=1)
            starts = torch.cat(
                [batch.episode_starts[row : row + 1, : t + 1], torch.zeros(1, 1) > 0], 1
            )
            state = map_tree(lambda leaf: leaf[row : row + 1], batch.initial_state)
            actions = torch.zeros(1, t + 2, dtype=torch.long)
            with torch.no_grad():
                values, _, _ = model.policy.evaluate_actions(x, actions, state, starts)
            return values[0, -1].item()

        expected = np.zeros(model.n_steps)
        ahead = 0.0
        for t in reversed(range(model.n_steps)):
            step = shown[t]
            if step["dones"][k]:
                ahead, after = 0.0, 0.0
                if step["infos"][k]["TimeLimit.truncated"]:
                    after = value_after(t, step["infos"][k]["terminal_observation"])
                    limits += 1
            elif t == model.n_steps - 1:
                after = value_after(t, model._last_obs[k])
            else:
                after = batch.old_values[row, t + 1].item()
            delta = step["rewards"][k] + gamma * after - batch.old_values[row, t].item()
            ahead = delta + gamma * lam * ahead
            expected[t] = ahead
        np.testing.assert_allclose(batch.advantages[row], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            batch.returns[row], expected + batch.old_values[row].numpy(), rtol=1e-4, atol=1e-5
        )
    assert limits > 2


@pytest.mark.parametrize("policy", [{"rule": "gradient", "cell": "lstm"}, {"core": "lstm"}])
def test_rollout_storage_is_small(make_model, collect, policy):
    policy = {"hidden_size": 128, **policy}
    model = make_model(policy, num_envs=16, n_steps=128, n_epochs=1)
    collect(model, rollouts=1)
    buffer = model.rollout_buffer
    assert buffer.nbytes() < 50e6
    assert sum(leaf.nbytes for leaf in leaves(buffer.initial_state)) < buffer.nbytes()


def test_minibatches_are_whole_environments(make_model, collect):
    model = make_model({"core": "gru"}, num_envs=5, batch_size=48)
    collect(model, rollouts=1)
    sizes, seen = [], []
    for batch in model.rollout_buffer.sequences(model.envs_per_batch):
        sizes.append(len(batch.actions))
        assert batch.actions.shape[1] == batch.observations.shape[1] == 24
        seen += batch.old_values.tolist()
    assert sizes == [2, 2, 1]
    stored = model.rollout_buffer.values.T.tolist()
    assert sorted(seen) == sorted(stored)
