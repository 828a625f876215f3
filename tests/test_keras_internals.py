"""What `rdrop_keras._keras` relies on. When Keras changes, this says where."""

import builders
import keras
import numpy as np
import pytest
from packaging.version import Version

from rdrop_keras import RDropModel
from rdrop_keras import _keras


def test_functional_is_the_class_keras_makes():
    assert type(keras.Model(*builders.graph())) is _keras.Functional


def test_all_layers_reaches_every_depth():
    inner = keras.Sequential([keras.layers.Dropout(0.1)])
    attention = keras.layers.MultiHeadAttention(1, 2)
    inputs = keras.Input((3, 4))
    model = keras.Model(inputs, inner(attention(inputs, inputs)))
    names = {type(layer).__name__ for layer in _keras.all_layers(model)}
    assert {"Dropout", "MultiHeadAttention", "Softmax", "EinsumDense"} <= names


@pytest.mark.parametrize("around", ["float32", "mixed_float16"])
@pytest.mark.parametrize("autocast", [True, False])
def test_the_scope_that_a_layer_reads_its_variables_in(around, autocast):
    class Reads(keras.layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=())

        def call(self, inputs):
            self.read = keras.ops.convert_to_tensor(self.scale).dtype
            return inputs

    class Around(keras.Model):
        def call(self, inputs):
            inputs = layer(inputs)
            with _keras.autocast_scope(layer):
                self.read = keras.ops.convert_to_tensor(layer.scale).dtype
            return inputs

    layer = Reads(dtype="mixed_bfloat16", autocast=autocast)
    model = Around(dtype=around)
    model(np.ones((1, 2), "float32"))
    assert model.read == layer.read


def test_masks_ride_on_tensors_where_losses_look():
    embedding = keras.layers.Embedding(5, 2, mask_zero=True)
    ids = np.array([[1, 0], [2, 3]])
    output = embedding(ids)
    np.testing.assert_array_equal(_keras.mask_of(output), ids != 0)
    assert _keras.mask_of(keras.ops.ones((2,))) is None
    values = keras.ops.convert_to_tensor(np.array([[1.0, 9.0], [2.0, 3.0]]))
    values = _keras.carry_mask(values, _keras.mask_of(output))
    mean = keras.losses.MeanAbsoluteError()(
        np.zeros((2, 2, 1)),
        _keras.carry_mask(
            keras.ops.expand_dims(values, -1), _keras.mask_of(output)
        ),
    )
    np.testing.assert_allclose(mean, 2.0)


def test_softmax_and_sigmoid_leave_their_logits():
    logits = keras.ops.convert_to_tensor([[1.0, 2.0]])
    for activation in ("softmax", "sigmoid"):
        layer = keras.layers.Activation(activation)
        found = _keras.computed_logits(layer(logits))
        np.testing.assert_array_equal(found, logits)
    assert _keras.computed_logits(logits) is None


def test_losses_of_a_compiled_loss_are_told_apart():
    model = keras.Model(*builders.graph())
    assert _keras.compiled_loss(model) is None
    model.compile("sgd", builders.cross_entropy(), loss_weights=0.5)
    compiled = _keras.compiled_loss(model)
    x, y = builders.data(4)
    outputs = model(x)
    expected = compiled(y, outputs)
    (entry,) = _keras.loss_entries(compiled, y, outputs, None)
    assert entry.loss.name == "sparse_categorical_crossentropy"
    assert entry[1:3] == ("dense_1", 0.5)
    assert entry.y_pred is outputs and entry.sample_weight is None
    value = _keras.weighted_sum_of_losses(compiled, [3.0], y, outputs, None)
    np.testing.assert_allclose(value, 1.5)
    again = keras.ops.convert_to_numpy(compiled(y, outputs))
    assert again == keras.ops.convert_to_numpy(expected)


def test_losses_of_several_outputs():
    """One tensor may be two outputs, and one output may have two losses."""
    inputs, outputs = builders.graph()
    model = keras.Model(inputs, {"a": outputs, "b": outputs})
    model.compile("sgd", {"a": ["mse", "mae"], "b": "mse"})
    x, _ = builders.data(4)
    compiled = _keras.compiled_loss(model)
    y = {"a": np.zeros((4, 3)), "b": np.ones((4, 3))}
    compiled(y, model(x))
    before = [float(metric.result()) for metric in compiled.metrics]
    assert len(before) == 3
    entries = _keras.loss_entries(compiled, y, model(x), None)
    assert [(e.loss.name, e.name) for e in entries] == [
        ("mse", "a"),
        ("mae", "a"),
        ("mse", "b"),
    ]
    assert [float(np.max(e.y_true)) for e in entries] == [0.0, 0.0, 1.0]
    assert [float(metric.result()) for metric in compiled.metrics] == before
    values = [keras.ops.convert_to_tensor(v) for v in (1.0, 2.0, 4.0)]
    batch = (values, y, model(x), None)
    np.testing.assert_allclose(
        _keras.weighted_sum_of_losses(compiled, *batch), 7.0
    )
    after = [float(metric.result()) for metric in compiled.metrics]
    np.testing.assert_allclose(after, (np.array(before) + [1, 2, 4]) / 2)


def test_options_of_a_loss_that_is_made_of_a_function():
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    assert _keras.options_of_function(loss)["from_logits"] is True
    assert _keras.options_of_function(np.mean) == {}


def test_ranks_are_fitted_as_in_losses():
    y, output = np.zeros((2, 3)), np.zeros((2, 3, 1))
    assert _keras.same_rank(y, output)[1].shape == (2, 3)
    assert _keras.same_rank(y[0], output[0])[0].shape == (3, 1)


def test_state_of_a_seed_generator_is_known_by_its_name():
    generator = keras.random.SeedGenerator(1)
    assert _keras.is_seed_state(generator.state)
    assert not _keras.is_seed_state(keras.Variable(np.zeros(2, "float32")))


def test_loss_tracker_is_what_is_logged_as_loss():
    model = keras.Model(*builders.graph())
    model.compile("sgd", builders.cross_entropy())
    logs = model.train_on_batch(*builders.data(4), return_dict=True)
    assert float(_keras.loss_tracker(model).result()) == logs["loss"]
    assert _keras.values_in_order(model, {"loss": 2.0}) == 2.0


def test_global_seed_generator_is_the_one_that_draws():
    keras.random.normal((1,))
    generator = _keras.global_seed_generator()
    before = np.array(generator.state)
    keras.random.normal((1,))
    assert not np.array_equal(before, np.array(generator.state))


@pytest.mark.parametrize("kind", ["functional", "sequential"])
def test_operations_of_a_graph_can_be_replaced(kind):
    model = keras.Model(*builders.graph())
    if kind == "sequential":
        model = keras.Sequential([keras.Input((5,)), *builders.layer_stack()])
    graph = _keras.graph_of(model)
    names = [node.operation.name for node in _keras.nodes(graph)]
    assert [name.split("_")[0] for name in names] == [
        "dense",
        "dropout",
        "dense",
    ]
    made_by = _keras.operation_of(graph.outputs[0])
    assert made_by.name == names[-1]
    x, _ = builders.data(4)
    expected = model(x)
    called = []

    def replace(position, operation):
        called.append(position)
        if position == 1:
            return lambda inputs, **_: 2.0 * inputs
        return operation

    array = keras.ops.convert_to_numpy
    doubled = array(_keras.rewired(model, [replace])(x))
    assert called == [0, 1, 2]
    first, _, last = (node.operation for node in _keras.nodes(graph))
    expected_now = array(last(2.0 * first(x)))
    np.testing.assert_allclose(doubled, expected_now, rtol=1e-5)
    np.testing.assert_allclose(array(model(x)), array(expected))
    assert not np.allclose(doubled, array(expected))
    assert _keras.graph_of(builders.Subclassed()) is None


def test_a_rewired_model_has_the_methods_of_its_class():
    class Masked(RDropModel, _keras.Functional):
        def compute_mask(self, inputs, mask=None):
            return inputs[:, 0] > 0

    model = Masked(*builders.graph())
    x, _ = builders.data(4)
    output = _keras.rewired(model, [])(x)
    np.testing.assert_array_equal(_keras.mask_of(output), x[:, 0] > 0)


def test_compiled_metrics_are_told_apart():
    model = keras.Sequential([keras.layers.Dense(2)])
    model.compile("sgd", "mse", metrics=["mae"])
    assert not _keras.has_built_metrics(model)
    model.train_on_batch(np.ones((3, 1)), np.ones((3, 2)))
    assert _keras.has_built_metrics(model)
    assert set(_keras.logs_of_training(model)) == {"loss"}
    assert set(model.get_metrics_result()) == {"loss", "mae"}
    model.compile("sgd", "mse")
    assert _keras.has_built_metrics(model)


def test_each_compile_keeps_its_arguments_in_an_object_of_its_own():
    model = keras.Sequential([keras.layers.Dense(2)])
    assert _keras.compile_config(model) is None
    model.compile("sgd", "mse", metrics=["mae"])
    first = _keras.compile_config(model)
    assert first.config["loss"] == "mse"
    assert first.config["metrics"] == ["mae"]
    model.compile("sgd", "mse")
    assert _keras.compile_config(model) is not first


def test_a_file_is_told_from_a_clone(tmp_path):
    seen = []

    class Watched(keras.Model):
        def get_compile_config(self):
            seen.append(_keras.is_cloning())
            return super().get_compile_config()

    model = Watched(*builders.graph())
    model.compile("sgd", "mse")
    keras.models.clone_model(model)
    model.save(tmp_path / "model.keras")
    keras.models.clone_model(model)
    assert seen == [True, False, True]


def test_only_the_legacy_format_is_refused(tmp_path):
    model = keras.Model(*builders.graph())
    _keras.refuse_h5(model, "no")
    model.save(tmp_path / "uncompiled.h5")
    model.compile("sgd", "mse")
    _keras.refuse_h5(model, "Expected another format.")
    with pytest.raises(ValueError, match="Expected another format"):
        model.save(tmp_path / "model.h5")
    model.save(tmp_path / "weights.h5", include_optimizer=False)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.get_compile_config() == model.get_compile_config()
    model.compile("sgd", "mse")
    model.save(tmp_path / "model.h5")


@pytest.mark.only("torch", reason="a process group of PyTorch")
def test_keras_wraps_a_model_for_several_processes():
    from torch import distributed

    model = keras.Model(*builders.graph())
    model.compile("sgd", "mse")
    store = distributed.HashStore()
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model.make_train_function()
        group = _keras.process_group(model)
        has_parallel = Version(keras.__version__) >= Version("3.16")
        assert group is (distributed.group.WORLD if has_parallel else None)
    finally:
        distributed.destroy_process_group()


@pytest.mark.only("jax", reason="the state of `fit` on JAX")
def test_fit_keeps_the_variables_where_it_is_told_to():
    x, y = builders.data()
    model = builders.functional()
    model.compile("sgd", builders.cross_entropy(), rdrop=None)
    model.train_on_batch(x, y)
    model.train_function = failing = _Failing(model)
    with pytest.raises(OSError, match="disk"):
        model.fit(x, y, verbose=0)
    for variable, value in zip(model.trainable_variables, failing.values):
        np.testing.assert_array_equal(variable, value)


class _Failing:
    """A training function that assigns, and fails."""

    def __init__(self, model):
        self.model = model
        self.values = [np.ones(v.shape) for v in model.trainable_variables]

    def __call__(self, state, iterator):
        variables = (
            self.model.non_trainable_variables,
            self.model.optimizer.variables,
            self.model.metrics_variables,
        )
        for group, values in zip(variables, state[1:]):
            for variable, value in zip(group, values):
                variable.assign(value)
        for variable, value in zip(self.model.trainable_variables, self.values):
            variable.assign(value)
        _keras.keep_variables(self.model)
        raise OSError("disk")


def test_dropout_draws_where_it_is_looked_for():
    """From seed generators, or from the global generator on PyTorch."""
    dropout = keras.layers.Dropout(0.5)
    ones = keras.ops.ones((50,))
    before = _keras.global_random_state()
    first = keras.ops.convert_to_numpy(dropout(ones, training=True))
    after = _keras.global_random_state()
    assert (before != after) == (keras.backend.backend() == "torch")
    _keras.set_global_random_state(before)
    assert _keras.global_random_state() == before
    again = keras.ops.convert_to_numpy(dropout(ones, training=True))
    same = np.array_equal(first, again)
    assert same == (keras.backend.backend() == "torch")


def test_fit_asks_a_method_for_the_logs_of_an_epoch():
    model = keras.Model(*builders.graph())
    model.compile("sgd", builders.cross_entropy())
    asked = []

    def logs_of(logs):
        asked.append(set(logs))
        return {"own": 1.0}

    model._get_metrics_result_or_logs = logs_of
    x, y = builders.data(4)
    history = model.fit(x, y, verbose=0).history
    assert asked == [{"loss"}]
    assert history == {"own": [1.0]}


@pytest.mark.only("jax", reason="the distribution is that of JAX")
def test_saving_weights_makes_variables_of_the_distribution(tmp_path):
    made = []

    class Recorded(keras.distribution.DataParallel):
        def get_variable_layout(self, variable):
            made.append(variable.path)
            return super().get_variable_layout(variable)

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    distribution = Recorded(devices=["cpu:0"])
    keras.distribution.set_distribution(distribution)
    try:
        with _keras.alone():
            assert keras.distribution.distribution() is None
            model.save_weights(tmp_path / "alone.weights.h5")
        assert keras.distribution.distribution() is distribution
        assert not made
        # If this fails, `alone` is no longer needed.
        model.save_weights(tmp_path / "model.weights.h5")
        assert made
    finally:
        keras.distribution.set_distribution(None)
    with _keras.alone():
        assert keras.distribution.distribution() is None
