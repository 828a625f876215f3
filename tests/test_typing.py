"""Type checkers accept README, guide and typical code, and find mistakes."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

import rdrop_keras

pytestmark = pytest.mark.only(
    "tensorflow", reason="sources are alike on every backend"
)
ROOT = pathlib.Path(__file__).resolve().parents[1]
PARENT = pathlib.Path(rdrop_keras.__file__).resolve().parents[1]

RIGHT = """
import keras
import numpy as np

from rdrop_keras import RDrop, RDropMixin, RDropModel, recipes

x, y = np.ones((8, 20)), np.ones((8, 2))
schedules = keras.optimizers.schedules
inputs = keras.Input((20,))
model = RDropModel(inputs, keras.layers.Dense(2)(inputs))
model.compile("adam", "mse", metrics=["mae"], rdrop=5.0)
model.compile(
    keras.optimizers.Adam(1e-3),
    keras.losses.MeanSquaredError(),
    jit_compile=False,
    rdrop=RDrop(2.0, num_passes=3),
)
model.compile("adam", "mse", rdrop=schedules.PolynomialDecay(0.0, 9, 5.0))
model.compile("adam", "mse", rdrop=None)
history = model.fit(x, y, epochs=2, validation_data=(x, y))
losses: list = history.history["loss"]

trainer = RDropModel.from_model(keras.Sequential([keras.layers.Dense(2)]))
trainer.compile("adam", "mse", rdrop=1.0)
trainer.compile(trainer.optimizer, trainer.loss, rdrop=RDrop())
trainer.fit(x, y)
trainer.evaluate(x, y)
trainer.save("trainer.keras")
plan: str = trainer.rdrop_plan()
settings: RDrop | None = trainer.rdrop
loss, y_pred = trainer.compute_rdrop_loss(x, y)


class Stack(RDropMixin, keras.Sequential):
    pass


class Sampled(RDropModel):
    def call(self, inputs, training=None):
        return inputs


def train(model: RDropModel) -> None:
    model.fit(x, y)


Stack([keras.layers.Dense(2)]).compile("adam", "mse", rdrop=1)
sampled = Sampled()
sampled.compile("adam", "mse", rdrop=1, sampler="greedy")
train(sampled)
train(trainer)
"""

# Each line is a mistake.
WRONG = """
model.compile("adam", "mse", rdrop="5")
trainer.compile("adam", "mse", rdrop="5")
model.compile("adam", "mse", rdrop=[1.0])
model.compile("adam", "mse", steps_per_execution="2")
RDrop(num_passes="3")
settings.alpha = 2.0
"""


@pytest.fixture
def sources(tmp_path):
    for page in ("README", "docs/guide"):
        blocks = re.findall(
            r"^```python\n(.*?)^```",
            (ROOT / f"{page}.md").read_text(),
            re.DOTALL | re.MULTILINE,
        )
        name = pathlib.Path(page).name.lower()
        (tmp_path / f"{name}.py").write_text("\n".join(blocks))
    (tmp_path / "right.py").write_text(RIGHT)
    head = "from right import RDrop, model, trainer\nsettings = RDrop()"
    (tmp_path / "wrong.py").write_text(head + WRONG)
    lines = (head + WRONG).splitlines()
    return tmp_path, [("wrong.py", i) for i in range(3, len(lines) + 1)]


def check(command, folder, **kwargs):
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        capture_output=True,
        text=True,
        **kwargs,
    ).stdout


def test_mypy(sources):
    pytest.importorskip("mypy")
    folder, mistakes = sources
    # Keras has types for whoever reads its source; it does not say so.
    (folder / "mypy.ini").write_text(
        "[mypy]\n"
        "[mypy-keras.*]\nfollow_untyped_imports = True\n"
        "[mypy-rdrop_keras.*]\nignore_errors = True\n"
    )
    environment = dict(os.environ)
    if "site-packages" not in PARENT.parts:
        environment["MYPYPATH"] = str(PARENT)
    names = ["readme.py", "guide.py", "right.py", "wrong.py"]
    cache = f"--cache-dir={ROOT / '.mypy_cache'}"
    output = check(["mypy", cache, *names], folder, env=environment)
    found = re.findall(r"^(\w+\.py):(\d+): error", output, re.MULTILINE)
    assert [(name, int(line)) for name, line in found] == mistakes, output


def test_pyright(sources):
    pytest.importorskip("basedpyright")
    folder, mistakes = sources
    (folder / "pyrightconfig.json").write_text(
        json.dumps(
            {"typeCheckingMode": "standard", "extraPaths": [str(PARENT)]}
        )
    )
    output = check(
        ["basedpyright", "--outputjson", "--pythonpath", sys.executable], folder
    )
    found = [
        (
            pathlib.Path(each["file"]).name,
            each["range"]["start"]["line"] + 1,
        )
        for each in json.loads(output)["generalDiagnostics"]
    ]
    assert sorted(found) == mistakes, output
