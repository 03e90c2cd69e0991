"""Damage to files, whatever is in them."""

from typing import Any

import numpy as np

_NUMBERS = (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4), b"\0\0\0\x80", b"9" * 12, b"-1")
_CONTENTS = (b"", b"[" * 100_000, b"\xff\xfe", b"{}", b"null", bytes(99))


def damaged(data: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """Return data with some damage, and in words what was done."""
    how = str(rng.choice(["truncated", "flipped", "inserted", "spliced", "renumbered", "other"]))
    # Half of the places are near the beginning, since most bytes of a file are pixels or numbers.
    at = int(rng.integers(len(data) + 1)) if rng.random() < 0.5 else int(rng.integers(200))
    if how == "truncated":
        return data[:at], f"truncated at {at}"
    if how == "flipped":
        changed = bytearray(data)
        for place in [at, *rng.integers(0, len(data) + 1, rng.integers(10))]:
            changed[place : place + 1] = rng.bytes(1)
        return bytes(changed), f"flipped at {at} and elsewhere"
    if how == "inserted":
        return data[:at] + rng.bytes(int(rng.integers(1, 20))) + data[at:], f"inserted at {at}"
    if how == "spliced":
        start, length = int(rng.integers(len(data) + 1)), int(rng.integers(1, 200))
        return data[:at] + data[start : start + length] + data[at:], f"spliced at {at}"
    if how == "renumbered":
        number = _NUMBERS[rng.integers(len(_NUMBERS))]
        return data[:at] + number + data[at + len(number) :], f"{number!r} at {at}"
    content = _CONTENTS[rng.integers(len(_CONTENTS))]
    return content, f"is {content[:20]!r}"


def changed(content: Any, rng: np.random.Generator, odd: tuple[Any, ...]) -> tuple[Any, str]:
    """Return nested dictionaries and lists with one entry odd or left out, and what was done."""
    place, here = "", content
    holder: Any = None
    key: Any = None
    while isinstance(here, dict | list) and here and (holder is None or rng.random() < 0.85):
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        holder, key = here, keys[rng.integers(len(keys))]
        place, here = f"{place}[{key!r}]", here[key]
    value = odd[rng.integers(len(odd))]
    if holder is None:
        return value, f"is {str(value)[:50]!r}"
    if isinstance(holder, dict) and rng.random() < 0.2:
        del holder[key]
        return content, f"without {place}"
    holder[key] = value
    return content, f"with {place} = {str(value)[:50]!r}"
