"""Builds of compiled code, one for each instruction set: finding the best that can be used.

A build is a library in plain C that knows nothing of Python, opened with `ctypes`. It is told by
one struct where everything lies. A build of another version of the source would read it wrongly; so
each exports version and size of its struct, and is as none where they are not those of the caller.
"""

import ctypes
import importlib.util
import logging

import torch

logger = logging.getLogger(__name__)

_REMEDY = "`pip install --no-deps --force-reinstall .` or `python setup.py build_ext --inplace`"


def find(
    name: str, symbol: str, interface: tuple[int, int], functions: list[str]
) -> tuple[ctypes.CDLL | None, str]:
    """Load the build for the best instruction set of this processor.

    Args:
        name: Of the builds, up to the instruction set: `agents.plastic.ops.cpu._kernel`.
        symbol: Under which a build exports its interface, up to `_version` and `_size`.
        interface: Version and size of the struct that the caller fills.
        functions: Names of functions of a struct and two integers, that return an integer.

    Returns:
        The library, or None; and what was found instead.
    """
    found = "its kernel was not built"
    for instructions in _instruction_sets():
        spec = importlib.util.find_spec(f"{name}_{instructions}")
        if spec is None or spec.origin is None:
            continue
        try:
            library = ctypes.CDLL(spec.origin)
        except OSError as error:
            logger.warning("the compiled kernel %s cannot be loaded: %s", spec.origin, error)
            found = f"its kernel {spec.origin} cannot be loaded"
            continue
        theirs = interface_of(library, symbol)
        if theirs != interface:
            if "another version" not in found:  # one warning for all builds of an installation
                found = (
                    f"its kernel {spec.origin} was built from another version of its source "
                    f"(interface {theirs}, needed {interface}); build it anew in the folder of the "
                    f"source with {_REMEDY}"
                )
                logger.warning("the compiled form is not used: %s", found)
            continue
        for each in functions:
            function = getattr(library, each)
            function.argtypes = [ctypes.c_char_p, ctypes.c_int64, ctypes.c_int64]
            function.restype = ctypes.c_int
        return library, found
    return None, found


def interface_of(library: ctypes.CDLL, symbol: str) -> tuple[int, int]:
    """Return version and size of the struct that a build takes; zeros if it does not say."""
    try:
        version = ctypes.c_int64.in_dll(library, f"{symbol}_version")
        size = ctypes.c_int64.in_dll(library, f"{symbol}_size")
    except ValueError:
        return 0, 0
    return version.value, size.value


def _instruction_sets() -> list[str]:
    best = torch.backends.cpu.get_cpu_capability().lower()
    order = ["avx512", "avx2", "default"]
    return order[order.index(best) :] if best in order else ["default"]
