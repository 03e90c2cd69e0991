"""A plastic agent learns to find its way in a maze, and to remember where the reward is."""

import gymnasium as gym
from stable_baselines3.common.evaluation import evaluate_policy

import plastic_envs  # noqa: F401 (registers the environments)
from agents.sb3 import RecurrentPPO, VectorEnvAdapter
from plastic_envs.wrappers import VectorPreviousActionReward


def main(steps: int = 1_000_000) -> float:
    """Train (minutes) and return the mean return of an episode."""
    make = {"id": "PlasticMaze-v0", "num_envs": 64, "size": 7, "episode_length": 100}
    env = VectorPreviousActionReward(gym.make_vec(**make))
    settings = {"n_steps": 100, "n_epochs": 4, "gamma": 0.95, "ent_coef": 0.02, "vf_coef": 0.005}
    policy = {"rule": "hebbian", "cell": "rnn", "hidden_size": 64}
    model = RecurrentPPO(
        "PlasticPolicy", env, learning_rate=2e-3, policy_kwargs=policy, seed=0, **settings
    )
    model.learn(steps)
    test = VectorEnvAdapter(VectorPreviousActionReward(gym.make_vec(**make)))
    score, _ = evaluate_policy(model, test, n_eval_episodes=64, deterministic=False)
    return float(score)


if __name__ == "__main__":
    print(f"return of an episode: {main():.1f}; random actions bring 9.5")
