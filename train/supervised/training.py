"""Supervised meta-training: a network learns, over many episodes, to learn within one.

Each step draws a batch of fresh episodes, runs the network over them, and descends the loss of its
answers (squared error or cross-entropy) with AdamW. Settings: `train.supervised.config`; results:
`train.runs.run_folder`.
"""

import logging
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from agents import ImageLabelEncoder
from agents.tensors import complete_gradients
from plastic_envs.images import SPLITS
from plastic_envs.tasks import FewShot, SequenceTask
from train.devices import CPU, device_of, moved, resolve, seeded
from train.figures.drawing import episode_figure
from train.network import Network
from train.runs.files import naming
from train.runs.run_folder import Record, RunFolder
from train.scoring.measures import means, scored
from train.scoring.networks import Ran, rate_of, run_over
from train.scoring.objectives import masked_mean, objective_of
from train.seeds import Supervised, seed_sequence
from train.supervised.batches import Batch, Sampler, embedded, share_of, whole
from train.supervised.config import TrainConfig
from train.supervised.distributed import ALONE, Processes
from train.supervised.encoders import image_encoder_of, load_image_encoder

logger = logging.getLogger(__name__)

_FIGURES = 10  # figures for TensorBoard over a run


class NonFiniteLossError(RuntimeError):
    """Training cannot go on: the loss or its gradient is infinite or not a number."""


def train_network(
    config: TrainConfig,
    folder: RunFolder,
    *,
    resume: bool = False,
    progress: bool = True,
    processes: Processes = ALONE,
) -> Record:
    """Train a network.

    A run that was cut off, at any moment, goes on from its last checkpoint and ends with the very
    numbers of an uninterrupted one (same machine, same number of threads).

    Args:
        config: Settings; for a resumed run, those of its folder, or those with more steps. If the
            step size does not depend on the number of steps, it ends as if it had had them from
            the start.
        folder: Where the run is kept.
        resume: Go on with the run in `folder` instead of starting one.
        progress: Show a progress bar.
        processes: Those that train this network together, each of which calls this function.

    Returns:
        The last metrics record.

    Raises:
        BlockingIOError: If another process is at work in the folder.
        FileExistsError: If a new run is to start in a folder that holds one.
        FileNotFoundError: If a file of the run to go on with is missing.
        NonFiniteLossError: If the loss becomes infinite or not a number. The checkpoints stay.
        OSError: If the folder cannot be written.
        OtherProcessError: In all processes but the first, if the first cannot go on.
        ValueError: If the processes cannot share a batch equally, settings do not fit, or the files
            of the run do not belong together.
    """
    if config.batch_size % processes.size:
        raise ValueError(
            f"batch_size must be divisible by the number of processes, {processes.size}, "
            f"got {config.batch_size}"
        )
    if not resume:
        processes.on_first(folder.check_unused)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    network = _checked_network(config).to(processes.own(resolve(config.device)))
    if config.encoder_run is not None and not folder.checkpoint_path("last").exists():
        load_image_encoder(network, RunFolder(Path(config.encoder_run)))
    if config.frozen:
        image_encoder_of(network).freeze()
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ValueError("all parameters of this network are frozen: there is nothing to train")
    with ExitStack() as stack:
        processes.on_first(stack.enter_context, folder.at_work(config, resume=resume))
        logger.info("training in %s", folder.path)
        return _Training(config, network, folder, processes).run(progress)


def _checked_network(config: TrainConfig) -> Network:
    """Build the network of a run, once the tasks of all splits are known to suit it.

    So a run that could not be validated, or scored in the end, does not begin.

    Raises:
        ValueError: If something does not fit.
    """
    train, *others = (config.task_for(split) for split in SPLITS)
    for split, task in zip(SPLITS[1:], others, strict=True):
        if task.observation_space != train.observation_space:
            raise ValueError(
                f"the {split} split shows {task.observation_space}, but the train split "
                f"{train.observation_space}: one network cannot take both"
            )
    return config.network.build(train, config.seed)


def loss_of(config: TrainConfig, task: SequenceTask, outputs: Tensor, batch: Batch) -> Tensor:
    """Return the loss that a run minimises, of outputs for a batch on the same device."""
    losses = objective_of(task).losses(outputs, batch.targets)
    return masked_mean(losses, loss_mask(config, batch))


def loss_mask(config: TrainConfig, batch: Batch) -> Tensor:
    """Return the steps [B, T] that the loss of a run averages, as bool."""
    return torch.ones_like(batch.scored) if config.loss_steps == "all" else batch.scored


class _Training:
    """The state of a run between two steps."""

    # Of the first process alone, which validates:
    validation: Batch
    writer: SummaryWriter

    def __init__(
        self, config: TrainConfig, network: Network, folder: RunFolder, processes: Processes
    ) -> None:
        self.config, self.network, self.folder = config, network, folder
        self.events_path = folder.path / "events.out.tfevents"
        self.processes = processes
        self.task = config.task_for("validation")
        self.optimizer = torch.optim.AdamW(
            [parameter for parameter in network.parameters() if parameter.requires_grad],
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            amsgrad=True,
        )
        self.step, self.seconds, self.cpu_seconds = 0, 0.0, 0.0
        self.best: Record | None = None
        self.recent: list[tuple[float, float]] = []  # loss and gradient norm since validation
        if folder.checkpoint_path("last").exists():
            standing = folder.restore("last", network, self.optimizer)
            self.step, self.seconds = standing.step, standing.seconds
            self.best = standing.best
            self.cpu_seconds = folder.cpu_seconds() or 0.0
        # From here on the first process may write a checkpoint: all have read the one there was.
        processes.on_first(lambda: None)
        self.sample_training = self._sampler(config.task_for("train"))
        if processes.is_first:
            self.validation = self._sampler(self.task)(
                config.eval_episodes, self._seed(Supervised.VALIDATE)
            )
        self.parallel = processes.parallel(network)

    def run(self, progress: bool) -> Record:
        config, started, busy = self.config, time.perf_counter(), time.process_time()
        already, busy_before = self.seconds, self.cpu_seconds
        first = self.processes.is_first
        bar = tqdm(
            total=config.steps,
            initial=self.step,
            unit="step",
            disable=not (progress and first),
            leave=True,
        )
        with ExitStack() as stack, bar:
            if first:
                with naming(self.events_path):
                    writer = SummaryWriter(str(self.folder.path), purge_step=self.step + 1)
                self.writer = stack.enter_context(writer)
            if self.best is None:
                self.processes.on_first(self._validate)
            while self.step < config.steps:
                self.recent.append(self._train_step())
                self.step += 1
                bar.update()
                if self.step % config.eval_every == 0 or self.step == config.steps:
                    self.seconds = already + time.perf_counter() - started
                    self.cpu_seconds = busy_before + time.process_time() - busy
                    record = self.processes.on_first(self._validate)
                    self.recent = []
                    if record is not None:
                        bar.set_postfix(val_score=f"{record['val_score']:.4f}")
        return self.folder.metrics()[-1]

    def _train_step(self) -> tuple[float, float]:
        config, rank, size = self.config, self.processes.rank, self.processes.size
        joint = self.sample_training(config.batch_size, self._seed(Supervised.TRAIN, self.step))
        batch = share_of(joint, rank, size)
        noise = self._seed(Supervised.NOISE, self.step, *([rank] if size > 1 else []))
        self.network.train()
        device = device_of(self.network)
        batch = Batch(*moved(tuple(batch), device))
        with seeded(int(noise.generate_state(1)[0]), device):  # dropout has no generator of its own
            outputs, _ = self.parallel(batch.inputs)
        # All episodes of a task have equally many scored steps: the mean over shares of this
        # mean, which the gradients become, is that over the joint batch.
        loss = loss_of(config, self.task, outputs, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        complete_gradients(self.network)
        loss = self.processes.mean(loss)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.max_grad_norm)
        if not (loss.isfinite() and norm.isfinite()):
            raise self._not_finite(f"the training loss is {loss:.3g}, its gradient {norm:.3g}")
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate_at(self.step)
        self.optimizer.step()
        return loss.item(), norm.item()

    def _validate(self) -> Record:
        """Score the network on the validation episodes; log it and leave a checkpoint."""
        ran = run_over(self.network.eval(), self.validation.inputs, probe=True)
        loss = loss_of(self.config, self.task, ran.outputs, self.validation)
        if not loss.isfinite():
            raise self._not_finite(f"the validation loss is {loss:.3g}")
        answers, measures = scored(self.task, ran.outputs, self.validation)
        train_loss, norm = np.mean(self.recent, axis=0) if self.recent else (None, None)
        record: Record = {
            "step": self.step,
            "train_loss": None if train_loss is None else float(train_loss),
            "grad_norm": None if norm is None else float(norm),
            "val_loss": float(loss),
            **means(measures, "val_"),
        }
        for name, values in ran.probes.items():
            record.setdefault(name, float(values.mean()))
        self.folder.append(self.folder.metrics_path, record)
        timing = {"seconds": round(self.seconds, 3), "cpu_seconds": round(self.cpu_seconds, 3)}
        self.folder.append(self.folder.timing_path, {"step": self.step, **timing})
        with naming(self.events_path):
            self._log(record, answers, ran)
        if self.best is not None and not self.config.validates_at(self.step):
            self.folder.keep_regular(self.best)
        best = {"step": self.step, "val_score": record["val_score"]}
        if self.best is not None and not self._is_better(best["val_score"], self.best["val_score"]):
            best = self.best
        checkpoint = self._checkpoint(best)
        if best is not self.best:
            self.folder.save_checkpoint("best", checkpoint)
        self.best = best
        self.folder.save_checkpoint("last", checkpoint)
        return record

    def _is_better(self, score: float, other: float) -> bool:
        return score > other if self.task.higher_is_better else score < other

    def _log(self, record: Record, answers: NDArray[Any], ran: Ran) -> None:
        for name, value in record.items():
            if name != "step" and value is not None:
                self.writer.add_scalar(_tag(name), value, self.step)
        validations = -(-self.config.steps // self.config.eval_every)
        every = self.config.eval_every * max(1, validations // _FIGURES)
        if self.step % every == 0 or self.step == self.config.steps:
            first = self.task.sample_episodes(1, self._seed(Supervised.VALIDATE))
            figure = episode_figure(self.task, first, answers, rate_of(ran.probes))
            self.writer.add_figure("episode", figure, self.step)
        self.writer.flush()

    def _checkpoint(self, best: Record) -> dict[str, Any]:
        standing = self.folder.standing_at(self.step, self.seconds, best, self.config)
        return {
            **standing.content(),
            "network": moved(self.network.state_dict(), CPU),
            "optimizer": moved(self.optimizer.state_dict(), CPU),
        }

    def _sampler(self, task: SequenceTask) -> Sampler:
        """Return how episodes are drawn; a frozen encoder sees every image once, now."""
        if not (isinstance(task, FewShot) and self.config.frozen):
            return whole(task)
        encoder = image_encoder_of(self.network)
        logger.info("computing the embeddings of %d images", len(task.images.images))
        embeddings = encoder.embed(task.images.images)
        if task.split == "train" and isinstance(encoder, ImageLabelEncoder):
            encoder.standardise(embeddings)
        return embedded(task, embeddings)

    def _seed(self, *branch: int) -> np.random.SeedSequence:
        return seed_sequence(self.config.seed, *branch)

    def _not_finite(self, what: str) -> NonFiniteLossError:
        kept = self.folder.checkpoint_path("last")
        good = f"The last good checkpoint is {kept}. " if kept.exists() else ""
        return NonFiniteLossError(
            f"stopped at step {self.step}: {what}. {good}A smaller learning rate (now "
            f"{self.config.learning_rate:g}) or gradient bound may help."
        )


def _tag(name: str) -> str:
    """Return where TensorBoard shows a metric."""
    if name.startswith("val_"):
        return f"val/{name.removeprefix('val_')}"
    if name in ("train_loss", "grad_norm"):
        return f"train/{name.removeprefix('train_')}"
    return f"probe/{name}"
