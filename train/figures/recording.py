"""A picture of a trained agent's episode."""

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from PIL import Image
from stable_baselines3.common.base_class import BaseAlgorithm

from train.devices import CPU, seeded
from train.names import CheckpointName, DeviceName
from train.reinforcement.config import RLConfig
from train.reinforcement.environments import make_vec, naming_settings, said
from train.runs.run_folder import RLRunFolder
from train.scoring.agents import takes_most_probable
from train.scoring.evaluation import seed_of

ENDINGS = (".gif", ".webp", ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pdf")
"""Those of the pictures that can be written; the first three move."""

_MOVING = ENDINGS[:3]
_MILLISECONDS = 250  # that a frame is shown
_MAX_STEPS = 1_000


def record(
    folder: RLRunFolder,
    output: Path,
    *,
    checkpoint: CheckpointName = "best",
    seed: int | None = None,
    device: DeviceName | None = None,
) -> Path:
    """Let an agent play an episode, at most 1,000 steps of it, and write what it looks like.

    Args:
        folder: The run.
        output: Where the picture goes: moving if it ends in .gif, .webp or .png, else (.jpg, .pdf,
            …) the last frame alone.
        checkpoint: `"best"` or `"last"`.
        seed: Of environment and actions; by default the run's own test seed.
        device: Where to compute; by default the run's own device, if it is here.

    Returns:
        `output`.

    Raises:
        FileNotFoundError: If the run or the checkpoint does not exist.
        ValueError: If it cannot be read, the environment shows no pictures, the seed is out of
            range, or there is no such format.
    """
    if output.suffix.lower() not in ENDINGS:
        raise ValueError(f"there is no picture format {output.suffix!r}: try .gif or .png")
    frames = _frames(folder, checkpoint, seed, device)
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix.lower() in _MOVING:
        frames[0].save(
            output, save_all=True, append_images=frames[1:], duration=_MILLISECONDS, loop=0
        )
    else:
        frames[-1].save(output)
    return output


def _frames(
    folder: RLRunFolder,
    checkpoint: CheckpointName,
    seed: int | None,
    device: DeviceName | None,
) -> list[Image.Image]:
    config = folder.config()
    seed = seed_of(config, seed)
    with naming_settings(folder.config_path):
        env = make_vec(config, 1, "test", "rgb_array", AutoresetMode.NEXT_STEP)
    try:
        return _played(env, folder.load_model(checkpoint, env, device), seed, config)
    finally:
        env.close()


def _played(
    env: VectorEnv[Any, Any, Any], model: BaseAlgorithm, seed: int, config: RLConfig
) -> list[Image.Image]:
    deterministic = takes_most_probable(config.deterministic, env)
    frames: list[Image.Image] = []
    with seeded(seed, getattr(model, "device", CPU)):
        observations, _ = env.reset(seed=seed)
        state: Any = None
        ended = np.ones(1, np.bool_)
        frames.append(_frame(env))
        while len(frames) <= _MAX_STEPS:
            actions, state = model.predict(observations, state, ended, deterministic)
            observations, _, terminated, truncated, _ = env.step(actions)
            frames.append(_frame(env))
            ended = np.logical_or(terminated, truncated)
            if ended[0]:
                break
    return frames


def _frame(env: VectorEnv[Any, Any, Any]) -> Image.Image:
    try:
        pictures: Any = env.render()
        if pictures is None or pictures[0] is None:
            raise ValueError("render() returns None")
        return Image.fromarray(np.asarray(pictures[0]))
    except Exception as error:  # such as pygame that is missing
        raise ValueError(f"the environment shows no pictures: {said(error)}") from error
