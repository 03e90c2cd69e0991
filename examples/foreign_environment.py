"""A plastic agent on somebody else's environment: CartPole without its velocities."""

import gymnasium as gym
from gymnasium.wrappers import TransformObservation
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from agents.sb3 import RecurrentPPO


def positions_only() -> gym.Env:
    """Make a CartPole whose state cannot be told from one observation."""
    env = gym.make("CartPole-v1")
    space = gym.spaces.Box(env.observation_space.low[::2], env.observation_space.high[::2])
    return TransformObservation(env, lambda observation: observation[::2], space)


def main(steps: int = 150_000) -> float:
    """Train (minutes) and return the mean return of an episode, at most 500."""
    env = make_vec_env(positions_only, n_envs=8, seed=0)
    policy = {"rule": "gradient", "cell": "rnn", "hidden_size": 32}
    settings = {
        "learning_rate": 1e-3,
        "vf_coef": 0.005,
    }  # returns up to 500: small weight of values
    model = RecurrentPPO("PlasticPolicy", env, policy_kwargs=policy, seed=0, **settings)
    model.learn(steps)
    score, _ = evaluate_policy(model, env, n_eval_episodes=20)
    return float(score)


if __name__ == "__main__":
    print(f"return of an episode: {main():.0f} of at most 500")
