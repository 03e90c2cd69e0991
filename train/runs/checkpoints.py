"""What checkpoints hold, and reading them from files that anybody may have made.

A file can neither run code nor take more memory or time than its size warrants: archives must be
uncompressed, and of pickles only what the state of a network needs is accepted. Whatever is read
is then compared with what the settings of the run lead to expect.
"""

import hashlib
import io
import json
import pickletools
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from plastic_envs.checks import check_int, check_number, shown
from train.runs.records import Record

_KNOWN = """
    PROTO STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS
    GLOBAL REDUCE BUILD BINPERSID BINPUT LONG_BINPUT BINGET LONG_BINGET
"""
_OPCODES = frozenset(_KNOWN.split())
_FUNCTIONS = ("collections OrderedDict", "torch._utils _rebuild_tensor_v2")
_STORAGES = tuple(f"torch {kind}Storage" for kind in ("Float", "Double", "Long", "Int", "Bool"))
_STATE = {"step", "exp_avg", "exp_avg_sq"}  # of Adam, for each parameter


@dataclass(frozen=True)
class Standing:
    """How far a run has come: what it takes to go on, besides networks and optimisers.

    Attributes:
        step: Steps of training.
        seconds: Of training.
        best: Step and `val_score` of the best validation.
        metrics: Number of `records` of validations, and the `sha256` of their lines.
        config: Settings of the run, as JSON.
    """

    step: int
    seconds: float
    best: Record
    metrics: Record
    config: str

    def content(self) -> Record:
        """Return the standing as a checkpoint holds it."""
        return asdict(self)

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> "Standing":
        """Read what `content` returned, from a checkpoint that holds more than that.

        Raises:
            ValueError: If something is missing or of the wrong type.
        """
        with_keys(content, cls.__annotations__, extra=True)
        step = check_int("step", content["step"], maximum=2**63)
        seconds = check_number("seconds", content["seconds"], minimum=0)
        best, metrics, config = (content[name] for name in ("best", "metrics", "config"))
        with_keys(best, ("step", "val_score"), "best")
        check_int("best step", best["step"], maximum=step)
        if not isinstance(best["val_score"], int | float):  # of a foreign environment maybe nan
            raise ValueError(f"best val_score must be a number, got {shown(best['val_score'])}")
        with_keys(metrics, ("records", "sha256"), "metrics")
        check_int("metrics records", metrics["records"], minimum=1)
        for name, text in (("sha256", metrics["sha256"]), ("config", config)):
            if not isinstance(text, str):
                raise ValueError(f"{name} must be text, got {shown(text)}")
        return cls(step, seconds, dict(best), dict(metrics), config)


def digest(lines: Iterable[bytes]) -> Record:
    """Return what a checkpoint says of the lines of metrics that belong to it."""
    lines = list(lines)
    return {"records": len(lines), "sha256": hashlib.sha256(b"".join(lines)).hexdigest()}


def with_keys(
    content: Any, names: Iterable[str], what: str = "content", *, extra: bool = False
) -> None:
    """Check that a mapping has these keys and, unless told otherwise, no others.

    Raises:
        ValueError: If it has not.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"{what} must be a dictionary, got {shown(content)}")
    names = set(names)
    if missing := sorted(names - content.keys()):
        raise ValueError(f"{what} has no {missing[0]!r}")
    if not extra and (unknown := content.keys() - names):
        raise ValueError(f"{what} has an unknown {shown(min(unknown, key=repr))}")


@contextmanager
def reading_checkpoint(path: Path) -> Iterator[None]:
    """Let whatever goes wrong in reading a checkpoint name it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is no file"
            if path.exists()
            else f"{path} does not exist: it was removed, or the run has not come that far"
        )
    try:
        yield
    except PermissionError:
        raise
    except Exception as error:  # damaged archives raise nearly everything
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ValueError(
            f"{path} cannot be read: damaged, or not a checkpoint ({reason})"
        ) from error


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Let whatever does not fit of a checkpoint that could be read name it.

    Raises:
        ValueError: If something does not fit.
    """
    try:
        yield
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} does not fit the settings of its run: {reason}") from error


def checked_archive(file: IO[bytes]) -> zipfile.ZipFile:
    """Open an archive whose members are plain, together no larger than it, and undamaged."""
    archive = zipfile.ZipFile(file)
    members = archive.infolist()
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise zipfile.BadZipFile(f"{shown(member.filename)} is compressed or encrypted")
    if sum(member.file_size for member in members) > file.seek(0, io.SEEK_END):
        raise zipfile.BadZipFile("its members are larger than the file")
    if len({member.filename for member in members}) < len(members):
        raise zipfile.BadZipFile("it has two members of one name")
    if (damaged := archive.testzip()) is not None:
        raise zipfile.BadZipFile(f"wrong checksum of {shown(damaged)}")
    return archive


def read_tensors(file: IO[bytes]) -> Any:
    """Read what `torch.save` wrote of dictionaries, lists, numbers, texts and dense tensors."""
    archive = checked_archive(file)
    name = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
    if name is None:
        raise zipfile.BadZipFile("it is no file of torch")
    _check_pickle(archive, name)
    file.seek(0)
    return torch.load(file, map_location="cpu", weights_only=True)


def read_json(archive: zipfile.ZipFile, name: str) -> Any:
    """Read a small member of a checked archive as JSON."""
    if archive.getinfo(name).file_size > 2**20:
        raise zipfile.BadZipFile(f"{name} is larger than 1 MiB")
    return json.loads(archive.read(name))


def _check_pickle(archive: zipfile.ZipFile, name: str) -> None:
    """Check that a pickle makes each object once, by functions whose work its size bounds.

    Containers that hold one another several times over grow exponentially as soon as they are
    compared or hashed; the state of networks has texts and classes alone in several places.
    """
    kinds: dict[int, str] = {}
    last = ""
    for opcode, argument, _ in pickletools.genops(archive.read(name)):
        found: Any = argument
        if opcode.name not in _OPCODES:
            raise zipfile.BadZipFile(f"it holds {opcode.name}, which no checkpoint does")
        if opcode.name == "GLOBAL" and found not in (*_FUNCTIONS, *_STORAGES):
            raise zipfile.BadZipFile(f"it holds {shown(found)}, which no checkpoint does")
        if opcode.name in ("BINPUT", "LONG_BINPUT"):
            kinds[found] = last
        elif opcode.name in ("BINGET", "LONG_BINGET") and kinds.get(found) not in (
            "GLOBAL",
            "BINUNICODE",
        ):
            raise zipfile.BadZipFile("it holds one object in several places")
        last = opcode.name


def load_parameters(module: nn.Module, saved: Any) -> None:
    """Copy parameters and buffers of a checkpoint into a network.

    Raises:
        ValueError: If they are of another network, or not finite.
    """
    ours = module.state_dict()
    with_keys(saved, ours, "the network")
    for name, tensor in ours.items():
        _check_tensor(name, saved[name], tensor)
    module.load_state_dict(saved)


def load_optimizer(optimizer: torch.optim.Optimizer, saved: Any, *, begun: bool) -> None:
    """Copy the state of Adam or AdamW from a checkpoint; its settings follow from those of the run.

    Args:
        optimizer: Where to copy it.
        saved: What its `state_dict` returned.
        begun: Whether it had taken a step then.

    Raises:
        ValueError: If it is that of another network, or not finite.
    """
    with_keys(saved, ("state", "param_groups"), "the optimizer")
    ours = optimizer.state_dict()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    states: Any = saved["state"]
    if not isinstance(states, Mapping) or not states.keys() <= set(range(len(parameters))):
        raise ValueError("the optimizer is of other parameters")
    missing = {k for k, p in enumerate(parameters) if p.requires_grad} - states.keys()
    if begun and missing:
        raise ValueError(
            f"the optimizer has no state of parameter {min(missing)}, though the run has begun"
        )
    for index, state in states.items():
        amsgrad = {"max_exp_avg_sq"} if optimizer.defaults["amsgrad"] else set()
        with_keys(state, _STATE | amsgrad, f"the optimizer's state {index}")
        for name, value in state.items():
            like = torch.zeros(()) if name == "step" else parameters[index]
            _check_tensor(f"{name} of the optimizer's state {index}", value, like)
            if name != "exp_avg" and value.numel() and value.min() < 0:
                raise ValueError(f"{name} of the optimizer's state {index} is negative")
    optimizer.load_state_dict({"state": dict(states), "param_groups": ours["param_groups"]})


def _check_tensor(name: str, value: Any, like: Tensor) -> None:
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} must be a tensor, got {shown(value)}")
    found, wanted = (f"{list(part.shape)} of {part.dtype}" for part in (value, like))
    if found != wanted or value.layout != torch.strided or value.device.type != "cpu":
        raise ValueError(f"{name} must be {wanted}, got {found} ({value.layout}, {value.device})")
    if value.is_floating_point() and not value.isfinite().all():
        raise ValueError(f"{name} has values that are not finite")
