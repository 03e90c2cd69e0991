"""`plastic train-rl`."""

from collections.abc import Callable, Sequence

from train.commands.options import for_parts
from train.commands.training import Command, to_go_on
from train.reinforcement.config import RLConfig
from train.runs.run_folder import RLRunFolder
from train.wording import counted


def command(words: Sequence[str]) -> Callable[..., None]:
    """Return `run` with the options of the task and the parts of a network that words choose.

    Raises:
        ValueError: If there are no such parts.
    """
    return for_parts(run, RLConfig(), words)


def run(command: Command[RLConfig]) -> None:
    """Train an agent by reinforcement learning, on any Gymnasium environment."""
    import agents.sb3  # noqa: F401 (it says how to get Stable-Baselines3, which is an extra)
    from train.reinforcement.training import train_agent

    folder, config = command.begun(RLRunFolder)
    resume = command.resume is not None
    with to_go_on(folder):
        record = train_agent(config, folder, resume=resume, progress=command.progress)
    command.tell(
        folder,
        record,
        f"validation score {record['val_score']:.4f} ± {record['val_interval']:.4f} after "
        f"{counted(record['step'], 'step')}",
    )
