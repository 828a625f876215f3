"""The image classification example: its runs, and what they write."""

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from rdrop_keras import recipes
from reproduce import serving
from reproduce.__main__ import main as program
from reproduce.__main__ import parse as parse_flags
from reproduce.common import runs
from reproduce.common.errors import InputError
from reproduce.common.history import read_history
from reproduce.comparison import compare
from reproduce.comparison import run_directory
from reproduce.data import image_files as decoding
from reproduce.data.images import load_digits
from reproduce.image_reports import PREDICTIONS
from reproduce.image_reports import RELIABILITY
from reproduce.models.vit import SIZES
from reproduce.models.vit import Size
from reproduce.tasks import image_runs as task_module
from reproduce.tasks.image_classification import TASK
from reproduce.tasks.image_runs import LOGITS
from reproduce.tasks.image_runs import build
from reproduce.tasks.image_runs import compile_classifier
from reproduce.tasks.image_settings import Settings


def main(arguments):
    return program(["train", "image_classification", *arguments])


def parse(arguments, verb="train"):
    return parse_flags(verb, "image_classification", arguments)


def read_logits(directory):
    with np.load(directory / LOGITS) as arrays:
        return arrays["logits"]


SETTINGS = Settings(
    arm="rdrop",
    alpha=2.0,
    dropout=0.2,
    seed=3,
    epochs=3,
    batch_size=16,
    learning_rate=0.05,
    augment="shift",
)
ARMS = ("plain", "rdrop")
# Three times 60 images in batches of 16, the last of 12.
UPDATES = 12


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "tiny", Size(1, 8, 16, 2, None))
        yield


@pytest.fixture(scope="module")
def digits():
    return load_digits(60, 40)


@pytest.fixture(scope="module")
def compared(digits, tmp_path_factory):
    output = tmp_path_factory.mktemp("compared")
    # An export takes seconds, and the tests look at the last one alone.
    exports = iter([False, True])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task_module, "writes_saved_model", lambda: next(exports))
        settings = replace(SETTINGS, output=output)
        result = compare(TASK, digits, settings, ARMS, (3,))
    return output, result


def test_every_arm_takes_the_same_number_of_updates(compared):
    output, result = compared
    assert tuple(result["arms"]) == ARMS
    for arm in ARMS:
        metrics = runs.read_json(run_directory(output, arm, 3) / runs.METRICS)
        assert metrics["settings"]["arm"] == arm
        assert metrics["updates"] == UPDATES
        assert metrics == result["runs"][arm][0]


def test_arms_train_differently(compared):
    output, _ = compared
    histories = {
        arm: read_history(run_directory(output, arm, 3) / runs.HISTORY)
        for arm in ARMS
    }
    # The same weights and images to begin with, other gradients after that.
    final = {history["val_loss"][-1] for history in histories.values()}
    assert len(final) == len(ARMS)
    assert "consistency_loss" not in histories["plain"]
    for epoch in range(SETTINGS.epochs):
        loss, task, consistency = (
            histories["rdrop"][name][epoch][1]
            for name in ("loss", "task_loss", "consistency_loss")
        )
        assert consistency > 0
        np.testing.assert_allclose(
            loss, task + SETTINGS.alpha / 2 * consistency, rtol=1e-5
        )


def test_metrics_say_what_was_done_and_what_came_out(compared, digits):
    directory = run_directory(compared[0], "rdrop", 3)
    metrics = runs.read_json(directory / runs.METRICS)
    assert metrics["settings"] == SETTINGS.compared()
    assert metrics["data"] == {
        "name": "digits",
        "image": "8x8x1",
        "classes": 10,
        "train": 60,
        "valid": 40,
        "test": 1697,
    }
    assert metrics["epochs"] == 3
    # The file that was written scores what the metrics say.
    reloaded = keras.models.load_model(directory / runs.MODEL)
    assert reloaded.rdrop.alpha == 2.0
    assert metrics["parameters"] == reloaded.count_params()
    logits = reloaded.predict(digits.test.images, verbose=0)
    np.testing.assert_allclose(read_logits(directory), logits, atol=1e-5)
    right = logits.argmax(-1) == digits.test.labels
    np.testing.assert_allclose(metrics["test"]["accuracy"], right.mean())
    loss = keras.losses.sparse_categorical_crossentropy(
        digits.test.labels, logits, from_logits=True
    )
    np.testing.assert_allclose(
        metrics["test"]["loss"], np.mean(loss), rtol=1e-5
    )
    history = read_history(directory / runs.HISTORY)
    for name in ("accuracy", "loss"):
        np.testing.assert_allclose(
            metrics["valid"][name], history[f"val_{name}"][-1][1], rtol=1e-5
        )


def test_run_and_comparison_write_everything(compared):
    output, _ = compared
    directory = run_directory(output, "rdrop", 3)
    assert {path.name for path in directory.iterdir()} == {
        "run.json",
        "metrics.json",
        "history.csv",
        "curves.png",
        "reliability.png",
        "predictions.png",
        "test_logits.npz",
        "model.keras",
        "saved_model",
        "tensorboard",
        "run.lock",
    }
    for name in (runs.CURVES, RELIABILITY, PREDICTIONS):
        pictures = [(one / name).read_bytes() for one in (directory, output)]
        assert all(picture.startswith(b"\x89PNG") for picture in pictures)
        assert min(map(len, pictures)) > 10_000
        # Of a comparison there is more to show.
        assert pictures[0] != pictures[1]
    with (directory / runs.HISTORY).open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == list("012")


SERVE = """
import sys
for name in ("rdrop_keras", "keras_hub", "keras", "examples", "reproduce"):
    sys.modules[name] = None
import json
import shutil
import numpy as np
import tensorflow as tf
images = np.load(sys.argv[2])
model = tf.saved_model.load(sys.argv[1])
result = model.signatures["serving_default"](images=tf.constant(images))
wide = tf.constant(np.repeat(np.repeat(images[:3], 2, 1), 2, 2))
one = model.serve(tf.constant(images[:1]))
json.dump({
    "label": [label.decode() for label in result["label"].numpy()],
    "probabilities": result["probabilities"].numpy().tolist(),
    "one": one["probabilities"].numpy().tolist(),
    "wide": model.serve(wide)["probabilities"].numpy().shape,
    "classes": [n.decode() for n in model.classes()["classes"].numpy()],
}, sys.stdout)
"""


def test_saved_model_serves_raw_images_without_keras(
    compared, digits, tmp_path
):
    directory = run_directory(compared[0], "rdrop", 3)
    images = digits.test.images[:20]
    np.save(tmp_path / "images.npy", images)
    served = subprocess.run(
        [
            sys.executable,
            "-c",
            SERVE,
            str(directory / runs.SAVED_MODEL),
            str(tmp_path / "images.npy"),
        ],
        capture_output=True,
        text=True,
    )
    assert served.returncode == 0, served.stderr
    result = json.loads(served.stdout)
    logits = keras.models.load_model(directory / runs.MODEL).predict(
        images, verbose=0
    )
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
    np.testing.assert_allclose(
        result["probabilities"], expected, rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(result["one"], expected[:1], rtol=1e-4)
    assert result["wide"] == [3, 10]
    assert tuple(result["classes"]) == digits.classes
    assert result["label"] == [digits.classes[i] for i in expected.argmax(-1)]


def test_serve_classifies_files(compared, digits, tmp_path, capsys):
    files, _ = TASK.samples(digits, tmp_path)
    assert [Path(file).name for file in files] == [
        f"{index}-{label}.png"
        for index, label in enumerate(digits.test.labels[:4])
    ]
    directory = run_directory(compared[0], "rdrop", 3)
    serving.main(
        "image_classification", [str(directory / runs.SAVED_MODEL), *files]
    )
    predicted = read_logits(directory)[:4].argmax(-1)
    lines = capsys.readouterr().out.splitlines()
    for line, file, label in zip(lines, files, predicted):
        assert line.startswith(f"{file}  {label} 0.")


# --- the command line --------------------------------------------------------


@pytest.fixture
def no_export(monkeypatch):
    monkeypatch.setattr(task_module, "writes_saved_model", lambda: False)


@pytest.mark.usefixtures("no_export")
def test_resnet_trains_with_alpha_along_the_learning_rate(tmp_path, capsys):
    status = main(
        f"--model resnet --blocks 1 --schedule steps --decay-alpha --alpha 4 "
        f"--train-images 64 --epochs 2 --seed 5 --output {tmp_path}".split()
    )
    assert status == 0
    out = capsys.readouterr().out
    assert "name: digits, image: 8x8x1, classes: 10, train: 64" in out
    assert "test: accuracy" in out and "calibration error" in out
    metrics = runs.read_json(tmp_path / runs.METRICS)
    assert metrics["settings"]["model"] == "resnet"
    reloaded = keras.models.load_model(tmp_path / runs.MODEL)
    assert reloaded.rdrop.moving_statistics == "first_pass"
    # Four updates: full at first, a tenth from half, then a hundredth.
    values = [float(reloaded.rdrop.alpha_at(step)) for step in range(4)]
    np.testing.assert_allclose(values, [4, 4, 0.4, 0.04], rtol=1e-6)


@pytest.fixture(scope="module")
def colors(tmp_path_factory):
    """Images of two classes, of which every pixel tells."""
    directory = tmp_path_factory.mktemp("colors")
    generator = np.random.default_rng(0)
    for part, count in (("train", 12), ("valid", 4), ("test", 4)):
        for name, low in (("dark", 0), ("light", 128)):
            folder = directory / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                image = generator.integers(low, low + 128, (9, 10, 3))
                png = tf.io.encode_png(image.astype("uint8")).numpy()
                (folder / f"{index}.png").write_bytes(png)
    return directory


@pytest.mark.usefixtures("no_export")
def test_preset_trains_on_a_folder(colors, tmp_path, capsys):
    import keras_hub

    backbone = keras_hub.models.ViTBackbone(
        image_shape=(8, 8, 3),
        patch_size=4,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        mlp_dim=16,
    )
    backbone.save_to_preset(str(tmp_path / "preset"))
    output = tmp_path / "output"
    status = main(
        f"--preset {tmp_path / 'preset'} --data {colors} --epochs 6 "
        f"--batch-size 4 --learning-rate 0.1 --output {output}".split()
    )
    captured = capsys.readouterr()
    assert status == 0, captured.err
    assert "dropout 0 set to 0.1" in captured.out
    assert "image: 8x8x3, classes: 2, train: 24" in captured.out
    metrics = runs.read_json(output / runs.METRICS)
    assert metrics["updates"] == 36
    assert metrics["test"]["accuracy"] == 1.0
    reloaded = keras.models.load_model(output / runs.MODEL)
    assert reloaded.rdrop.alpha == 1.0
    assert reloaded.get_layer("vi_t_backbone").dropout_rate == 0.1


# Keras's CSVLogger leaves its file open when an exception ends `fit`.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("no_export")
def test_image_found_broken_while_training_is_named(
    colors, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(decoding, "KEPT_BYTES", 100)
    data = tmp_path / "data"
    shutil.copytree(colors, data)
    path = data / "train" / "light" / "3.png"
    path.write_bytes(path.read_bytes()[:60])
    status = main(
        f"--data {data} --image-size 8 --arm plain --epochs 1 "
        f"--output {tmp_path / 'output'}".split()
    )
    assert status == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}: expected a whole PNG, got 60")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--data {0}/gone", "gone: expected a directory of images"),
        ("--data {0}", "got an empty directory"),
        ("--recipe cifar10 --data {0}", "expected one of cifar100_vit_b_16"),
        ("--preset {0}", "config.json. Expected a directory written by"),
        ("--train-images 1700", "at least 1900 images"),
        ("--patch-size 3", "multiples of the patch size 3"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    flags, message, tmp_path, capsys
):
    (tmp_path / "data").mkdir()
    output = tmp_path / "output"
    status = main(
        [*flags.format(tmp_path / "data").split(), f"--output={output}"]
    )
    captured = capsys.readouterr()
    assert status == 2
    assert captured.err.startswith("error: ") and message in captured.err
    assert captured.err.count("\n") == 1
    assert not output.exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--recipe cifar100_vit_b_16", "--recipe needs --data DIR"),
        ("--format folder", "need --data DIR"),
        ("--model resnet --preset x", "--preset is for --model vit"),
        ("--dropout 1", "less than 1"),
        ("--epochs 2 --updates 3", "--epochs or --updates, not both"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(flags, message):
    with pytest.raises(InputError, match=message):
        parse(flags.split())


def test_comparison_without_two_passes_needs_no_dropout():
    flags = "--arms plain,doubled --dropout 0"
    assert parse(flags.split(), "compare").arms == ("plain", "doubled")
    with pytest.raises(InputError, match="more than 0 for two_pass"):
        parse(["--arms", "plain,two_pass", "--dropout", "0"], "compare")


# --- recipes -----------------------------------------------------------------

NAMES = recipes.names("image_classification")


@pytest.mark.parametrize("name", NAMES)
def test_recipes_become_flags(name):
    recipe = recipes.get(name)
    settings = parse(["--recipe", name, "--data", "somewhere"])
    size = SIZES[settings.configuration]
    assert (size.layers, size.width) == (
        recipe.model.encoder_layers,
        recipe.model.hidden_size,
    )
    assert settings.image_size == 384 and settings.patch_size == 16
    assert settings.batch_size * settings.accumulate == 512
    assert settings.updates == recipe.schedule.total_updates
    assert (settings.dropout, settings.attention_dropout) == (0.1, 0.0)
    assert settings.augment == "crop"
    # Other flags change it.
    changed = parse(
        ["--recipe", name, "--data", "somewhere", "--updates=7", "--alpha=2"]
    )
    assert (changed.updates, changed.alpha) == (7, 2.0)
    assert settings.alpha == 0.6


@pytest.mark.parametrize("name", NAMES)
def test_recipes_take_two_steps_with_their_own_settings(name):
    recipe = recipes.get(name)
    settings = replace(
        parse(["--recipe", name, "--data", "somewhere"]),
        configuration="tiny",
        patch_size=4,
        image_size=8,
        batch_size=4,
    )
    model = build((6, 6, 3), 4, settings)
    compile_classifier(model, settings, settings.updates)
    assert isinstance(model.loss, keras.losses.SparseCategoricalCrossentropy)
    assert model.rdrop.alpha == recipe.alpha == 0.6
    assert model.rdrop.divergence == recipe.divergence
    expected = recipe.optimizer(summed_loss=True)
    ours, theirs = (
        {
            key: value or 0.0
            for key, value in optimizer.get_config().items()
            # The schedule is compared by its values below.
            if key not in ("name", "learning_rate")
        }
        for optimizer in (model.optimizer, expected)
    )
    assert ours == theirs
    for step in (0, 250, 500, 5_000, settings.updates):
        # It is told the number of batches.
        np.testing.assert_allclose(
            float(model.optimizer._learning_rate(16 * step)),
            2 * float(recipe.learning_rate()(step)),
            rtol=1e-5,
            atol=1e-9,
        )
    images = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 3))
    before = [keras.ops.convert_to_numpy(w) for w in model.trainable_weights]
    for _ in range(2 * settings.accumulate):
        logs = model.train_on_batch(
            images.astype("uint8"), np.arange(4), return_dict=True
        )
    assert model.optimizer.iterations == 2
    assert np.isfinite(logs["loss"]) and logs["consistency_loss"] > 0
    after = [keras.ops.convert_to_numpy(w) for w in model.trainable_weights]
    assert any(np.abs(a - b).max() > 0 for a, b in zip(after, before))
