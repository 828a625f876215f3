"""The examples run, say what they found, and export what serves alone."""

import ast
import json
import pathlib
import runpy
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = sorted(
    path.stem
    for path in ROOT.glob("examples/*.py")
    if path.stem != "to_notebook"
)
# What makes an example quick: a small model that sees little data, once.
SMALL = {
    "language_modeling": {
        "WIDTH, HEADS, LAYERS, DROPOUT, LENGTH = 96, 4, 2, 0.1, 64": (
            "WIDTH, HEADS, LAYERS, DROPOUT, LENGTH = 16, 2, 1, 0.1, 24"
        ),
        "vocabulary_size=1000": "vocabulary_size=300",
        "train[:700]": "train[:64]",
    },
    "summarization": {
        "WIDTH, HEADS, LAYERS, DROPOUT = 64, 4, 2, 0.1": (
            "WIDTH, HEADS, LAYERS, DROPOUT = 16, 2, 1, 0.5"
        ),
        # Else the few updates show no difference in three decimals.
        "warmup_target=2e-3": "warmup_target=2e-2",
        "VOCABULARY, TEXT_LENGTH, SUMMARY_LENGTH = 150, 56, 24": (
            "VOCABULARY, TEXT_LENGTH, SUMMARY_LENGTH = 120, 24, 12"
        ),
        "pairs[:800], pairs[800:1000], pairs[1000:1300]": (
            "pairs[:352], pairs[800:832], pairs[1000:1032]"
        ),
    },
    "text_classification": {
        "WIDTH, HEADS, LAYERS, DROPOUT, LENGTH = 64, 4, 2": (
            "WIDTH, HEADS, LAYERS, DROPOUT, LENGTH = 16, 2, 1"
        ),
        "1500": "128",
        "3000": "250",
    },
    "translation": {
        "WIDTH, HEADS, LAYERS, DROPOUT = 64, 4, 2": (
            "WIDTH, HEADS, LAYERS, DROPOUT = 16, 2, 1"
        ),
        "pairs[:500], pairs[500:700], pairs[700:1000]": (
            "pairs[:64], pairs[500:532], pairs[700:732]"
        ),
        "LENGTH, VOCABULARY = 32, 240": "LENGTH, VOCABULARY = 32, 100",
    },
    "vision_transformer": {
        "WIDTH, HEADS, BLOCKS, DROPOUT = 48, 4, 2": (
            "WIDTH, HEADS, BLOCKS, DROPOUT = 16, 2, 1"
        ),
    },
}
# The endpoint of each SavedModel and the type and shape of its output for a
# batch of three.
ENDPOINTS = {
    "language_modeling": ("generate", ["string", [3]]),
    "summarization": ("summarize", ["string", [3]]),
    "text_classification": ("classify", ["float32", [3, 20]]),
    "translation": ("translate", ["string", [3]]),
    "vision_transformer": ("serve", ["float32", [3, 10]]),
}

SERVE = """
import json, sys
for name in ("rdrop_keras", "keras_hub", "keras_nlp"):
    sys.modules[name] = None
import tensorflow as tf
images = sys.argv[1] == "images"
if images:
    sys.modules["keras"] = None
    inputs = tf.zeros([3, 8, 8, 1], tf.uint8)
else:
    # It imports Keras itself.
    import tensorflow_text
    inputs = tf.constant(["The value of an object", "Montag, 3. Mai 2021", ""])
for path, endpoint in zip(sys.argv[2::2], sys.argv[3::2]):
    served = tf.saved_model.load(path)
    outputs = getattr(served, endpoint)(inputs)
    print(json.dumps([outputs.dtype.name, outputs.shape.as_list()]))
"""


def run(*command):
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False
    )


def source_of(name):
    return (ROOT / "examples" / f"{name}.py").read_text("utf-8")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return tmp_path_factory.mktemp("outputs")


def test_all_are_there():
    assert list(ENDPOINTS) == list(SMALL) == EXAMPLES


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=pytest.mark.since(
                "0.26", package="keras_hub", reason="BART cannot be exported"
            )
            if name == "summarization"
            else (),
        )
        for name in EXAMPLES
    ],
)
def test_runs(name, outputs, monkeypatch, capfd):
    source = source_of(name)
    for setting, small in SMALL[name].items():
        assert setting in source
        source = source.replace(setting, small)
    path = outputs / f"{name}.py"
    path.write_text(source, "utf-8")
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("EPOCHS", "1")
    monkeypatch.setenv("SEEDS", "1")
    monkeypatch.setenv("OUTPUT", str(outputs / name))
    # In this process, because a new one imports for ten seconds.
    runpy.run_path(str(path), run_name="__main__")
    printed = capfd.readouterr().out
    rows = [line.split() for line in printed.splitlines() if line.strip()]
    [plain] = [row for row in rows if row[0] == "plain"]
    [rdrop] = [row for row in rows if row[0] == "R-Drop"]
    assert len(plain) == len(rdrop) > 1
    for value in plain[1:] + rdrop[1:]:
        assert float(value) >= 0
    # Only R-Drop has a second pass to compare with, and it makes a difference.
    assert plain[1:] != rdrop[1:]
    if name != "vision_transformer":
        assert printed.count("consistency_loss: ") == 1
    picture = (outputs / name / "curves.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 5_000


@pytest.mark.parametrize("images", [False, True], ids=["texts", "images"])
def test_what_they_export_serves_alone(images, outputs):
    names = [name for name in EXAMPLES if ("vision" in name) is images]
    names = [name for name in names if (outputs / name).exists()]
    if not names:
        pytest.skip("no example has run")
    arguments = []
    for name in names:
        # Of those that export both models, that of R-Drop.
        [exported] = {
            path.parent
            for path in (outputs / name).rglob("saved_model.pb")
            if path.parent.name != "plain"
        }
        arguments += [exported, ENDPOINTS[name][0]]
    served = run("-c", SERVE, "images" if images else "texts", *arguments)
    assert served.returncode == 0, served.stderr[-3000:]
    found = [json.loads(line) for line in served.stdout.splitlines()]
    assert found == [ENDPOINTS[name][1] for name in names]


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
