"""The programs that are timed on a GPU compute what they should."""

import argparse
import json
import math
import statistics

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks.arms import DOUBLED
from benchmarks.arms import TORCH
from benchmarks.arms import TORCH_COMPILED
from benchmarks.arms import torch_tensors
from benchmarks.gpu import jobs
from benchmarks.gpu import models
from benchmarks.gpu import settings
from benchmarks.gpu import speed
from benchmarks.gpu import stablehlo
from benchmarks.harness import has_torch

jax = pytest.importorskip("jax")
needs_torch = pytest.mark.skipif(
    not has_torch(), reason="PyTorch is not installed"
)


@needs_torch
@pytest.mark.parametrize("name", [*models.CASES])
def test_twins_give_the_logits_of_keras(name, rng):
    import torch

    case = models.model_of(name, tiny=True).case
    model = case.plain()
    # Not the zeros and ones with which biases and norms begin.
    for weight in model.weights:
        noise = 0.3 * rng.normal(size=weight.shape)
        weight.assign_add(noise.astype("float32"))
    expected = model(keras.tree.map_structure(tf.constant, case.x))
    with torch.no_grad():
        logits = case.twin(model.get_weights()).eval()(torch_tensors(case.x))
    assert np.std(logits.numpy()) > 0.1
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3)


@needs_torch
def test_crossentropies_of_hidden_states(rng):
    import torch

    from benchmarks.gpu import authors

    if not hasattr(torch.nn, "LinearCrossEntropyOptions"):
        pytest.skip(f"PyTorch {torch.__version__} has none in chunks")
    hidden, kernel, y = (
        torch.tensor(rng.normal(size=(2, 3, 4, 8))),
        torch.tensor(rng.normal(size=(5, 8))),
        torch.tensor(rng.integers(0, 5, (3, 4))),
    )
    found = authors.linear_objective(y, hidden, kernel, 3.0)
    expected = authors.torch_authors()(y, hidden @ kernel.T, 3.0)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", [*models.CASES])
def test_operations_are_those_of_the_matrix_products(name):
    # Wide, so that little else counts.
    wide = {"width": 256, "feed_forward": 512}
    measured = {
        "transformer-big": lambda: models.translation(
            replaced(models.TINY_TRANSLATION, wide), 1000, 2, 32
        ),
        "vit-b16": lambda: models.vit(
            replaced(models.TINY, wide), 32, 8, 1000, 2
        ),
        "bert-base": lambda: models.bert(
            replaced(models.TINY, wide), 1000, 2, 32
        ),
    }[name]()
    model = measured.case.plain()
    x = keras.tree.map_structure(tf.constant, measured.case.x)
    function = tf.function(lambda: model(x, training=False), autograph=False)
    found = operations(function.get_concrete_function().graph)
    assert measured.flops == pytest.approx(found, rel=1e-3)


def replaced(sizes, changes):
    return type(sizes)(**{**vars(sizes), **changes})


def operations(graph):
    """Two for each multiply-add of the products in a TensorFlow graph."""
    total = 0
    for node in graph.get_operations():
        if node.type in ("MatMul", "BatchMatMulV2", "Conv2D"):
            left, right = (x.shape for x in node.inputs)
            if node.type == "Conv2D":
                inner = int(np.prod(right[:3]))
            else:
                attribute = {"MatMul": "transpose_a"}.get(node.type, "adj_x")
                inner = left[-2 if node.get_attr(attribute) else -1]
            total += 2 * inner * int(np.prod(node.outputs[0].shape))
    return total


@pytest.fixture
def program():
    """TensorFlow's step of a tiny BERT, and the same as a JAX program."""
    from benchmarks.gpu import export
    from benchmarks.gpu import stablehlo_steps

    measured = models.model_of("bert-base", tiny=True)
    model, batch = export.compiled_model(measured, "calls")
    step = export.step_of(model)
    exported, variables = export.traced(step, batch)
    with jax.enable_x64(True):
        values = [jax.numpy.asarray(v.numpy()) for v in variables]
        inputs = [jax.numpy.asarray(x) for x in tf.nest.flatten(batch)]
        lowered = stablehlo_steps.lower(exported, inputs, values)
        compiled = lowered.compile()
    return step, batch, variables, compiled, values, inputs


@pytest.mark.since("0.8", package="jax", reason="no `jax.enable_x64`")
def test_program_trains_as_tensorflow_does(program):
    step, batch, variables, compiled, values, inputs = program
    before = [v.numpy() for v in variables]
    given = values
    for _ in range(2):
        expected = step(*batch)
        loss, values = compiled(values, inputs)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
    changed = 0
    for variable, old, new in zip(variables, before, values, strict=True):
        np.testing.assert_allclose(
            new, variable, rtol=1e-4, atol=1e-6, err_msg=variable.name
        )
        changed += not np.array_equal(old, new)
    # All but the learning rate.
    assert changed == len(variables) - 1
    # The memory of the variables was handed on to their new values.
    assert sum(value.is_deleted() for value in given) == len(variables)


@pytest.mark.skipif(not has_torch(), reason="PyTorch is not installed")
@pytest.mark.parametrize("arm", [TORCH, settings.LINEAR])
def test_authors_train(arm):
    from benchmarks.gpu import authors

    job = {"model": "transformer-big", "dtype": "bf16", "tiny": True}
    steps, facts = authors.steps_of({**job, "arms": [arm]})
    if "skipped" in facts[arm]:
        pytest.skip(facts[arm]["skipped"])
    assert steps[arm](2) > 0
    assert facts[arm]["flops"] == 6 * models.model_of(job["model"], True).flops


def flags_of(**changes):
    return argparse.Namespace(
        **{
            "models": settings.MODELS,
            "memory": settings.MODELS,
            "dtypes": list(settings.POLICIES),
            "arms": settings.arms_of("transformer-big"),
            "frameworks": list(speed.FRAMEWORKS),
            "quick": True,
            "steps": 1,
            "repeats": 1,
            "programs": None,
            "output": None,
            **changes,
        }
    )


def test_important_jobs_are_first():
    queue = list(speed.queue(flags_of()))
    first = [(job["framework"], job["dtype"]) for job in queue[:3]]
    assert first == [("jax", "bf16")] * 3
    assert [job["model"] for job in queue[:3]] == [*settings.MODELS]
    places = {}
    for place, job in enumerate(queue):
        if job["measure"] == "time":
            places.setdefault((job["dtype"], job["arms"][0]), place)
    compiled = places["bf16", TORCH_COMPILED]
    assert places["bf16", TORCH] < places["fp32", DOUBLED] < compiled
    # Each peak is that of a process of its own.
    assert all(
        len(job["arms"]) == 1 for job in queue if job["measure"] == "memory"
    )


def test_ratios_and_rates(tmp_path, monkeypatch):
    seconds = {DOUBLED: [2.0, 4.0, 3.0], "calls": [2.0, 3.0, 1.0]}

    def run(job, *_):
        facts = {"device": "NVIDIA H100 80GB HBM3", "items": 10}
        facts |= {"unit": "images", "flops": 989e12}
        found = {arm: dict(facts) for arm in job["arms"]}
        if job["measure"] == "memory":
            return {"bytes": 2**20, "facts": found, "skipped": {}}
        if job["framework"] == "torch":
            raise RuntimeError("the time ended during this")
        found = {arm: found[arm] for arm in seconds}
        return {"seconds": seconds, "facts": found, "skipped": {"plain": "why"}}

    monkeypatch.setattr(speed, "run", run)
    monkeypatch.setattr(speed, "has_torch", lambda: True)
    arguments = ["--models", "vit-b16", "--dtypes", "bf16"]
    speed.main([*arguments, "--output", str(tmp_path)])
    found = json.loads((tmp_path / "gpu_speed.json").read_text())
    rows = {row["arm"]: row for row in found["rows"]}
    assert rows["calls"]["ratio"] == pytest.approx(2 / 3)
    assert rows["calls"]["per_second"] == 5
    assert rows["calls"]["share_of_peak"] == 0.5
    reasons = {row["arm"]: row["reason"] for row in found["skipped"]}
    assert reasons["plain"] == "why"
    assert reasons[TORCH] == "the time ended during this"
    memory = json.loads((tmp_path / "gpu_memory.json").read_text())
    assert {row["ratio"] for row in memory["rows"]} == {1.0}


def test_peak_of_a_device():
    assert settings.peak_flops("NVIDIA H100 80GB HBM3", "bf16") == 989e12
    assert settings.peak_flops("NVIDIA H100 PCIe", "fp32") == 378e12
    assert settings.peak_flops("cpu", "bf16") is None


def test_time_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "LEAST_SECONDS", 1)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{jobs.__file__[:-22]}")
    (tmp_path / "endless.py").write_text(
        "import time\ndef steps_of(job):\n    time.sleep(600)\n"
    )
    job = {"module": "endless", "measure": "time", "backend": "tensorflow"}
    with pytest.raises(RuntimeError, match="time ended during"):
        jobs.run({**job, "tiny": True}, jobs.Budget(0.1), str(tmp_path))
    with pytest.raises(RuntimeError, match="no time was left"):
        jobs.run({**job, "tiny": True}, jobs.Budget(0), str(tmp_path))
    assert jobs.Budget(None).left() == math.inf


COMMON = ["--tiny", "--models", "bert-base", "--dtypes", "bf16"]
COMMON += ["--arms", DOUBLED]


def test_command_for_keras_on_jax(tmp_path):
    arguments = ["--frameworks", "jax", "--memory", "bert-base"]
    speed.main([*COMMON, *arguments, "--output", str(tmp_path)])
    assert_measured(tmp_path / "gpu_speed.json", "seconds")
    assert_measured(tmp_path / "gpu_memory.json", "bytes")


@pytest.mark.since("0.8", package="jax", reason="no `jax.enable_x64`")
def test_commands_for_programs_of_tensorflow(tmp_path, capsys):
    programs = str(tmp_path / "programs")
    stablehlo.main(["write", programs, *COMMON])
    assert "doubled_batch.gz" in capsys.readouterr().out
    stablehlo.main(["run", programs, *COMMON, "--output", str(tmp_path)])
    assert_measured(tmp_path / "gpu_speed.json", "seconds")


def assert_measured(path, unit):
    found = json.loads(path.read_text())
    assert not found["skipped"]
    rows = {row["arm"]: row for row in found["rows"]}
    assert [*rows] == [DOUBLED]
    base = statistics.median(rows[DOUBLED][unit])
    for row in rows.values():
        assert row["ratio"] == pytest.approx(row["median"] / base)
        assert row["device"] == "cpu"
        assert row["program_bytes"] > 0
        assert math.isfinite(row["last_loss"])
