"""Reinforcement learning: an agent learns by `RecurrentPPO` to act, and to learn while it acts.

Training goes from evaluation to evaluation. Each part starts with new episodes and random numbers
of its own, all derived from the run's seed, so that a run that was cut off goes on from its last
evaluation as if nothing had happened. Settings: `train.rl_config.RLConfig`; results:
`train.run_folder`.
"""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import ConstantSchedule
from tqdm import tqdm

from agents.sb3 import RecurrentPPO, VectorEnvAdapter
from train.evaluation import summary
from train.rl_config import RLConfig
from train.rl_environments import (
    BUILD,
    TRAIN,
    VALIDATE,
    derived_seed,
    make_evaluation_vec,
    make_vec,
)
from train.rl_evaluation import measure
from train.run_folder import Record, RLRunFolder

logger = logging.getLogger(__name__)


def train(
    config: RLConfig, folder: RLRunFolder, *, resume: bool = False, progress: bool = True
) -> Record:
    """Train an agent.

    Args:
        config: Settings; for a resumed run, those of its folder.
        folder: Where the run is kept.
        resume: Go on with the run in `folder` instead of starting one.
        progress: Show a progress bar.

    Returns:
        The last metrics record.

    Raises:
        FileExistsError: If a new run is to start in a folder that holds one.
        FileNotFoundError: If the run to start from does not exist.
        ValueError: If the environment cannot be made or does not suit, the run to start from is of
            another network, or a checkpoint cannot be read.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    env = make_vec(config, config.num_envs)
    try:
        if resume and folder.model_path("last").is_file():
            model = folder.load_model("last", VectorEnvAdapter(env))
        else:
            model = _new_model(config, env)
            if config.start_from is not None:
                _copy_parameters(RLRunFolder(Path(config.start_from)), model)
        if not resume:
            folder.create(config)
        logger.info("training in %s", folder.path)
        return _Training(config, model, folder).run(progress)
    finally:
        env.close()


def train_missing(config: RLConfig, folder: RLRunFolder) -> None:
    """Train a run that is not there, go on with one that was cut off, leave a finished one.

    Raises:
        ValueError: If the folder holds a run with other settings.
    """
    started = folder.config_path.exists()
    if started and folder.config() != config:
        raise ValueError(f"{folder.path} holds a run with other settings: choose another --out")
    done = folder.metrics()
    if not done or done[-1]["step"] < config.steps:
        train(config, folder, resume=started, progress=False)


class _Training:
    """The state of a run between two evaluations."""

    def __init__(self, config: RLConfig, model: RecurrentPPO, folder: RLRunFolder) -> None:
        self.config, self.model, self.folder = config, model, folder
        self.per_part = config.rollouts_per_evaluation * config.steps_per_rollout
        self.parts_done = model.num_timesteps // self.per_part
        started = folder.model_path("last").is_file()
        folder.drop_after(model.num_timesteps if started else -1)
        records = folder.metrics()
        better = max if config.higher_is_better else min
        self.best = better((record["val_score"] for record in records), default=None)
        timing = folder.timing() if started else []
        self.seconds = timing[-1]["seconds"] if timing else 0.0
        self.validation = make_evaluation_vec(config, config.eval_episodes)
        model.set_logger(configure(str(folder.path), ["tensorboard"]))

    def run(self, progress: bool) -> Record:
        config, model = self.config, self.model
        steps = config.num_evaluations * self.per_part
        bar = tqdm(
            total=steps, initial=model.num_timesteps, unit="step", disable=not progress, leave=True
        )
        with bar:
            if self.best is None:
                self._evaluate()
            while self.parts_done < config.num_evaluations:
                started = time.perf_counter()
                self._train_part(bar)
                self.parts_done += 1
                self.seconds += time.perf_counter() - started
                record = self._evaluate()
                bar.set_postfix(val_score=f"{record['val_score']:.4f}")
        self.validation.close()
        model.logger.close()
        return self.folder.metrics()[-1]

    def _train_part(self, bar: "tqdm[Any]") -> None:
        config, model = self.config, self.model
        model.set_random_seed(derived_seed(config, TRAIN, self.parts_done))
        model._last_obs = None  # `learn` starts new episodes
        model._last_state = None
        model.ep_info_buffer = None
        model.lr_schedule = ConstantSchedule(config.learning_rate_at(self.parts_done))
        model.learn(self.per_part, _Progress(bar), reset_num_timesteps=False)

    def _evaluate(self) -> Record:
        """Score the agent on the validation episodes; log it and leave a checkpoint."""
        config, model = self.config, self.model
        seed = derived_seed(config, VALIDATE)
        measures = measure(config, model, self.validation, config.eval_episodes, seed)
        training = np.mean([episode["r"] for episode in model.ep_info_buffer or []] or [np.nan])
        record: Record = {
            "step": model.num_timesteps,
            "train_return": None if np.isnan(training) else float(training),
            **{
                name.replace("/", "_"): float(value)
                for name, value in model.logger.name_to_value.items()
                if name.startswith("train/") and not name.endswith("n_updates")
            },
            **{f"val_{name}": value for name, value in summary(measures).items()},
        }
        self.folder.append(self.folder.metrics_path, record)
        self.folder.append(
            self.folder.timing_path, {"step": record["step"], "seconds": round(self.seconds, 3)}
        )
        for name in measures:
            model.logger.record(f"val/{name}", record[f"val_{name}"])
        model.logger.dump(model.num_timesteps)
        score = record["val_score"]
        if self.best is None or (
            score > self.best if config.higher_is_better else score < self.best
        ):
            self.best = score
            self.folder.save_model("best", model)
        self.folder.save_model("last", model)
        return record


def _copy_parameters(folder: RLRunFolder, model: RecurrentPPO) -> None:
    """Start with what another run has learned."""
    folder.config()  # says so if there is no such run
    parameters = folder.load_model("best").policy.state_dict()
    try:
        model.policy.load_state_dict(parameters)
    except RuntimeError as error:
        raise ValueError(
            f"the agent of {folder.path} does not fit: {' '.join(str(error).split())}"
        ) from error


class _Progress(BaseCallback):
    """Moves a progress bar."""

    def __init__(self, bar: "tqdm[Any]") -> None:
        super().__init__()
        self._bar = bar

    def _on_step(self) -> bool:
        self._bar.update(self.training_env.num_envs)
        return True


def _new_model(config: RLConfig, env: VectorEnv[Any, Any, Any]) -> RecurrentPPO:
    policy_kwargs = config.network.policy_kwargs()
    if isinstance(env.single_action_space, spaces.Box):
        policy_kwargs["log_std_init"] = config.ppo.log_std_init
    return RecurrentPPO(
        "PlasticPolicy",
        env,
        policy_kwargs=policy_kwargs,
        seed=derived_seed(config, BUILD),
        **config.ppo_kwargs(),
    )
