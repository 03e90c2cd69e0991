"""The options of a core, which policies and features extractors take in several places."""

from collections.abc import Mapping
from typing import Any

from agents.core import Factory, core_takes
from agents.plastic.cells import Cell
from agents.plastic.rules import Rule
from plastic_envs.checks import check_int, shown

HIDDEN_SIZE = 64
"""Units of a core with a `hidden_size`, unless told otherwise."""

_ELSEWHERE = {
    "core": "has its own place",
    "output_size": "has its own place",
    "input_size": "follows from the observations",
    "encoder": "is the features extractor's",
    "generator": "is torch's own",
}


def gathered(
    core: str | Factory,
    hidden_size: int | None,
    rule: str | Rule | None,
    cell: str | Cell | None,
    core_kwargs: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the options for `make_core`.

    Args:
        core: The core.
        hidden_size: Its units; None for 64, if it takes such an option.
        rule: Its rule; None for its own default, as for the cell.
        cell: Its cell.
        core_kwargs: Further options, or these.

    Raises:
        ValueError: If there is no such core, or something is out of place or given twice.
    """
    for name, reason in _ELSEWHERE.items():
        if name in core_kwargs:
            raise ValueError(f"core_kwargs must not hold {name!r}, which {reason}")
    named = {"hidden_size": hidden_size, "rule": rule, "cell": cell}
    named = {name: value for name, value in named.items() if value is not None}
    for name in named:
        if name in core_kwargs:
            raise ValueError(
                f"core_kwargs holds {name!r}={shown(core_kwargs[name])}, given besides"
            )
    options = named | dict(core_kwargs)
    if core_takes(core, "hidden_size"):
        options.setdefault("hidden_size", HIDDEN_SIZE)
    if "hidden_size" in options:
        options["hidden_size"] = check_int("hidden_size", options["hidden_size"], minimum=1)
    return options
