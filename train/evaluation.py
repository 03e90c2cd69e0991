"""Scoring a trained network: by acting in the Gymnasium environment, and on whole episodes."""

import math
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

import plastic_envs  # noqa: F401 (registers the environments)
from agents import PlasticNetwork
from plastic_envs.tasks import Episodes, SequenceTask
from plastic_envs.tasks.base import FloatArray
from train.run_folder import CheckpointName, Record, RunFolder
from train.supervised import evaluation_seed

AGREEMENT = 1e-3
"""Largest difference of an answer, in float32, at which the two ways of scoring still agree."""

_BLOCK = 256  # episodes at a time, which bounds the memory of the fast weights


@dataclass(frozen=True)
class Played:
    """Episodes as an agent lived through them.

    Attributes:
        answers: [B, T, answer_size].
        targets: [B, T, answer_size].
        scored: [B, T].
        rewards: [B, T].
    """

    answers: FloatArray
    targets: FloatArray
    scored: NDArray[np.bool_]
    rewards: NDArray[np.float64]


def evaluate(
    folder: RunFolder,
    *,
    checkpoint: CheckpointName = "best",
    num_episodes: int = 1_000,
    seed: int | None = None,
) -> Record:
    """Score a trained network on test episodes.

    Args:
        folder: The run.
        checkpoint: `"best"` or `"last"`.
        num_episodes: Test episodes, at least 2.
        seed: Environment seed of the episodes; by default the run's own test seed.

    Returns:
        `score` (by acting, mean squared error over scored steps) with `interval` (half-width at
        95 %, over episodes), `score_supervised` (whole sequences), `max_difference` of an answer
        between the two and whether they `agree`, scores of chance and oracle, and what was scored.

    Raises:
        FileNotFoundError: If the run or the checkpoint does not exist.
        ValueError: If it cannot be read, there are too few episodes, or the seed is negative.
    """
    if num_episodes < 2:
        raise ValueError(f"num_episodes must be at least 2, got {num_episodes}")
    if seed is not None and seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}")
    config = folder.config()
    network, step = folder.load_network(checkpoint)
    task = config.task_definition
    seed = evaluation_seed(config) if seed is None else seed
    played = act(network, config.env_id, config.task_kwargs, num_episodes, seed)
    episodes = task.sample_episodes(num_episodes, seed)
    answers = answer(network, episodes)
    per_episode = np.array(
        [-r[s].mean() for r, s in zip(played.rewards, played.scored, strict=True)]
    )
    difference = float(np.abs(answers - played.answers).max())
    return {
        "run": str(folder.path),
        "task": config.task,
        "rule": config.network.rule,
        "cell": config.network.cell,
        "hidden_size": config.network.hidden_size,
        "checkpoint": checkpoint,
        "step": step,
        "episodes": num_episodes,
        "seed": seed,
        "score": float(per_episode.mean()),
        "interval": float(1.96 * per_episode.std(ddof=1) / math.sqrt(num_episodes)),
        "score_supervised": task.score(answers, episodes),
        "max_difference": difference,
        "agree": difference <= AGREEMENT,
        "chance": task.chance_score,
        "oracle": task.score(task.oracle(episodes.observations), episodes),
        "optimum": task.optimal_score,
    }


def act(
    network: PlasticNetwork, env_id: str, task_kwargs: dict[str, Any], num_episodes: int, seed: int
) -> Played:
    """Play episodes in the vector environment, one `network.step` per time step.

    Args:
        network: The agent.
        env_id: Gymnasium id of a sequence task.
        task_kwargs: Keyword arguments of the task.
        num_episodes: Number B of episodes.
        seed: Environment seed; the first B episodes of its stream are played.
    """
    num_envs = min(num_episodes, _BLOCK)
    envs = gym.make_vec(env_id, num_envs=num_envs, **task_kwargs)
    task: SequenceTask = envs.unwrapped.task  # type: ignore[attr-defined]
    rounds = []
    for start in range(0, num_episodes, num_envs):
        observation, _ = envs.reset(seed=seed if start == 0 else None)
        state = network.initial_state(num_envs)
        columns: list[tuple[Any, ...]] = []
        for _ in range(task.num_steps):
            with torch.inference_mode():
                action, state = network.step(torch.from_numpy(observation), state)
            observation, reward, _, _, info = envs.step(action.numpy())
            columns.append((action.numpy(), info["target"], info["scored"], reward))
        rounds.append([np.stack(column, axis=1) for column in zip(*columns, strict=True)])
    envs.close()
    return Played(*(np.concatenate(parts)[:num_episodes] for parts in zip(*rounds, strict=True)))


def answer(network: PlasticNetwork, episodes: Episodes) -> FloatArray:
    """Answer whole episodes, sequence by sequence; [B, T, answer_size]."""
    blocks = torch.split(torch.from_numpy(episodes.observations), _BLOCK)
    with torch.no_grad():
        answers: FloatArray = torch.cat([network(block)[0] for block in blocks]).numpy()
    return answers


def probe_eta(folder: RunFolder, num_episodes: int = 256) -> NDArray[np.float64] | None:
    """Return the mean plasticity rate [T] over test episodes, or None without plasticity."""
    config = folder.config()
    network, _ = folder.load_network("best")
    if not network.rule.plastic:
        return None
    episodes = config.task_definition.sample_episodes(num_episodes, evaluation_seed(config))
    with torch.no_grad():
        _, _, probes = network.probe(torch.from_numpy(episodes.observations))
    return probes.eta.double().mean(dim=0).numpy()
