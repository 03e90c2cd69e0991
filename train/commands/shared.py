"""What subcommands share; it needs no PyTorch until it is called."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from train.wording import say

logger = logging.getLogger(__name__)


@contextmanager
def to_go_on_again() -> Iterator[None]:
    """Say, where many runs are stopped, how they go on."""
    try:
        yield
    except BaseException as stop:
        stop.add_note("the same command goes on where it was")
        raise


def warn_without_kernel() -> None:
    """Say that training will be slow, if it will."""
    from agents.plastic.ops.cpu import library

    if library.load() is None:
        logger.warning(
            "there is no compiled kernel (%s): computing in PyTorch, several times slower. "
            "Reinstalling the package with a C compiler builds it.",
            library.absence(),
        )


def print_json(record: dict[str, Any]) -> None:
    """Print a record as a JSON line."""
    say(json.dumps(record))
