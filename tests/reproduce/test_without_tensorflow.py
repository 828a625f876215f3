"""Models, batches and decoding on JAX, where TensorFlow cannot be imported."""

import json
import math
import subprocess
import sys

import other_backend
import pytest

pytest.importorskip("jax")
# Older releases of KerasHub, without this package, tokenize with TensorFlow.
pytest.importorskip("tokenizers")

pytestmark = pytest.mark.only("tensorflow", reason="starts JAX itself")

# Flags that make the data of a task small.
FLAGS = {
    "translation": "--train-pairs=60 --vocabulary-size=120 --max-tokens=128",
    "language_modeling": "--train-words=2000 --vocabulary-size=120",
    "summarization": "--train-pairs=40 --vocabulary-size=160 --warm-up=1",
    "text_classification": "",
    "image_classification": "",
}
SCRIPT = """
import dataclasses, importlib, json, pathlib, pkgutil, sys, tempfile

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "tensorflow_text"):
            raise ModuleNotFoundError(f"{name} was imported", name=name)

sys.meta_path.insert(0, Refused())
import keras, numpy as np
import reproduce
from reproduce.__main__ import TASKS, parse, task_of

assert keras.backend.backend() == "jax"
for module in pkgutil.walk_packages(reproduce.__path__, "reproduce."):
    if not module.name.startswith("reproduce.export."):
        importlib.import_module(module.name)
from reproduce.data import docstrings
docstrings.PACKAGES = ("numpy", "keras")
from reproduce.models import bart, sizes
tables = (sizes.TRANSLATION_SIZES, sizes.LANGUAGE_SIZES, bart.CONFIGURATIONS)
for table in tables:
    table["tiny"] = dataclasses.replace(
        table["tiny"], num_layers=1, width=16, feed_forward=16, num_heads=2
    )

def texts(run):
    corpus = run.corpus.valid.sources[:3]
    return run.generator(beam_size=2).generate(corpus)

found = {}
for name, flags in json.loads(sys.argv[1]).items():
    keras.utils.set_random_seed(0)
    task = task_of(name)
    settings = parse("train", name, ["--arm=plain", *flags.split()])
    data = task.load(settings)
    run = task.begin(data, settings)
    x, y = run.batches(lambda: 0)[0]
    outputs = run.model(x, training=True)
    facts = {"classes": outputs.shape[-1], "rows": len(y)}
    loss = run.model.compute_loss(x, y, outputs)
    facts["loss"] = float(loss)
    if name in ("translation", "summarization"):
        facts["texts"] = texts(run)
    if name == "language_modeling":
        from reproduce.decoding.generator import Generator
        stream = run.streams["valid"]
        part = dataclasses.replace(stream, ids=stream.ids[:600], words=300)
        facts["nats"] = run.measure(part).loss
        sampling = dataclasses.replace(settings.sampling, new_tokens=4)
        generator = Generator(run.model, run.vocabulary, sampling)
        facts["texts"] = generator.go_on(["The", "A function is"])
    found[name] = facts
assert not [name for name in sys.modules if name.startswith("tensorflow")]
json.dump(found, sys.stdout)
"""


@pytest.fixture(scope="module")
def found():
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, json.dumps(FLAGS)],
        env=other_backend.environment("jax"),
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", FLAGS)
def test_task_makes_a_model_and_batches(found, name):
    facts = found[name]
    assert facts["rows"] > 0
    # The loss of weights that have learned nothing is about that of chance.
    assert 0.5 < facts["loss"] / math.log(facts["classes"]) < 2


def test_texts_are_generated_and_perplexity_is_measured(found):
    assert len(found["translation"]["texts"]) == 3
    assert len(found["summarization"]["texts"]) == 3
    assert all(found["language_modeling"]["texts"])
    assert 2 < found["language_modeling"]["nats"] < 10
