"""How the modules hang together: no circles, imports one way, no heaps."""

import ast
import re
from collections import deque
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("plastic_envs", "agents", "train", "benchmarks")
MOST_MODULES = 12  # of a folder


def name_of(path):
    """Return the dotted name of a module of the repository; a package's is that of its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    name_of(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))
}


def imports_of(name):
    """Return the modules that one imports, wherever: in functions and for type checkers, too."""
    path, found = MODULES[name], set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level]
            origin = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            parts = {f"{origin}.{alias.name}" for alias in node.names}
            found |= {part if part in MODULES else origin for part in parts}
    return found & MODULES.keys()


@pytest.fixture(scope="module")
def imports():
    return {name: imports_of(name) for name in MODULES}


def circle_through(name, imports):
    """Return the shortest way along imports from a module back to it, or None."""
    came_from, waiting = {}, deque([name])
    while waiting:
        at = waiting.popleft()
        for following in sorted(imports[at]):
            if following == name:
                way = [at, name]
                while way[0] != name:
                    way.insert(0, came_from[way[0]])
                return way
            if following not in came_from:
                came_from[following] = at
                waiting.append(following)
    return None


def test_no_imports_go_in_circles(imports):
    circles = {}
    for name in imports:
        if (way := circle_through(name, imports)) is not None:
            circles.setdefault(frozenset(way), way)
    assert not circles, "\n".join(" -> ".join(way) for way in circles.values())


def test_circles_are_found():
    imports = {"a": {"b"}, "b": {"c", "d"}, "c": {"b"}, "d": {"a"}, "e": {"a"}, "f": {"f"}}
    ways = {name: circle_through(name, imports) for name in imports}
    assert ways == {
        "a": ["a", "b", "d", "a"],
        "b": ["b", "c", "b"],
        "c": ["c", "b", "c"],
        "d": ["d", "a", "b", "d"],
        "e": None,
        "f": ["f", "f"],
    }


def test_imports_in_functions_and_for_type_checkers_count(tmp_path, monkeypatch):
    code = """
from typing import TYPE_CHECKING
from . import cells
from .ops import closed, nothing
if TYPE_CHECKING:
    import train.cli
def late():
    from plastic_envs.checks import shown
"""
    path = tmp_path / "network.py"
    path.write_text(code)
    others = ("agents.plastic.cells", "agents.plastic.ops", "agents.plastic.ops.closed")
    names = (*others, "train.cli", "plastic_envs.checks")
    modules = dict.fromkeys((*names, "agents.plastic.network"), path)
    monkeypatch.setitem(globals(), "MODULES", modules)
    assert imports_of("agents.plastic.network") == set(names)


def targets(imports, of, into):
    """Return the pairs of importing and imported modules between two packages."""
    return {
        (name, target)
        for name, found in imports.items()
        for target in found
        if name.split(".")[0] == of and target.split(".")[0] == into
    }


def test_imports_point_one_way(imports):
    forbidden = [("plastic_envs", "agents"), ("plastic_envs", "train"), ("agents", "train")]
    forbidden += [(package, "benchmarks") for package in ("plastic_envs", "agents", "train")]
    for of, into in forbidden:
        assert targets(imports, of, into) == set()


def test_networks_take_only_checks_from_the_environments(imports):
    taken = {
        (name, target)
        for name, target in targets(imports, "agents", "plastic_envs")
        if not f"{name}.".startswith("agents.sb3.")
    }
    assert {target for _, target in taken} <= {"plastic_envs.checks", "plastic_envs.project"}, taken


@pytest.mark.parametrize("top", [*PACKAGES, "tests", "examples"])
def test_no_folder_is_a_heap(top):
    folders = {path.parent for path in (ROOT / top).rglob("*.py")}
    modules = {
        str(folder.relative_to(ROOT)): len(
            [p for p in folder.glob("*.py") if p.name not in ("__init__.py", "conftest.py")]
        )
        for folder in folders
    }
    heaps = {name: count for name, count in modules.items() if count > MOST_MODULES}
    assert not heaps


@pytest.mark.parametrize("package", ["train", "benchmarks"])
def test_programs_do_not_ask_what_a_core_is(package):
    asks = re.compile(r"isinstance\(.*PlasticNetwork")
    paths = (ROOT / package).rglob("*.py")
    found = {str(path.relative_to(ROOT)) for path in paths if asks.search(path.read_text())}
    assert not found
