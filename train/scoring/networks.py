"""Scoring a trained network: by acting in the Gymnasium environment, and on whole episodes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.core import outputs_of
from plastic_envs.spaces import FloatArray
from plastic_envs.tasks import SequenceTask
from train.devices import CPU, device_of, moved, resolve_for
from train.names import CheckpointName, DeviceName
from train.network import Network, count_parameters
from train.runs.run_folder import Record, RunFolder
from train.scoring.measures import scored, summary
from train.scoring.objectives import objective_of
from train.scoring.references import over_oracle, reference_measures
from train.supervised.batches import Inputs, blocks, inputs_of
from train.supervised.config import TrainConfig

AGREEMENT = 1e-3
"""Largest difference of an output, in float32, at which the two ways of scoring still agree."""

_BLOCK = 256  # episodes at a time, which bounds the memory of the fast weights


@dataclass(frozen=True)
class Acted:
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


def score_network(
    folder: RunFolder,
    checkpoint: CheckpointName,
    num_episodes: int,
    seed: int,
    device: DeviceName | None,
    test_settings: Mapping[str, Any],
) -> Record:
    """Score a network as `train.scoring.evaluation.evaluate` says."""
    config = folder.config()
    differs = {**config.test_settings, **test_settings}
    config = replace(config, test_settings=differs)
    place = resolve_for(config.device, device)
    network, step = folder.load_network(checkpoint)
    network.to(place)
    task = config.task_for("test")
    played = act(network, config, num_episodes, seed)
    episodes = task.sample_episodes(num_episodes, seed)
    outputs = run_over(network, inputs_of(episodes.observations)).outputs
    supervised = scored(task, outputs, episodes).measures
    difference = float(np.abs(outputs.numpy() - played.outputs).max())
    measures = summary(task.measures(played.rewards, played.scored))
    oracle = reference_measures(task, seed, num_episodes).get(task.oracle_name, {})
    return {
        "task": config.task,
        **config.test_settings,
        **config.network.words,
        "parameters": count_parameters(network),
        "checkpoint": checkpoint,
        "step": step,
        "episodes": num_episodes,
        "seed": seed,
        **measures,
        "score_supervised": float(supervised["score"].mean()),
        "max_difference": difference,
        "agree": difference <= AGREEMENT,
        "chance": task.chance_score,
        "oracle": oracle.get("score"),
        **{f"oracle_{name}": value for name, value in oracle.items() if name != "score"},
        "over_oracle": over_oracle(measures["score"], oracle),
        "optimum": task.optimal_score,
    }


def act(network: Network, config: TrainConfig, num_episodes: int, seed: int) -> Acted:
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
    objective, device = objective_of(task), device_of(network)
    rounds = []
    for start in range(0, num_episodes, num_envs):
        observation, _ = envs.reset(seed=seed if start == 0 else None)
        state: Any = network.initial_state(num_envs)
        columns: list[tuple[Any, ...]] = []
        for _ in range(task.num_steps):
            with torch.inference_mode():
                output, state = network.step(moved(inputs_of(observation), device), state)
                output = output.cpu()
            action = objective.answers(output)
            observation, reward, _, _, info = envs.step(action)
            columns.append((output.numpy(), action, info["target"], info["scored"], reward))
        rounds.append([np.stack(column, axis=1) for column in zip(*columns, strict=True)])
    envs.close()
    return Acted(*(np.concatenate(parts)[:num_episodes] for parts in zip(*rounds, strict=True)))


class Ran(NamedTuple):
    """What a network made of whole episodes, on the CPU.

    Attributes:
        outputs: [B, T, output_size].
        probes: What its core's `probe` reports, [B, T] by name; nothing if it has none.
    """

    outputs: Tensor
    probes: dict[str, Tensor]


def run_over(network: Network, inputs: Inputs, *, probe: bool = False) -> Ran:
    """Run over whole episodes, a block at a time, on the device of the network.

    Args:
        network: Any core.
        inputs: [B, T, …], or a dictionary of such.
        probe: Ask for probes, if the core has any.
    """
    device, probes = device_of(network), {}
    outputs, found = [], []
    with torch.no_grad():
        for block in blocks(inputs, _BLOCK):
            x = moved(block, device)
            if probe and hasattr(network, "probe"):
                output, _, report = network.probe(x)
                found.append(moved(report._asdict(), CPU))
            else:
                output = outputs_of(network, x)
            outputs.append(output.cpu())
    if found:
        probes = {name: torch.cat([each[name] for each in found]) for name in found[0]}
    return Ran(torch.cat(outputs), probes)


def rate_of(probes: Mapping[str, Tensor]) -> FloatArray | None:
    """Return the plasticity rate η [B, T] that probes tell of; None where nothing is written."""
    eta = probes.get("eta")
    written = probes.get("write_norm", eta)
    if eta is None or written is None or not written.any():
        return None
    rate: FloatArray = eta.double().numpy()
    return rate


def probe_eta(folder: RunFolder, num_episodes: int = 256) -> NDArray[np.float64] | None:
    """Return the mean plasticity rate [T] over test episodes, or None without plasticity."""
    config = folder.config()
    network, _ = folder.load_network("best")
    if not hasattr(network, "probe"):
        return None
    network.to(resolve_for(config.device))
    episodes = config.task_for("test").sample_episodes(num_episodes, config.test_seed)
    rate = rate_of(run_over(network, inputs_of(episodes.observations), probe=True).probes)
    return None if rate is None else rate.mean(axis=0)
