"""RecurrentPPO behaves as users of Stable-Baselines3 expect."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

import plastic_envs  # noqa: F401
from agents import Hebbian
from agents.sb3.policies import PlasticPolicy
from agents.sb3.ppo import RecurrentPPO
from agents.sb3.vec_env import VectorEnvAdapter
from agents.tree import leaves, map_tree


def parameters(model):
    return torch.cat([p.detach().flatten() for p in model.policy.parameters()])


def play(model, env, steps=20):
    """Return the actions of an agent, through `predict` alone."""
    env.seed(5)
    observations, state = env.reset(), None
    starts, actions = np.ones(env.num_envs, bool), []
    for _ in range(steps):
        action, state = model.predict(observations, state, starts, deterministic=True)
        observations, _, starts, _ = env.step(action)
        actions.append(action)
    return np.array(actions)


def test_same_seed_same_run(make_model, some_core):
    runs = [parameters(make_model(some_core, seed=seed).learn(192)) for seed in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_save_load_and_go_on(make_model, make_wander, some_core, tmp_path):
    model = make_model(some_core).learn(192)
    model.save(tmp_path / "model")
    loaded = RecurrentPPO.load(tmp_path / "model", env=make_wander())
    assert torch.equal(parameters(loaded), parameters(model))
    env = VectorEnvAdapter(make_wander())
    np.testing.assert_array_equal(play(loaded, env), play(model, env))
    states = [found.policy.optimizer.state_dict()["state"] for found in (model, loaded)]
    torch.testing.assert_close(states[0], states[1])
    loaded.learn(192, reset_num_timesteps=False)
    assert loaded.num_timesteps == 384
    assert not torch.equal(parameters(loaded), parameters(model))

    more = RecurrentPPO.load(tmp_path / "model", env=make_wander(6))
    more.learn(144)
    alone = RecurrentPPO.load(tmp_path / "model")
    np.testing.assert_array_equal(play(alone, env), play(model, env))


def test_policy_saves_and_loads_alone(make_model, make_wander, some_core, tmp_path):
    model = make_model(some_core)
    model.policy.save(tmp_path / "policy")
    policy = PlasticPolicy.load(tmp_path / "policy", device="cpu")
    env = VectorEnvAdapter(make_wander())
    np.testing.assert_array_equal(play(policy, env), play(model, env))


def test_predict_equals_the_policy_and_takes_arrays_or_tensors(make_model, core):
    model = make_model(core)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(6, 4, 3)).astype(np.float32)
    starts = generator.random((6, 4)) < 0.3
    state, tensors, reference = None, None, model.policy.initial_state(4)
    for t in range(6):
        actions, state = model.predict(x[t], state, starts[t], deterministic=True)
        others, tensors = model.predict(x[t], tensors, starts[t], deterministic=True)
        with torch.no_grad():
            expected, _, _, reference = model.policy(
                torch.as_tensor(x[t]), reference, torch.as_tensor(starts[t]), deterministic=True
            )
        np.testing.assert_array_equal(actions, expected)
        np.testing.assert_array_equal(others, expected)
        assert type(state) is type(reference)
        for leaf, other in zip(leaves(state), leaves(reference), strict=True):
            assert isinstance(leaf, np.ndarray)
            np.testing.assert_array_equal(leaf, other)
        tensors = map_tree(torch.as_tensor, tensors)


def test_predict_forgets_where_an_episode_starts(make_model, some_memory):
    model = make_model(some_memory)
    x = np.ones((4, 3), np.float32)
    _, state = model.predict(x)
    _, again = model.predict(x, state, np.array([True, False, True, False]))
    _, fresh = model.predict(x)
    for a, b in zip(leaves(again), leaves(fresh), strict=True):
        np.testing.assert_allclose(a[[0, 2]], b[[0, 2]], atol=1e-6)
    assert any(
        not np.allclose(a[1], b[1]) for a, b in zip(leaves(again), leaves(fresh), strict=True)
    )


def test_predict_a_single_observation(make_model, make_clock):
    env = make_clock()
    model = make_model({"hidden_size": 8}, env, n_steps=8)
    observation, _ = env.reset()
    action, state = model.predict(observation)
    assert action.shape == (1,)
    assert env.action_space.contains(action)
    action, _ = model.predict(observation, state, episode_start=np.array([False]))
    assert action.shape == (1,)
    with pytest.raises(ValueError, match="tuple"):
        model.predict(env.reset())


def test_evaluate_policy_and_callbacks(make_model, make_wander, some_core, tmp_path):
    model = make_model(some_core)
    env = VectorEnvAdapter(make_wander(3))
    callback = EvalCallback(env, eval_freq=10, n_eval_episodes=3, verbose=0, log_path=str(tmp_path))
    model.learn(192, callback=callback)
    assert np.isfinite(callback.last_mean_reward)
    rewards, lengths = evaluate_policy(model, env, 6, return_episode_rewards=True)
    assert len(rewards) == 6
    assert all(2 <= length <= 9 for length in lengths)


def test_a_callback_can_end_training(make_model):
    model = make_model()
    model.learn(1000, callback=lambda found, _: found["self"].num_timesteps < 40)
    assert model.num_timesteps == 40


def test_logs_as_ppo_does(make_wander, tmp_path):
    def keys(model):
        model.learn(192)
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        (folder,) = tmp_path.glob(f"{type(model).__name__}_1")
        events = EventAccumulator(str(folder)).Reload()
        return set(events.Tags()["scalars"])

    kwargs = {
        "n_steps": 24,
        "clip_range_vf": 0.3,
        "tensorboard_log": str(tmp_path),
        "device": "cpu",
    }
    actions = {"action_space": spaces.Box(-1, 1, (1,), np.float32)}
    ours = RecurrentPPO("PlasticPolicy", make_wander(**actions), **kwargs)
    theirs = PPO("MlpPolicy", VectorEnvAdapter(make_wander(**actions)), batch_size=48, **kwargs)
    assert keys(ours) == keys(theirs) | {"train/skipped_minibatches"}


@pytest.mark.parametrize(
    "make_env",
    [
        lambda: "CartPole-v1",
        lambda: gym.make("CartPole-v1"),
        lambda: gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync"),
        lambda: VecNormalize(
            VectorEnvAdapter(gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync"))
        ),
        lambda: gym.make_vec("PlasticFewShot-v0", num_envs=3, n_way=3, n_query=2),
    ],
    ids=["id", "single", "vector", "normalised", "few-shot"],
)
def test_takes_environments_of_all_kinds(make_env):
    policy_kwargs = {"hidden_size": 16}
    env = make_env()
    model = RecurrentPPO("PlasticPolicy", env, n_steps=10, n_epochs=1, policy_kwargs=policy_kwargs)
    model.learn(20)
    assert model.num_timesteps == 10 * model.n_envs * -(-20 // (10 * model.n_envs))
    returns, lengths = evaluate_policy(model, model.get_env(), 2, return_episode_rewards=True)
    assert len(returns) == 2
    assert np.isfinite(returns).all()
    assert min(lengths) > 0


def test_predicts_from_images_as_the_environment_shows_them():
    env = Monitor(gym.make("PlasticFewShot-v0", n_way=3, n_query=2))
    model = RecurrentPPO("PlasticPolicy", env, n_steps=10, policy_kwargs={"hidden_size": 16})
    returns, lengths = evaluate_policy(model, env, 2, return_episode_rewards=True)
    assert lengths == [5, 5]  # three images with their label, two without
    assert all(answers in (0, 1, 2) for answers in returns)


def test_update_stops_when_the_policy_has_moved(make_model):
    still = make_model(n_epochs=5, target_kl=1e-12, learning_rate=1e-2).learn(96)
    moving = make_model(n_epochs=5, target_kl=None, learning_rate=1e-2).learn(96)
    assert (still._n_updates, moving._n_updates) == (1, 5)


def broken(numbers):
    """Return a hook that makes a gradient infinite in the calls of these numbers."""
    calls = iter(range(1_000))
    return lambda gradient: gradient * torch.inf if next(calls) in numbers else gradient


def test_a_minibatch_without_a_finite_gradient_changes_nothing_and_is_counted(make_model):
    model = make_model({"core": "gru"}, n_epochs=3)  # of four minibatches each
    model.policy.value_net.bias.register_hook(broken({0, 5, 6}))
    steps = []
    model.policy.optimizer.register_step_post_hook(lambda *_: steps.append(parameters(model)))
    model.learn(96)
    assert len(steps) == 9
    assert all(found.isfinite().all() for found in steps)
    assert model.logger.name_to_value["train/skipped_minibatches"] == 3


def test_no_minibatch_is_skipped_without_need(make_model):
    model = make_model().learn(192)
    assert model.logger.name_to_value["train/skipped_minibatches"] == 0


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_an_update_without_any_finite_gradient_ends_the_training(make_model, value):
    model = make_model({"core": "mlp"})
    model.policy.value_net.bias.register_hook(lambda gradient: gradient * value)
    before = parameters(model)
    with pytest.raises(RuntimeError, match="after 96 steps is finite; a smaller learning rate"):
        model.learn(192)
    assert torch.equal(parameters(model), before)


def test_settings_reach_the_core(make_model):
    rule = Hebbian(base_eta=0.3)
    kwargs = {"hidden_size": 12, "rule": rule, "cell": "lstm", "output_size": 7}
    core = make_model({**kwargs, "core_kwargs": {"extra_dim": 2}}).policy.core
    assert (core.rule, core.hidden_size, core.output_size, core.extra_dim) == (rule, 12, 7, 2)
    schedules = {"clip_range": lambda progress: 0.1 * progress, "learning_rate": lambda _: 1e-3}
    make_model({"core": "gru"}, **schedules).learn(96)


@pytest.mark.parametrize(
    ("kwargs", "problem"),
    [
        ({"batch_size": 30}, "multiple of n_steps=24"),
        ({"clip_range_vf": 0.0}, "clip_range_vf must be a finite number above 0"),
        ({"n_steps": 1, "num_envs": 1}, "more than one step"),
        ({"policy_kwargs": {"use_sde": True}}, "multiple values|use_sde"),
        ({"policy_kwargs": {"share_features_extractor": False}}, "one core"),
        ({"policy_kwargs": {"core": "transformer"}}, "core must be one of"),
        ({"policy_kwargs": {"core": "lstm", "rule": "hebbian"}}, "core lstm has no option 'rule'"),
        ({"policy_kwargs": {"core": lambda i: nn.Linear(i, 2)}}, "must make a Core"),
        ({"policy_kwargs": {"rule": "ojas"}}, "rule must be one of"),
    ],
)
def test_refuses(make_model, kwargs, problem):
    with pytest.raises((ValueError, TypeError), match=problem):
        make_model(**kwargs)


def test_refuses_other_policies_and_incomplete_rollouts(make_wander, make_model):
    from stable_baselines3.common.policies import ActorCriticPolicy

    with pytest.raises(ValueError, match="PlasticPolicy"):
        RecurrentPPO(ActorCriticPolicy, make_wander())
    model = make_model()
    with pytest.raises(RuntimeError, match="0 of 24 steps"):
        next(model.rollout_buffer.sequences())


class Recall(gym.Env):
    """A sign is shown once; the last of four actions must name it. Chance is 0.5."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.sign = 0, int(self.np_random.integers(2))
        return np.array([2 * self.sign - 1, 0], np.float32), {}

    def step(self, action):
        self.time += 1
        over = self.time == 4
        reward = float(over and action == self.sign)
        return np.array([0, self.time == 3], np.float32), reward, over, False, {}


@pytest.mark.slow
@pytest.mark.parametrize(
    "policy", [{"rule": "gradient"}, {"rule": "hebbian", "cell": "lstm"}, {"core": "lstm"}]
)
def test_learns_to_remember(policy):
    env = gym.vector.SyncVectorEnv([Recall] * 16, autoreset_mode="SameStep")
    policy_kwargs = {"hidden_size": 32, **policy}
    model = RecurrentPPO(
        "PlasticPolicy", env, 1e-3, n_steps=32, policy_kwargs=policy_kwargs, seed=0, device="cpu"
    )
    model.learn(60_000)
    mean, _ = evaluate_policy(model, VectorEnvAdapter(env), 200)
    assert mean > 0.95
