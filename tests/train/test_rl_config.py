import json
import math
from dataclasses import asdict, replace
from typing import get_args

import pytest

from agents import Gradient, Hebbian
from agents.rules import RuleSettings
from plastic_envs.tasks import Bandit, CueReward
from train.config import TrainConfig
from train.rl_config import CoreName, PPOConfig, RLConfig, RLNetworkConfig, is_rl_config

CHANGED = RLConfig(
    env="PlasticMaze-v0",
    env_kwargs={"size": 7, "wall_penalty": 0.5},
    previous_action_reward=False,
    network=RLNetworkConfig(
        core="plastic", rule="gradient", cell="lstm", plasticity=RuleSettings(base_eta=0.3)
    ),
    ppo=PPOConfig(n_steps=7, schedule="constant", learning_rate=1),
    start_from="runs/other",
    deterministic=True,
    seed=2**63 - 1,
    threads=2,
)


@pytest.mark.parametrize("config", [RLConfig(), CHANGED])
def test_settings_come_back_from_json(config):
    text = config.to_json()
    assert RLConfig.from_json(text) == config
    assert is_rl_config(json.loads(text))
    assert not is_rl_config(json.loads(TrainConfig().to_json()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "RLConfig has no setting 'colour'"),
        ({"steps": "many"}, "steps must be int, got 'many'"),
        ({"steps": True}, "steps must be int, got True"),
        ({"env_kwargs": [1]}, "env_kwargs must be dict"),
        ({"env_kwargs": {"size": [5]}}, "env_kwargs must be dict"),
        ({"network": {"core": "transformer"}}, "core must be one of 'plastic', 'lstm'"),
        ({"network": 3}, "settings of RLNetworkConfig must be an object, got 3"),
        ({"ppo": {"gamma": 2.0}}, "gamma must be from 0 to 1, got 2.0"),
        ({"kind": "supervised"}, "not the settings of a reinforcement learning run"),
        ({"kind": None}, "not the settings of a reinforcement learning run"),
    ],
)
def test_wrong_settings_in_json_are_named(change, message):
    text = json.dumps(json.loads(RLConfig().to_json()) | change)
    with pytest.raises(ValueError, match=message):
        RLConfig.from_json(text)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", TrainConfig().to_json()])
def test_what_are_no_such_settings_is_refused(text):
    with pytest.raises(ValueError, match=r"Expecting|not the settings"):
        RLConfig.from_json(text)


def test_settings_left_out_of_json_are_the_defaults():
    assert RLConfig.from_json('{"kind": "reinforcement", "seed": 3}') == RLConfig(seed=3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"num_envs": 0}, "num_envs must be at least 1, got 0"),
        ({"eval_every": -1}, "eval_every must be at least 1, got -1"),
        ({"eval_episodes": 1}, "eval_episodes must be at least 2, got 1"),
        ({"seed": -1}, "seed must be from 0"),
        ({"seed": 2**63}, "seed must be from 0"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"num_envs": 3}, "at most num_envs=3 of them, got 4"),
        ({"network": {"hidden_size": 0}}, "hidden_size must be at least 1, got 0"),
        ({"ppo": {"minibatches": 0}}, "minibatches must be at least 1, got 0"),
        ({"ppo": {"n_epochs": 0}}, "n_epochs must be at least 1, got 0"),
        ({"ppo": {"n_steps": 1}}, "n_steps must be at least 2, got 1"),
        ({"ppo": {"learning_rate": 0.0}}, "learning_rate must be above 0, got 0.0"),
        ({"ppo": {"learning_rate": math.nan}}, "learning_rate must be above 0, got nan"),
        ({"ppo": {"clip_range": -0.1}}, "clip_range must be above 0"),
        ({"ppo": {"max_grad_norm": 0.0}}, "max_grad_norm must be above 0"),
        ({"ppo": {"gamma": 1.1}}, "gamma must be from 0 to 1, got 1.1"),
        ({"ppo": {"gae_lambda": math.nan}}, "gae_lambda must be from 0 to 1, got nan"),
        ({"ppo": {"ent_coef": -1.0}}, "ent_coef must be at least 0, got -1.0"),
        ({"ppo": {"vf_coef": math.inf}}, "vf_coef must be at least 0, got inf"),
        ({"env": "PlasticFewShot-v0"}, "previous_action_reward must be off for PlasticFewShot-v0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    parts = {"network": RLNetworkConfig, "ppo": PPOConfig}
    made = {
        name: parts[name](**value) if name in parts else value for name, value in settings.items()
    }
    with pytest.raises(ValueError, match=message):
        RLConfig(**made)


@pytest.mark.parametrize(
    ("env", "kwargs", "n_steps", "expected"),
    [
        ("PlasticBandit-v0", {}, None, 200),  # whole episodes, 128 steps or more
        ("PlasticBandit-v0", {"num_trials": 128}, None, 128),
        ("PlasticBandit-v0", {"num_trials": 129}, None, 129),
        ("PlasticCueReward-v0", {}, None, 140),
        ("PlasticCueReward-v0", {}, 30, 30),
        ("CartPole-v1", {}, None, 128),
    ],
)
def test_rollouts_are_whole_episodes_where_their_length_is_known(env, kwargs, n_steps, expected):
    assert RLConfig(env=env, env_kwargs=kwargs, ppo=PPOConfig(n_steps=n_steps)).n_steps == expected


def test_steps_are_rounded_up_to_whole_rollouts_and_evaluations():
    config = RLConfig(env="CartPole-v1", num_envs=10, steps=9_000, eval_every=3_000)
    assert config.steps_per_rollout == 1_280
    assert config.rollouts_per_evaluation == 3
    assert config.num_evaluations == 3  # 11,520 steps
    exact = replace(config, ppo=PPOConfig(n_steps=100))
    assert (exact.rollouts_per_evaluation, exact.num_evaluations) == (3, 3)


def test_the_step_size_falls_towards_zero_or_stays():
    config = RLConfig(
        env="CartPole-v1", num_envs=10, steps=4_000, eval_every=1_000, ppo=PPOConfig(n_steps=100)
    )
    rates = [config.learning_rate_at(evaluation) for evaluation in range(4)]
    assert rates == pytest.approx([1e-3, 0.75e-3, 0.5e-3, 0.25e-3])
    constant = replace(config, ppo=replace(config.ppo, schedule="constant"))
    assert {constant.learning_rate_at(evaluation) for evaluation in range(4)} == {1e-3}


def test_our_tasks_say_what_is_better_and_other_environments_do_not():
    bandit, cue_reward = RLConfig(env_kwargs={"num_arms": 3}), RLConfig(env="PlasticCueReward-v0")
    assert (bandit.task, bandit.higher_is_better) == (Bandit(num_arms=3), True)
    assert (cue_reward.task, cue_reward.higher_is_better) == (CueReward(), False)
    with_module = RLConfig(env="plastic_envs:PlasticCueReward-v0")
    assert (with_module.task, with_module.higher_is_better) == (CueReward(), False)
    foreign = RLConfig(env="CartPole-v1")
    assert (foreign.task, foreign.higher_is_better) == (None, True)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "PlasticBandit-v0-hebbian-rnn-64-seed0"),
        (
            {"env": "some.module:Other-v3", "network": RLNetworkConfig(core="lstm"), "seed": 4},
            "Other-v3-lstm-64-seed4",
        ),
        (
            {"network": RLNetworkConfig(core="mlp"), "previous_action_reward": False},
            "PlasticBandit-v0-mlp-64-observation-only-seed0",
        ),
    ],
)
def test_a_run_is_named_by_environment_agent_and_seed(settings, name):
    assert RLConfig(**settings).name == name


def test_settings_of_plasticity_reach_the_policy():
    network = RLNetworkConfig(rule="gradient", cell="lstm", plasticity=RuleSettings(base_eta=0.3))
    kwargs = network.policy_kwargs()
    assert isinstance(kwargs["rule"], Gradient)
    assert kwargs["rule"].base_eta == 0.3
    assert (kwargs["cell"], kwargs["core_kwargs"]) == ("lstm", {"extra_dim": 4})
    assert isinstance(RLNetworkConfig().policy_kwargs()["rule"], Hebbian)
    lstm = RLNetworkConfig(core="lstm", hidden_size=9).policy_kwargs()
    assert lstm == {"core": "lstm", "hidden_size": 9}


def test_every_setting_is_written():
    assert json.loads(CHANGED.to_json()) == {"kind": "reinforcement", **asdict(CHANGED)}


def test_the_cores_are_those_of_the_policy():
    from agents.sb3 import cores

    assert get_args(CoreName) == get_args(cores.CoreName)
