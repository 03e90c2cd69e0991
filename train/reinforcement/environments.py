"""The environments of a reinforcement learning run, and their seeds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.wrappers import FlattenObservation, TimeLimit

from plastic_envs.checks import shown
from plastic_envs.images import Split
from plastic_envs.wrappers import VectorPreviousActionReward
from train.network import shows_images
from train.reinforcement.config import RLConfig
from train.seeds import Reinforcement, derived_seed

UNLIMITED_STEPS = 10_000
"""Steps of an episode of an evaluation, where the environment names no limit."""

_NUM_ENVS = 64  # side by side in an evaluation


class EnvironmentFailedError(RuntimeError):
    """The environment raised an error."""


def make_vec(
    config: RLConfig,
    num_envs: int,
    split: Split,
    render_mode: str | None = None,
    autoreset_mode: AutoresetMode = AutoresetMode.SAME_STEP,
    evaluation: bool = False,
) -> VectorEnv[Any, Any, Any]:
    """Make the environments of a run, with what the agent sees of its past.

    Whatever they raise becomes one line that names them.

    Args:
        config: Settings of the run.
        num_envs: Number of environments.
        split: What classes they show, if they are of a task that has such.
        render_mode: Passed on.
        autoreset_mode: When the episode after the last one begins.
        evaluation: Cut off episodes after `eval_max_steps`.

    Raises:
        ValueError: If they cannot be made.
    """
    if config.eval_max_steps is not None and config.env_part is not None:
        raise ValueError(
            f"eval_max_steps={config.eval_max_steps} is for foreign environments: the episodes of "
            f"{config.env} have a length of their own"
        )
    kwargs: dict[str, Any] = {"autoreset_mode": autoreset_mode}
    if config.env_part is None:
        wrappers: list[Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]]] = [_flattened]
        if evaluation:
            wrappers.append(partial(_limited, limit=config.eval_max_steps))
        kwargs = {"vectorization_mode": "sync", "vector_kwargs": kwargs, "wrappers": wrappers}
    if render_mode is not None:  # not every environment takes it
        kwargs["render_mode"] = render_mode
    try:
        env = config.make_vec(num_envs, split, **kwargs)
        if config.previous_action_reward:
            if shows_images(env.single_observation_space):
                raise ValueError(
                    "images come with their labels: previous_action_reward must be off "
                    "(--no-previous-action-reward)"
                )
            env = VectorPreviousActionReward(env)
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"the environment {shown(config.env)} cannot be made: {said(error)}"
        ) from error
    names_none = config.env_part is None and env.spec is not None and not env.spec.max_episode_steps
    limit = config.eval_max_steps or (UNLIMITED_STEPS if names_none else None)
    return _Reporting(env, config.env, limit if evaluation else None)


@contextmanager
def naming_settings(path: Path) -> Iterator[None]:
    """Let an error of making environments name the file of the settings, if they are from one."""
    try:
        yield
    except ValueError as error:
        if not path.is_file():
            raise
        raise ValueError(f"{path}: {error}") from error


def make_evaluation_vec(
    config: RLConfig, num_episodes: int, split: Split
) -> VectorEnv[Any, Any, Any]:
    """Make environments to play so many episodes in."""
    return make_vec(config, min(num_episodes, _NUM_ENVS), split, evaluation=True)


def check_environments(config: RLConfig) -> None:
    """Take a step in an environment of each split.

    Raises:
        EnvironmentFailedError: If it fails.
        ValueError: If one cannot be made.
    """
    splits: tuple[Split, ...] = ("train", "validation", "test")
    for split in splits if config.env_part is not None else splits[:1]:
        env = make_vec(config, 1, split)
        try:
            env.reset(seed=derived_seed(config.seed, Reinforcement.BUILD))
            env.action_space.seed(0)
            env.step(env.action_space.sample())
        finally:
            env.close()


class _Reporting(VectorWrapper[Any, Any, Any]):
    """Names the environment in what it raises.

    Attributes:
        cut_after: Steps after which episodes are cut off that would go on; None if nothing is.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], name: str, cut_after: int | None) -> None:
        super().__init__(env)
        self._name, self.cut_after = name, cut_after

    def reset(self, **kwargs: Any) -> Any:
        with self._named("reset"):
            return self.env.reset(**kwargs)

    def step(self, actions: Any) -> Any:
        with self._named("step"):
            return self.env.step(actions)

    @contextmanager
    def _named(self, method: str) -> Iterator[None]:
        try:
            yield
        except MemoryError:
            raise
        except (Exception, SystemExit) as error:
            raise EnvironmentFailedError(
                f"the environment {shown(self._name)} failed in {method}(): {said(error)}"
            ) from error


def said(error: BaseException) -> str:
    """Return what an error says, in a line of bounded length; its kind, where that tells more."""
    text = " ".join(str(error).split())
    if not isinstance(error, ValueError | gym.error.Error):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text if len(text) <= 500 else f"{text[:500]}…"


def _limited(env: gym.Env[Any, Any], limit: int | None) -> gym.Env[Any, Any]:
    """Cut off episodes that somebody wants shorter, or that the environment does not limit."""
    if limit is None and env.spec is not None and env.spec.max_episode_steps is not None:
        return env
    return TimeLimit(env, UNLIMITED_STEPS if limit is None else limit)


def _flattened(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    """Turn observations that are neither arrays nor dictionaries, such as numbers, into arrays."""
    known = isinstance(env.observation_space, spaces.Box | spaces.Dict)
    return env if known else FlattenObservation(env)
