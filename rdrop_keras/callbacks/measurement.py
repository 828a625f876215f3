"""The measurements of `ConsistencyMonitor` on one model."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras.divergences.base import Divergence
from rdrop_keras.divergences.bernoulli import BernoulliConsistency
from rdrop_keras.divergences.categorical import CategoricalConsistency
from rdrop_keras.divergences.for_loss import divergence_for
from rdrop_keras.divergences.for_loss import ignored_class
from rdrop_keras.divergences.reduction import common_mask
from rdrop_keras.divergences.reduction import reduce_values
from rdrop_keras.from_model import same_state
from rdrop_keras.objective.all_outputs import compare_outputs
from rdrop_keras.objective.by_output import of_output
from rdrop_keras.objective.counted_items import valid_positions
from rdrop_keras.objective.entries import loss_entries
from rdrop_keras.objective.task_loss import loss_of_pass
from rdrop_keras.passes.observation import Recording
from rdrop_keras.rdrop import RDrop
from rdrop_keras.training import trainer

ops = keras.ops


class Measurement:
    """Measures one compiled model.

    A second object of a derived class shares the model's `__dict__` and has
    its own `test_step`. Its `evaluate` therefore prepares the data as the
    model's does, under the same strategy, and compiles once.
    """

    def __init__(self, model: keras.Model, divergence: Any):
        self.model = model
        self.compiled_loss = _keras.compiled_loss(model)
        self.settings = RDrop(divergence=divergence)
        self.function = None
        names = ("submodel_kl", "inference_gap", "submodel_agreement")
        strategy = getattr(model, "distribute_strategy", None)
        with strategy.scope() if strategy else contextlib.nullcontext():
            self.means = [keras.metrics.Mean(name=name) for name in names]
        self.has_classes = False
        cls = type(model)
        members = {"measurement": self}
        view = type(f"Measured{cls.__name__}", (_MeasuringStep, cls), members)
        self.view = same_state(model, view)

    def is_of(self, model: keras.Model, divergence: Any) -> bool:
        """Whether this measures the model as it is compiled now."""
        return (
            model is self.model
            and _keras.compiled_loss(model) is self.compiled_loss
            and divergence == self.settings.divergence
        )

    def update(self, model: keras.Model, x: Any, y: Any, weight: Any) -> None:
        """Adds one batch."""
        # Keras divides every loss by the number of replicas.
        share = reduce_values(ops.ones((1,)))
        takes_training = "training" in inspect.signature(model.call).parameters
        losses, outputs = [], []
        for training in (False, True, True):
            # Every pass starts from the same state. A model whose `call` does
            # not take `training` trains with dropout off, in Keras as here.
            with Recording(model) as recording:
                arguments = {"training": training} if takes_training else {}
                output = model(_keras.to_overwrite(x), **arguments)
                spent = _keras.to_overwrite((x, y, output))
                loss = loss_of_pass(model, *spent, weight, training=False)
            recording.release_random_state()
            losses.append(loss / share)
            outputs.append(output)
        agreeing, total = self._count_agreeing(y, outputs[1:], weight)
        _, consistency = compare_outputs(
            self.compiled_loss, self.settings, y, outputs[1:], weight
        )
        leaves = [leaf for leaf in keras.tree.flatten(x) if leaf is not None]
        rows = ops.shape(leaves[0])[0]
        divergence, gap, agreement = self.means
        divergence.update_state(consistency.value / share, rows)
        gap.update_state(losses[0] - (losses[1] + losses[2]) / 2, rows)
        if self.has_classes:
            agreement.update_state(ops.divide_no_nan(agreeing, total), total)

    def result(self) -> dict[str, Any]:
        """Returns the measurements by name."""
        reported = self.means if self.has_classes else self.means[:2]
        results = {mean.name: mean.result() for mean in reported}
        return {**results, "inference_gap": ops.abs(results["inference_gap"])}

    def _count_agreeing(self, y: Any, outputs: Sequence[Any], weight: Any):
        """Returns the weight of the items that agree, and of all items."""
        counts = []
        for group in loss_entries(
            self.compiled_loss, self.settings, y, outputs, weight
        ):
            entry = group[0]
            divergence = self._divergence_for(entry.loss, entry.name)
            for pair in zip(*(keras.tree.flatten(e.y_pred) for e in group)):
                same = _agreement(divergence, pair)
                if same is None:
                    continue
                valid = valid_positions(
                    entry.y_true, ignored_class(entry.loss), pair[0], divergence
                )
                mask = common_mask(pair, valid)
                counts.append(
                    [
                        reduce_values(values, "sum", entry.sample_weight, mask)
                        for values in (same, ops.ones_like(same))
                    ]
                )
        self.has_classes = bool(counts)
        return [sum(parts) for parts in zip(*counts)] or [None, None]

    def _divergence_for(self, task_loss: Any, name: str | None) -> Divergence:
        try:
            kind = of_output(self.settings.divergence, name, "auto")
            return divergence_for(task_loss, kind)
        except ValueError as error:
            raise ValueError(
                "Expected a task loss whose consistency can be inferred. "
                f"Received: loss={getattr(task_loss, 'name', task_loss)!r}. "
                "Say how the outputs of two sub-models are to be compared: "
                "`ConsistencyMonitor(..., divergence=...)`."
            ) from error


class _MeasuringStep:
    """What a measuring model does in its own way during `evaluate`."""

    measurement: Measurement

    @property
    def test_function(self) -> Any:
        return self.measurement.function

    @test_function.setter
    def test_function(self, function: Any) -> None:
        self.measurement.function = function

    def reset_metrics(self) -> None:
        for mean in self.measurement.means:
            mean.reset_state()

    def get_metrics_result(self) -> dict[str, Any]:
        return self.measurement.result()

    @property
    def metrics_variables(self) -> list[keras.Variable]:
        return [v for mean in self.measurement.means for v in mean.variables]

    def test_step(self, *args: Any) -> Any:
        def update(data):
            batch = keras.utils.unpack_x_y_sample_weight(data)
            self.measurement.update(self, *batch)
            return self.measurement.result()

        return trainer().test_step(self, update, *args)


def _agreement(divergence: Divergence, pair: Sequence[Any]) -> Any:
    """Returns the share of each item on which two outputs decide alike."""
    if isinstance(divergence, CategoricalConsistency):
        first, second = (ops.argmax(o, axis=divergence.axis) for o in pair)
        return ops.cast(first == second, "float32")
    if isinstance(divergence, BernoulliConsistency):
        even = 0.0 if divergence.from_logits else 0.5
        same = ops.cast((pair[0] > even) == (pair[1] > even), "float32")
        return ops.mean(same, axis=divergence.axis)
    return None


@contextlib.contextmanager
def unchanged(model: keras.Model) -> Iterator[None]:
    """Restores the values of all variables of a model afterwards."""
    variables = [*model.variables, *model.metrics_variables]
    generator = _keras.global_seed_generator()
    if generator is not None:
        variables.append(generator.state)
    before = [(variable, ops.copy(variable)) for variable in variables]
    global_state = _keras.global_random_state()
    metrics = {id(metric) for metric in model.metrics}
    try:
        yield
    finally:
        for variable, value in before:
            variable.assign(value)
        _keras.set_global_random_state(global_state)
        # The first loss of a model with several outputs creates new metrics.
        for metric in model.metrics:
            if id(metric) not in metrics:
                metric.reset_state()
