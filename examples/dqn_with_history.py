"""Plasticity in an algorithm without a memory: DQN sees the episode so far, through its network."""

import gymnasium as gym
from stable_baselines3 import DQN
from stable_baselines3.common.evaluation import evaluate_policy

import plastic_envs  # noqa: F401 (registers the environments)
from agents.sb3 import PlasticFeaturesExtractor
from plastic_envs.wrappers import History, PreviousActionReward


def main(steps: int = 20_000) -> float:
    """Train (minutes) and return the mean return of an episode."""
    env = History(PreviousActionReward(gym.make("PlasticBandit-v0", num_arms=2, num_trials=10)))
    policy = {
        "features_extractor_class": PlasticFeaturesExtractor,
        "features_extractor_kwargs": {"rule": "gradient", "cell": "rnn", "hidden_size": 32},
        "net_arch": [32],
    }
    settings = {"learning_rate": 1e-3, "gamma": 0.5, "batch_size": 128, "buffer_size": 10_000}
    settings |= {"target_update_interval": 200, "exploration_fraction": 0.5}
    model = DQN("MultiInputPolicy", env, policy_kwargs=policy, seed=0, **settings)
    model.learn(steps)
    score, _ = evaluate_policy(model, env, n_eval_episodes=500, warn=False)
    return float(score)


if __name__ == "__main__":
    print(f"reward of 10 trials: {main():.2f}; pulling arms at random brings 5")
