"""Scoring an agent that acts."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm

from train.devices import CPU, seeded
from train.names import CheckpointName, DeviceName
from train.reinforcement.config import RLConfig
from train.reinforcement.environments import make_evaluation_vec, naming_settings
from train.runs.run_folder import Record, RLRunFolder
from train.scoring.measures import summary
from train.scoring.references import reference_scores

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Episode:
    """One episode that was played.

    Attributes:
        rewards: float64 [T].
        scored: bool [T], whether a step counts for the score; all do, if the environment does not
            say.
    """

    rewards: NDArray[np.float64]
    scored: NDArray[np.bool_]


def score_agent(
    folder: RLRunFolder,
    checkpoint: CheckpointName,
    num_episodes: int,
    seed: int,
    device: DeviceName | None,
) -> Record:
    """Score an agent as `train.scoring.evaluation.evaluate` says."""
    config = folder.config()
    with naming_settings(folder.config_path):
        env = make_evaluation_vec(config, num_episodes, "test")
    try:
        model = folder.load_model(checkpoint, env, device)
        measures = measure(config, model, env, num_episodes, seed)
    finally:
        env.close()
    task = config.task_for("test")
    return {
        "env": config.env,
        **config.env_kwargs,
        "agent": config.agent,
        "checkpoint": checkpoint,
        "step": model.num_timesteps,
        "episodes": num_episodes,
        "seed": seed,
        **summary(measures),
        "references": {} if task is None else reference_scores(task),
    }


def measure(
    config: RLConfig,
    model: BaseAlgorithm,
    env: VectorEnv[Any, Any, Any],
    num_episodes: int,
    seed: int,
) -> dict[str, NDArray[np.float64]]:
    """Let an agent play as the settings of a run say; return its measures per episode."""
    played = play(model, env, num_episodes, seed, config.deterministic)
    limit = getattr(env, "cut_after", None)
    if limit is not None and (cut := sum(len(each.rewards) >= limit for each in played)):
        logger.warning(
            "%d of %d episodes of %s were cut off after %d steps (--eval-max-steps): scores are "
            "of what was played",
            *(cut, len(played), config.env, limit),
        )
    return measures_of(config, played)


def play(
    model: BaseAlgorithm,
    env: VectorEnv[Any, Any, Any],
    num_episodes: int,
    seed: int,
    deterministic: bool | None = None,
) -> list[Episode]:
    """Play episodes; the state of torch's random generator stays as it is.

    Every sub-environment plays equally many, whatever their length, which leaves the sample
    unbiased; what is too many in the end is left out.

    Args:
        model: The agent, also one of Stable-Baselines3 or sb3-contrib.
        env: The environments, in autoreset mode `SAME_STEP`.
        num_episodes: Number of episodes.
        seed: Of environments and actions.
        deterministic: Take the most probable action; by default where actions are real.

    Returns:
        The episodes, those of the first round first.
    """
    deterministic = takes_most_probable(deterministic, env)
    rounds = -(-num_episodes // env.num_envs)
    finished: list[list[Episode]] = [[] for _ in range(env.num_envs)]
    running: list[list[tuple[float, bool]]] = [[] for _ in range(env.num_envs)]
    with seeded(seed, getattr(model, "device", CPU)):
        observations, _ = env.reset(seed=seed)
        state: Any = None
        starts = np.ones(env.num_envs, np.bool_)
        while any(len(episodes) < rounds for episodes in finished):
            actions, state = model.predict(observations, state, starts, deterministic)
            observations, rewards, terminated, truncated, infos = env.step(actions)
            starts = np.logical_or(terminated, truncated)
            scored = _scored(infos, starts)
            for k in range(env.num_envs):
                running[k].append((float(rewards[k]), bool(scored[k])))
                if starts[k]:
                    finished[k].append(_episode(running[k]))
                    running[k] = []
    return [finished[k][r] for r in range(rounds) for k in range(env.num_envs)][:num_episodes]


def takes_most_probable(deterministic: bool | None, env: VectorEnv[Any, Any, Any]) -> bool:
    """Say whether to take the most probable action: if nobody says, where actions are real."""
    if deterministic is None:
        return isinstance(env.single_action_space, spaces.Box)
    return deterministic


def measures_of(config: RLConfig, played: list[Episode]) -> dict[str, NDArray[np.float64]]:
    """Return the measures of the task per episode; of other environments return and length."""
    task = config.task
    if task is None:
        return {
            "score": np.array([episode.rewards.sum() for episode in played]),
            "length": np.array([len(episode.rewards) for episode in played], np.float64),
        }
    rewards = np.stack([episode.rewards for episode in played])
    return task.measures(rewards, np.stack([episode.scored for episode in played]))


def _scored(infos: dict[str, Any], ended: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which steps just taken are scored, [num_envs]."""
    scored = np.ones(len(ended), np.bool_)
    if "scored" in infos:
        scored = np.asarray(infos["scored"], np.bool_).copy()
    if ended.any() and "scored" in infos.get("final_info", {}):
        scored[ended] = infos["final_info"]["scored"][ended]
    return scored


def _episode(steps: list[tuple[float, bool]]) -> Episode:
    rewards, scored = zip(*steps, strict=True)
    return Episode(np.array(rewards, np.float64), np.array(scored, np.bool_))
