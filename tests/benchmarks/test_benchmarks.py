"""What the benchmarks compare computes the same, and each command runs."""

import argparse
import dataclasses
import importlib
import json
import os
import pathlib
import socket
import statistics
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks import arms
from benchmarks import harness
from benchmarks import head
from benchmarks import models
from benchmarks import objectives
from benchmarks import peak
from benchmarks import report
from benchmarks import step
from benchmarks import workers

ITEMS, CLASSES, ALPHA = 6, 5, 3.0

NO_DROPOUT = dataclasses.replace(
    models.TINY,
    dropout=0.0,
    attention_dropout=0.0,
    activation_dropout=0.0,
)

needs_torch = pytest.mark.skipif(
    not harness.has_torch(), reason="PyTorch is not installed"
)


def in_numpy(y, logits, alpha, label_smoothing):
    """The paper's Eq. 4 over two, with fairseq's label smoothing, float64."""

    def log_softmax(z):
        z = np.asarray(z, "float64")
        return z - np.log(np.exp(z).sum(-1, keepdims=True))

    one, other = (log_softmax(z) for z in logits)
    share = label_smoothing / (CLASSES - 1)
    target = np.full((ITEMS, CLASSES), share)
    target[np.arange(ITEMS), y] = 1 - label_smoothing
    task = -(target * (one + other)).sum(-1)
    kl = (np.exp(one) * (one - other) + np.exp(other) * (other - one)).sum(-1)
    return (task / 2 + alpha / 4 * kl).mean()


@pytest.fixture
def batch(rng):
    y = rng.integers(0, CLASSES, ITEMS)
    logits = 2 * rng.normal(size=(2, ITEMS, CLASSES))
    return y, logits.astype("float32")


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("name", ["naive", "log_space", "authors"])
def test_objectives_in_keras(batch, name, label_smoothing):
    y, logits = batch
    value = getattr(objectives, name)(
        y, list(tf.constant(logits)), ALPHA, label_smoothing
    )
    expected = in_numpy(y, logits, ALPHA, label_smoothing)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


@needs_torch
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_objective_in_torch(batch, label_smoothing):
    import torch

    y, logits = batch
    value = objectives.torch_authors()(
        torch.tensor(y), torch.tensor(logits), ALPHA, label_smoothing
    )
    expected = in_numpy(y, logits, ALPHA, label_smoothing)
    np.testing.assert_allclose(value.item(), expected, rtol=1e-5)


@pytest.mark.parametrize("arm", head.ARMS)
def test_heads_come_to_the_same_loss(arm):
    if arm == head.TORCH and not harness.has_torch():
        pytest.skip("PyTorch is not installed")
    settings = head.Head(ITEMS, CLASSES, 4, label_smoothing=0.1)
    labels, one, other, kernel, bias = settings.draw()
    logits = [hidden @ kernel + bias for hidden in (one, other)]
    expected = in_numpy(labels, logits, settings.alpha, 0.1)
    loss = head.step_of(settings, arm, jit_compile=False)()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@needs_torch
@pytest.mark.parametrize("name", sorted({*models.CASES} - {"transformer-32k"}))
def test_twins_give_the_logits_of_keras(name, rng):
    import torch

    case = models.case_of(name, quick=True)
    model = case.plain()
    # Not the zeros and ones with which biases and norms begin.
    for weight in model.weights:
        noise = 0.3 * rng.normal(size=weight.shape)
        weight.assign_add(noise.astype("float32"))
    x = case.x
    for padded in ("source_ids", "padding_mask"):
        if isinstance(x, dict) and padded in x:
            x[padded][0, 3:] = 0
    expected = model(tf.nest.map_structure(tf.constant, x), training=False)
    twin = case.twin(model.get_weights()).eval()
    with torch.no_grad():
        logits = twin(arms.torch_tensors(x)).numpy()
    assert np.std(logits) > 0.1
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("case", "names"),
    [
        pytest.param(
            models.cnn((4,), 4),
            (arms.NAIVE, "calls", "calls, terms apart", arms.SHARED),
            marks=pytest.mark.since(
                "3.13", reason="`train_on_batch` returns running means"
            ),
        ),
        (
            models.transformer(50, models.TINY, 4, 8, label_smoothing=0.1),
            ("calls", arms.CHUNKS),
        ),
    ],
    ids=["cnn", "transformer"],
)
def test_arms_of_one_seed_train_alike(case, names, monkeypatch):
    monkeypatch.setattr(arms, "RATE", 0.1)
    losses = {}
    for name in names:
        train = arms.step_of(case, name, jit_compile=False)
        losses[name] = [train() for _ in range(2)]
    expected = losses[names[0]]
    # By more than rounding: the updates are compared.
    assert abs(expected[1] - expected[0]) > 1e-3
    for name, found in losses.items():
        np.testing.assert_allclose(found, expected, rtol=1e-4, err_msg=name)


@needs_torch
@pytest.mark.parametrize(
    "case",
    [
        models.cnn((4,), 4, rate=0.0),
        models.transformer(50, NO_DROPOUT, 4, 8, label_smoothing=0.1),
    ],
    ids=["two calls", "one call"],
)
def test_torch_trains_as_keras_does_without_dropout(case, monkeypatch):
    monkeypatch.setattr(arms, "RATE", 0.1)
    naive, torch, plain = (
        arms.step_of(case, arm, jit_compile=False)
        for arm in (arms.NAIVE, arms.TORCH, arms.PLAIN)
    )
    first = naive()
    np.testing.assert_allclose(torch(), first, rtol=1e-4)
    np.testing.assert_allclose(plain(), first, rtol=1e-4)
    second = naive()
    # By more than rounding: the updates are compared.
    assert abs(second - first) > 1e-3
    np.testing.assert_allclose(torch(), second, rtol=1e-4)


def test_unlike_losses_are_refused():
    step.check_alike({"one": 1.0, "other": 1.0001})
    with pytest.raises(AssertionError, match="loss of other is not that of"):
        step.check_alike({"one": 1.0, "other": 1.01})


def test_what_cannot_be_shared_is_said():
    with pytest.raises(arms.Unavailable, match="that all passes can share"):
        arms.check_shares(models.transformer(50, models.TINY, 2, 4))


def test_turns():
    calls = []
    seconds = harness.take_turns(
        {name: lambda name=name: calls.append(name) or 1.5 for name in "abc"},
        repeats=20,
        warm_up=3,
        measure=lambda run: run(),
    )
    turns = [calls[start : start + 3] for start in range(0, len(calls), 3)]
    assert len(turns) == 23
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)
    # Not always in the same order.
    assert len({turn[0] for turn in turns}) == 3
    assert seconds == {name: [1.5] * 20 for name in "abc"}


def test_ratio_is_of_medians_and_quartiles_of_turns():
    ratio, quartiles = report.ratio_of([2, 4, 6, 8, 10], [1, 4, 2, 2, 5])
    assert ratio == 6 / 2
    # Of 2, 1, 3, 4 and 2.
    assert quartiles == [2, 3]
    assert report.ratio_of([3], [2]) == (1.5, [1.5, 1.5])


def test_flags_that_are_given_go_before_quick_ones():
    parser = harness.parser_of("A benchmark.", repeats=20)
    parser.add_argument("--size", type=int, default=100)
    quick = {"repeats": 1, "size": 2}

    def parsed(*arguments):
        flags = harness.parse(parser, arguments, quick)
        return flags.repeats, flags.size

    assert parsed() == (20, 100)
    assert parsed("--quick", "--size", "7") == (1, 7)


def test_fresh_process():
    assert harness.in_fresh_process(os.getpid, preload=()) != os.getpid()
    with pytest.raises(ZeroDivisionError):
        harness.in_fresh_process(divmod, 1, 0, preload=())


@pytest.mark.skipif(not peak.STATUS.exists(), reason="needs /proc")
def test_peak_is_that_of_the_work_alone():
    def take(mebibytes):
        return np.ones(mebibytes * 2**17).sum()

    take(128)
    found = peak.peak_above(lambda: take(48)) / 2**20
    assert 44 < found < 80
    assert peak.peak_above(lambda: None) < 2**22


@pytest.mark.skipif(
    not workers.STATISTICS.exists(), reason="Linux counts these bytes"
)
def test_bytes_on_the_loopback_interface():
    before = workers.bytes_sent()
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as sender,
    ):
        receiver, _ = server.accept()
        with receiver, receiver.makefile("rb") as file:
            sending = threading.Thread(
                target=sender.sendall, args=(bytes(10**7),)
            )
            sending.start()
            assert len(file.read(10**7)) == 10**7
            sending.join()
    # Headers and what other programs send come on top.
    assert workers.bytes_sent() - before >= 10**7


COMMANDS = {
    "step": ["--models", "cnn", "--arms", "calls", arms.TORCH],
    "prefix": ["--models", "cnn", "--arms", arms.SHARED],
    "memory": ["--tokens=256", "--vocabulary=4000", "--step-arms", arms.PLAIN],
    "adaptive": ["--tokens=256", "--vocabulary=4000"],
    "compile_time": ["--arms", "concat"],
    "vocabulary": ["--jit", "off"],
    "embedding": ["--optimizers", "Adam"],
    "inputs": [],
    "evaluate": [],
    "decoding": [],
    "backends": [],
    "workers": [],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_command(name, tmp_path, monkeypatch, capsys):
    module = importlib.import_module(f"benchmarks.{name}")
    if hasattr(module, "in_fresh_process"):
        # The memory of this process means nothing, but no start is needed.
        monkeypatch.setattr(
            module, "in_fresh_process", lambda function, *args: function(*args)
        )
    module.main(["--quick", *COMMANDS[name], "--output", str(tmp_path)])
    name = "backends_tensorflow" if name == "backends" else name
    found = json.loads((tmp_path / f"{name}.json").read_text())
    image = (tmp_path / f"{name}.png").read_bytes()
    assert image.startswith(b"\x89PNG")
    assert found["benchmark"] == name
    assert found["settings"]["quick"] is True
    assert found["machine"]["keras"] == keras.__version__
    assert found["machine"]["cores"] >= 1
    check_rows(found)
    shown = capsys.readouterr().out
    for row in found["rows"]:
        assert row["arm"] in shown


def check_rows(found):
    groups = {}
    for row in found["rows"]:
        groups.setdefault((row["case"], row["xla"]), []).append(row)
    assert groups
    for rows in groups.values():
        values = {row["arm"]: row[found["unit"]] for row in rows}
        assert len(values) == len(rows) > 1
        base = values[rows[0]["base"]]
        for row in rows:
            mine = values[row["arm"]]
            assert len(mine) == found["settings"]["repeats"] == len(base)
            assert all(value > 0 for value in mine)
            expected = statistics.median(mine) / statistics.median(base)
            assert row["ratio"] == pytest.approx(expected)
            low, high = row["quartiles"]
            assert low <= high


def test_every_command_is_tested_and_described():
    folder = pathlib.Path(step.__file__).parent
    readme = (folder / "README.md").read_text()
    tests = [p.read_text() for p in pathlib.Path(__file__).parent.glob("*.py")]
    for path in folder.rglob("*.py"):
        if "\ndef main(" in path.read_text():
            # Some are tested in files of their own.
            called = any(f"{path.stem}.main(" in test for test in tests)
            assert path.stem in COMMANDS or called, path
            name = ".".join(path.relative_to(folder).with_suffix("").parts)
            assert f"`python -m benchmarks.{name}`" in readme


def test_file_as_output(tmp_path):
    flags = argparse.Namespace(output=tmp_path / "a" / "mine.json")
    written = report.Report("any", "time", "seconds", flags)
    written.add("case", False, "one", {"one": [1.0], "other": [2.0]})
    written.skip("case", "third", "for a reason")
    written.finish()
    found = json.loads((tmp_path / "a" / "mine.json").read_text())
    assert [row["ratio"] for row in found["rows"]] == [1, 2]
    assert found["skipped"][0]["reason"] == "for a reason"
    assert (tmp_path / "a" / "mine.png").exists()
