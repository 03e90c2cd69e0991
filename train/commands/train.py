"""`plastic train`."""

from collections.abc import Callable, Sequence

from train.commands.options import for_parts
from train.commands.training import Command, to_go_on
from train.runs.run_folder import RunFolder
from train.supervised.config import TrainConfig
from train.wording import counted


def command(words: Sequence[str]) -> Callable[..., None]:
    """Return `run` with the options of the task and the parts of a network that words choose.

    Raises:
        ValueError: If there are no such parts.
    """
    return for_parts(run, TrainConfig(), words)


def run(command: Command[TrainConfig]) -> None:
    """Meta-train a network on a memory or few-shot task, by supervised learning.

    torchrun --no-python plastic train … does so over several processes.
    """
    from train.supervised.distributed import joined
    from train.supervised.training import train_network

    folder, config = command.begun(RunFolder)
    resume = command.resume is not None
    with to_go_on(folder), joined() as processes:
        record = train_network(
            config, folder, resume=resume, progress=command.progress, processes=processes
        )
    if processes.is_first:
        chance = config.task_for("validation").chance_score
        command.tell(
            folder,
            record,
            f"validation score {record['val_score']:.4f}, loss {record['val_loss']:.4f} after "
            f"{counted(record['step'], 'step')} (chance {chance:.4f})",
        )
