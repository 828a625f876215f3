"""The code, links and commands in README, docs and docstrings are true."""

import doctest
import importlib.util
import pathlib
import pkgutil
import re
import shlex

import keras
import numpy as np
import other_backend
import pytest
import tensorflow as tf

import rdrop_keras
from reproduce.__main__ import parse
from reproduce.common.errors import InputError

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = sorted(
    path.relative_to(ROOT)
    for path in [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/*.md"),
        *ROOT.glob("reproduce/**/*.md"),
        *ROOT.glob("rdrop_keras/**/*.md"),
    ]
)
# The modules of a backend need the backend.
MISSING = tuple(
    f".{name}"
    for name in ("jax", "torch")
    if importlib.util.find_spec(name) is None
)
MODULES = ["rdrop_keras"] + [
    module.name
    for module in pkgutil.walk_packages(rdrop_keras.__path__, "rdrop_keras.")
    if not module.name.removesuffix("_processes").endswith(MISSING)
]
PUBLIC = [
    *(getattr(rdrop_keras, name) for name in ("RDrop", "RDropMixin")),
    rdrop_keras.RDropModel,
    rdrop_keras.convert_alpha,
    rdrop_keras.callbacks.BackupAndRestore,
    rdrop_keras.callbacks.ConsistencyMonitor,
    *(getattr(rdrop_keras.losses, name) for name in rdrop_keras.losses.__all__),
    *(getattr(rdrop_keras.layers, name) for name in rdrop_keras.layers.__all__),
    rdrop_keras.recipes.Recipe,
    rdrop_keras.recipes.get,
    rdrop_keras.recipes.names,
    rdrop_keras.recipes.InverseSquareRoot,
    rdrop_keras.recipes.LinearWarmup,
    rdrop_keras.recipes.PerUpdate,
]


# A trainer of a loaded model says so, also where it is compiled right after.
@pytest.mark.filterwarnings("ignore:The model .* is compiled already")
# KerasTuner 1.4.8 calls functions of threads by their old names.
@pytest.mark.filterwarnings("ignore::DeprecationWarning:keras_tuner.*")
@pytest.mark.only("tensorflow", reason="pages show TensorFlow first")
@pytest.mark.parametrize("page", PAGES, ids=str)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    text = (ROOT / page).read_text()
    blocks = re.findall(
        r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE
    )
    # A page whose code is no longer found would pass untested.
    expected = {
        "README.md": 1,
        "docs/guide.md": 4,
        "docs/objective.md": 2,
        "docs/monitoring.md": 1,
    }
    assert len(blocks) >= expected.get(page.as_posix(), 0)
    monkeypatch.chdir(tmp_path)
    # Programs that choose a backend run by themselves.
    blocks = [b for b in blocks if '["KERAS_BACKEND"]' not in b]
    namespace = {"keras": keras, "np": np, "rdrop_keras": rdrop_keras}
    for block in blocks:
        exec(compile(block, str(page), "exec"), namespace)


@pytest.mark.only("tensorflow", reason="starts the other backends itself")
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_training_loops_of_other_backends_run(backend, tmp_path):
    text = (ROOT / "docs/backends.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)
    (block,) = [b for b in blocks if f'"KERAS_BACKEND"] = "{backend}"' in b]
    assert 0 < float(other_backend.run(backend, block, tmp_path)) < 2


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#]+)", text):
        if not target.startswith("http"):
            assert (ROOT / page).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands_exist(page):
    text = (ROOT / page).read_text()
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    for target in re.findall(r"\bmake ([a-z-]+)\b", text):
        if f"`make {target}" in text or f"\nmake {target}" in text:
            assert target in targets
    for module in re.findall(
        r"python -m ((?:reproduce|benchmarks)[\w.]*)", text
    ):
        path = ROOT.joinpath(*module.split("."))
        assert path.is_dir() or path.with_suffix(".py").is_file(), module
    for script in re.findall(r"python (examples/\w+\.py)", text):
        assert (ROOT / script).is_file()


def test_commands_of_the_program_have_flags_that_exist():
    verbs = "train|compare|generate|score|evaluate"
    command = rf"python -m reproduce ((?:{verbs}) (?:[^\n`\\]|\\\n)+)"
    texts = [(ROOT / page).read_text() for page in PAGES]
    texts.append((ROOT / "Makefile").read_text())
    found = [c for text in texts for c in re.findall(command, text)]
    # Names of verbs and tasks in running text have no flags.
    found = [c for c in found if " --" in c and "--help" not in c]
    assert len(found) > 20
    for command in found:
        words = command.replace("\\\n", " ").split(" < ")[0]
        verb, task, *flags = shlex.split(words)
        try:
            parse(verb, task, flags)
        except InputError as error:
            # Of a preset that stands for the reader's.
            assert "No such file" in str(error), command


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    module = importlib.import_module(name)
    results = doctest.testmod(
        module,
        extraglobs={
            "keras": keras,
            "np": np,
            "tf": tf,
            "rdrop_keras": rdrop_keras,
        },
        optionflags=doctest.NORMALIZE_WHITESPACE,
    )
    assert results.failed == 0


@pytest.mark.parametrize("thing", PUBLIC, ids=lambda thing: thing.__name__)
def test_public_docstrings_are_whole(thing):
    parts = ["Args:"]
    if thing is not rdrop_keras.losses.Divergence:
        parts += ["Example:", "arxiv.org/abs/2106.14448"]
    if thing is rdrop_keras.RDropMixin:
        parts.remove("Args:")
    if thing is rdrop_keras.callbacks.BackupAndRestore:
        parts.remove("arxiv.org/abs/2106.14448")
    for part in parts:
        assert part in thing.__doc__


def test_docstring_examples_are_found():
    finder = doctest.DocTestFinder()
    count = sum(
        len(test.examples)
        for name in MODULES
        for test in finder.find(importlib.import_module(name))
    )
    assert count > 30
