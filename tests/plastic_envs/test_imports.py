"""Imports run one way, late and typing-only ones included, and no folder is a heap."""

import ast
import subprocess
import sys
from pathlib import Path

import plastic_envs

ROOT = Path(plastic_envs.__file__).parent
MODULES = {
    ".".join(("plastic_envs", *path.relative_to(ROOT).with_suffix("").parts)): path
    for path in ROOT.rglob("*.py")
}


def imports(name):
    """The modules of the package that a module names anywhere in its text, itself left out."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            named = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for target in named:
            found |= {target, f"{target}.__init__"} & MODULES.keys()
    return found - {name}


def test_there_is_no_circle():
    left = {name: imports(name) for name in MODULES}
    while free := [name for name, wanted in left.items() if not wanted & left.keys()]:
        for name in free:
            del left[name]
    assert not left


def test_drawing_knows_no_task():
    for name in MODULES:
        if name.startswith("plastic_envs.rendering"):
            assert not any("tasks" in wanted for wanted in imports(name))


def test_no_folder_has_more_than_twelve_modules():
    for folder in {path.parent for path in MODULES.values()}:
        assert len([path for path in folder.glob("*.py") if path.stem != "__init__"]) <= 12


def test_drawing_and_reading_cost_nothing_until_they_are_asked_for():
    code = "import sys, plastic_envs; print({'matplotlib', 'PIL', 'torch'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
