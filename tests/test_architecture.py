"""docs/architecture.md is true: rooms, files, and the direction of imports."""

import ast
import pathlib
import re

import pytest

from rdrop_keras.passes import WAYS
from rdrop_keras.rdrop import PASSES

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "rdrop_keras"
PAGE = (ROOT / "docs/architecture.md").read_text()

# From the top to the bottom. A module imports from its own room and below.
ROOMS = [
    {"__init__"},
    {"callbacks"},
    {"mixin", "model", "from_model", "in_call", "own_logs"},
    {"training"},
    {"layers", "losses"},
    {"contrib"},
    {"objective"},
    {"passes"},
    {"closed_form"},
    {"rdrop", "recipes", "convert"},
    {"arguments"},
    {"divergences"},
    {"distribution"},
    {"_keras"},
    {"_context", "_version"},
]
FLOOR = {name: floor for floor, names in enumerate(ROOMS) for name in names}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            if node.module == "rdrop_keras":
                yield from (alias.name for alias in node.names)
            elif (node.module or "").startswith("rdrop_keras."):
                yield node.module.split(".")[1]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.name)
def test_imports_go_down(path):
    floor = FLOOR[room_of(path)]
    for name in imports_of(path):
        # A package's `__init__` reads the version beside the public names.
        assert FLOOR[name] >= floor, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.name)
def test_modules_are_short(path):
    if path.parts[-2:] == ("recipes", "table.py"):
        pytest.skip("one table of data")
    assert len(path.read_text().splitlines()) < 280


def test_only_training_names_a_backend():
    for path in MODULES:
        if path.parts[-2:] == ("closed_form", "torch.py"):
            continue
        named = re.findall(
            r"^\s*(?:import|from) (tensorflow|jax|torch)\b",
            path.read_text(),
            re.MULTILINE,
        )
        assert not named or room_of(path) in ("training", "distribution"), path


def test_every_way_of_running_passes_is_a_setting():
    assert {way.name for way in WAYS} == set(PASSES) - {"auto"}
    assert WAYS[-1].fits(None, None)


def test_figure_has_every_room():
    figure = re.search(r"```mermaid\n(.*?)```", PAGE, re.DOTALL)[1]
    rooms = {
        path.parent.name
        for path in PACKAGE.glob("*/__init__.py")
        if path.parent.name != "recipes"
    }
    assert set(re.findall(r'\["(\w+)/', figure)) == rooms
    for name in re.findall(r"\b(\w+\.py)", figure):
        assert (PACKAGE / name).is_file()


def test_every_file_exists():
    table = PAGE[PAGE.index("## Where does it go?") :]
    paths = re.findall(r"`([\w/.]+/[\w.]*)`", table)
    assert len(paths) > 15
    for path in paths:
        assert (ROOT / path).exists(), path
