"""Scoring a trained network: by acting in the Gymnasium environment, and on whole episodes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents import PlasticNetwork
from plastic_envs.checks import check_int
from plastic_envs.spaces import FloatArray
from plastic_envs.tasks import SequenceTask
from train.network import Network
from train.runs.run_folder import CheckpointName, Record, RunFolder
from train.scoring.objectives import objective_of
from train.supervised.batches import Inputs, blocks, inputs_of
from train.supervised.config import TrainConfig
from train.supervised.training import evaluation_seed

AGREEMENT = 1e-3
"""Largest difference of an output, in float32, at which the two ways of scoring still agree."""

_BLOCK = 256  # episodes at a time, which bounds the memory of the fast weights


@dataclass(frozen=True)
class Played:
    """Episodes as an agent lived through them.

    Attributes:
        outputs: [B, T, output_size], of the network.
        answers: [B, T, answer_size] or [B, T], what was done.
        targets: Of the same shape.
        scored: [B, T].
        rewards: [B, T].
    """

    outputs: FloatArray
    answers: NDArray[Any]
    targets: NDArray[Any]
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
        `score` (by acting: mean squared error over scored steps, or accuracy over all queries)
        with `interval` (half-width at 95 %, over episodes), further measures of the task likewise
        (`first_query`, `first_query_interval`), `score_supervised` (whole sequences),
        `max_difference` of an output between the two and whether they `agree`, scores of chance and
        oracle, and what was scored.

    Raises:
        FileNotFoundError: If the run or the checkpoint does not exist.
        ValueError: If it cannot be read, there are too few episodes, or the seed is negative.
    """
    num_episodes = check_int("num_episodes", num_episodes, minimum=2)
    if seed is not None:
        seed = check_int("seed", seed, maximum=2**63 - 1)
    config = folder.config()
    network, step = folder.load_network(checkpoint)
    task = config.task_for("test")
    seed = evaluation_seed(config) if seed is None else seed
    played = act(network, config, num_episodes, seed)
    episodes = task.sample_episodes(num_episodes, seed)
    outputs = answer(network, inputs_of(episodes.observations))
    difference = float(np.abs(outputs.numpy() - played.outputs).max())
    return {
        "run": str(folder.path),
        "task": config.task,
        **config.network.words,
        "checkpoint": checkpoint,
        "step": step,
        "episodes": num_episodes,
        "seed": seed,
        **summary(task.measures(played.rewards, played.scored)),
        "score_supervised": task.score(objective_of(task).answers(outputs), episodes),
        "max_difference": difference,
        "agree": difference <= AGREEMENT,
        "chance": task.chance_score,
        "oracle": task.oracle_measures(num_episodes, seed).get("score"),
        "optimum": task.optimal_score,
    }


def summary(measures: Mapping[str, NDArray[np.float64]]) -> Record:
    """Return the mean of each measure over episodes, with its half-width at 95 %."""
    record: Record = {}
    for name, values in measures.items():
        record[name] = float(values.mean())
        interval = 1.96 * values.std(ddof=1) / math.sqrt(len(values))
        record["interval" if name == "score" else f"{name}_interval"] = float(interval)
    return record


def act(network: Network, config: TrainConfig, num_episodes: int, seed: int) -> Played:
    """Play episodes in the vector environment, one `network.step` per time step.

    Args:
        network: The agent.
        config: Settings of its run.
        num_episodes: Number B of episodes.
        seed: Environment seed; the first B episodes of its stream are played.
    """
    num_envs = min(num_episodes, _BLOCK)
    envs = config.make_vec(num_envs, "test")
    task: SequenceTask = envs.unwrapped.task  # type: ignore[attr-defined]
    objective = objective_of(task)
    rounds = []
    for start in range(0, num_episodes, num_envs):
        observation, _ = envs.reset(seed=seed if start == 0 else None)
        state: Any = network.initial_state(num_envs)
        columns: list[tuple[Any, ...]] = []
        for _ in range(task.num_steps):
            with torch.inference_mode():
                output, state = network.step(inputs_of(observation), state)
            action = objective.answers(output)
            observation, reward, _, _, info = envs.step(action)
            columns.append((output.numpy(), action, info["target"], info["scored"], reward))
        rounds.append([np.stack(column, axis=1) for column in zip(*columns, strict=True)])
    envs.close()
    return Played(*(np.concatenate(parts)[:num_episodes] for parts in zip(*rounds, strict=True)))


def answer(network: Network, inputs: Inputs) -> Tensor:
    """Run over whole episodes, sequence by sequence; outputs [B, T, output_size]."""
    with torch.no_grad():
        outputs = [network(block)[0] for block in blocks(inputs, _BLOCK)]
    return torch.cat(outputs)


def probe_eta(folder: RunFolder, num_episodes: int = 256) -> NDArray[np.float64] | None:
    """Return the mean plasticity rate [T] over test episodes, or None without plasticity."""
    config = folder.config()
    network, _ = folder.load_network("best")
    if not (isinstance(network, PlasticNetwork) and network.rule.plastic):
        return None
    episodes = config.task_for("test").sample_episodes(num_episodes, evaluation_seed(config))
    with torch.no_grad():
        _, _, probes = network.probe(inputs_of(episodes.observations))
    return probes.eta.double().mean(dim=0).numpy()
