"""The examples run, say what they found, and export what serves alone."""

import ast
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = sorted(
    path.stem
    for path in ROOT.glob("examples/*.py")
    if path.stem != "to_notebook"
)
# The endpoint of each SavedModel, and what a served batch has to satisfy.
TEXTS = ["The value of an object", "Montag, 3. Mai 2021", ""]
ENDPOINTS = {
    "language_modeling": "generate",
    "summarization": "summarize",
    "text_classification": "classify",
    "translation": "translate",
    "vision_transformer": "serve",
}

SERVE = """
import json, sys
path, endpoint, inputs = sys.argv[1:]
for name in ("rdrop_keras", "keras_hub", "keras_nlp"):
    sys.modules[name] = None
import tensorflow as tf
if endpoint == "serve":
    sys.modules["keras"] = None
else:
    # It imports Keras itself.
    import tensorflow_text
inputs = json.loads(inputs)
if endpoint == "serve":
    inputs = tf.zeros(inputs, tf.uint8)
else:
    inputs = tf.constant(inputs)
served = tf.saved_model.load(path)
outputs = getattr(served, endpoint)(inputs)
json.dump([str(outputs.dtype.name), outputs.shape.as_list()], sys.stdout)
"""


def run(*command, **environment):
    path = os.pathsep.join(
        filter(None, [os.environ.get("PYTHONPATH"), *_source()])
    )
    return subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def _source():
    # Where the package is not installed, from the repository.
    return [] if os.environ.get("RDROP_KERAS_INSTALLED") else [str(ROOT)]


def source_of(name):
    return (ROOT / "examples" / f"{name}.py").read_text("utf-8")


def test_all_are_there():
    assert list(ENDPOINTS) == EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_runs_and_exports_what_serves_alone(name, tmp_path):
    ran = run(
        ROOT / "examples" / f"{name}.py",
        EPOCHS="1",
        SEEDS="1",
        OUTPUT=str(tmp_path),
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    rows = [line.split() for line in ran.stdout.splitlines() if line.strip()]
    [plain] = [row for row in rows if row[0] == "plain"]
    [rdrop] = [row for row in rows if row[0] == "R-Drop"]
    assert len(plain) == len(rdrop) > 1
    for value in plain[1:] + rdrop[1:]:
        assert float(value) >= 0
    # Only R-Drop has a second pass to compare with, and it makes a difference.
    assert plain[1:] != rdrop[1:]
    if name != "vision_transformer":
        assert ran.stdout.count("consistency_loss: ") == 1

    picture = (tmp_path / "curves.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 5_000

    # Of those that export both models, that of R-Drop.
    [exported] = {
        path.parent
        for path in tmp_path.rglob("saved_model.pb")
        if path.parent.name != "plain"
    }
    inputs = [3, 8, 8, 1] if name == "vision_transformer" else TEXTS
    served = run(
        "-c",
        SERVE,
        exported,
        ENDPOINTS[name],
        json.dumps(inputs),
    )
    assert served.returncode == 0, served.stderr[-3000:]
    expected = {
        "text_classification": ["float32", [3, 20]],
        "vision_transformer": ["float32", [3, 10]],
    }
    assert json.loads(served.stdout) == expected.get(name, ["string", [3]])


@pytest.mark.parametrize("name", EXAMPLES)
def test_is_one_page_that_imports_no_other(name):
    source = source_of(name)
    assert 80 <= len(source.splitlines()) <= 200
    modules = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            modules.add(node.module.partition(".")[0])
    assert "rdrop_keras" in modules
    own = {path.stem for path in ROOT.iterdir()} | set(EXAMPLES)
    assert modules & own == {"rdrop_keras"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_converts_to_a_notebook(name, tmp_path):
    path = tmp_path / "notebook.ipynb"
    converted = run(
        ROOT / "examples/to_notebook.py", ROOT / f"examples/{name}.py", path
    )
    assert converted.returncode == 0, converted.stderr
    cells = json.loads(path.read_text("utf-8"))["cells"]
    by_type = {"markdown": [], "code": []}
    for cell in cells:
        by_type[cell["cell_type"]].append("".join(cell["source"]))
    title, introduction, *_ = by_type["markdown"]
    assert all(f"{key}: " in title for key in ("Title", "Description"))
    assert "Runtime: about" in title and "## Introduction" in introduction

    # The text and the code of the cells, in order, are the example.
    source = source_of(name)
    for cell in cells:
        before, found, source = source.partition("".join(cell["source"]))
        assert found and not before.strip('"\n')
    assert not source.strip('"\n')
    for code in by_type["code"]:
        compile(code, name, "exec")
        # A notebook has neither.
        assert "__file__" not in code and "sys.argv" not in code
