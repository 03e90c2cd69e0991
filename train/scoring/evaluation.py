"""Scoring what a run has made, a network or an agent, on test episodes."""

from collections.abc import Mapping
from typing import Any

from plastic_envs.checks import check_int
from train.names import CheckpointName, DeviceName
from train.reinforcement.config import RLConfig
from train.runs.run_folder import Record, RLRunFolder, RunFolder
from train.scoring.networks import score_network
from train.supervised.config import TrainConfig

_LARGEST_SEED: dict[type, int] = {
    TrainConfig: 2**63 - 1,
    RLConfig: 2**32 - 1,  # of an environment, by which torch and NumPy are seeded, too
}


def evaluate(
    folder: RunFolder | RLRunFolder,
    *,
    checkpoint: CheckpointName = "best",
    num_episodes: int = 1_000,
    seed: int | None = None,
    device: DeviceName | None = None,
    test_settings: Mapping[str, Any] | None = None,
) -> Record:
    """Score a trained network or agent on test episodes.

    Args:
        folder: The run.
        checkpoint: `"best"` or `"last"`.
        num_episodes: Test episodes, at least 2.
        seed: Environment seed of the episodes; by default the run's own test seed.
        device: Where to compute; by default the run's own device, if it is here.
        test_settings: Of a network, settings of the task in which the episodes differ from those of
            the run.

    Returns:
        `score` (of the task: by acting; of foreign environments the return of an episode) with
        `interval` (half-width at 95 %, over episodes), further measures likewise (`first_query`,
        `first_query_interval`), and what was scored.

        Of a network also `score_supervised` (whole sequences), `max_difference` of an output
        between that and acting, whether they `agree`, the number of `parameters`, the scores of
        chance, oracle and optimum, further measures of the oracle (`oracle_within_0.05`), and
        `over_oracle`, the score divided by the oracle's on the same episodes; of an agent
        `references`, scores to compare with, by name.

    Raises:
        FileNotFoundError: If the run or the checkpoint does not exist.
        ValueError: If it cannot be read, there are too few episodes, the seed is out of range,
            or the device is not here.
    """
    num_episodes = check_int("num_episodes", num_episodes, minimum=2)
    config = folder.config()
    seed = seed_of(config, seed)
    if isinstance(folder, RLRunFolder):
        import agents.sb3  # noqa: F401 (it says how to get Stable-Baselines3, which is an extra)
        from train.scoring.agents import score_agent

        scored = score_agent(folder, checkpoint, num_episodes, seed, device)
    else:
        scored = score_network(folder, checkpoint, num_episodes, seed, device, test_settings or {})
    return {"run": str(folder.path), **scored}


def seed_of(config: TrainConfig | RLConfig, seed: int | None) -> int:
    """Return the seed that somebody asked for, or that of the run's test episodes.

    Raises:
        ValueError: If it is out of range.
    """
    if seed is None:
        return config.test_seed
    return check_int("seed", seed, maximum=_LARGEST_SEED[type(config)])
