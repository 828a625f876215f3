"""The mixin that makes a Keras model class train with R-Drop."""

from __future__ import annotations

import functools
from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras.in_call import InCall
from rdrop_keras.objective.task_loss import loss_of_pass
from rdrop_keras.own_logs import OwnLogs
from rdrop_keras.passes.observation import Observation
from rdrop_keras.rdrop import RDrop
from rdrop_keras.training import checks
from rdrop_keras.training import compiling
from rdrop_keras.training import trainer
from rdrop_keras.training.metrics import Trackers
from rdrop_keras.training.plan import plan
from rdrop_keras.training.step import compute_objective


class RDropMixin(InCall, OwnLogs):
    """A mixin that makes any Keras model class train with R-Drop.

    Put it before the model class in the list of bases. Preprocessing, presets,
    `generate()`, `evaluate()`, `predict()`, saving and export work as they do
    without it. Only `compile` takes one more argument, and `fit` and
    `train_on_batch` minimize

        1/2 (T_1 + T_2 + alpha * C)

    where `T_i` are the losses of two passes with dropout on and `C` is the
    bidirectional KL divergence between their outputs (see `RDrop`).

    In addition to Keras's own logs, `fit` reports `task_loss`, the mean of the
    `T_i`, which is comparable to `val_loss`, and `consistency_loss`, which is
    `C` in nats, without alpha.

    Example:

    ```python
    @keras.saving.register_keras_serializable("my_package")
    class RDropBert(RDropMixin, keras_hub.models.BertTextClassifier):
        pass

    classifier = RDropBert.from_preset("bert_base_en", num_classes=2)
    classifier.compile("adam", loss, rdrop=1.0)
    classifier.fit(texts, labels)
    ```

    Reference:
        [Liang et al., 2021](https://arxiv.org/abs/2106.14448), section 2.
    """

    _rdrop: RDrop | None = None
    _rdrop_trackers: Trackers | None = None
    _rdrop_checked: bool = False
    _rdrop_observation: Observation | None = None

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        checks.check_mixin_order(cls, RDropMixin)
        own_reset = cls.__dict__.get("reset_metrics")
        if own_reset is not None:
            # An override may reset only the metrics that it knows, as in the
            # example of `keras.Model.compute_loss`.
            @functools.wraps(own_reset)
            def reset_metrics(self):
                own_reset(self)
                RDropMixin._reset_trackers(self)

            cls.reset_metrics = reset_metrics

    @property
    def rdrop(self) -> RDrop | None:
        """The compiled R-Drop settings, or None for plain training."""
        return self._rdrop

    @compiling.declared_by(compiling.compile_declaration)
    def compile(self, *args: Any, rdrop: Any = 1.0, **kwargs: Any) -> None:
        """Configures the model for training.

        Takes `rdrop` and the arguments of the model's own `compile`, with its
        own defaults: that of `keras.Model`, of a KerasHub task or of a class
        of your own.

        Args:
            optimizer: The optimizer, as for `keras.Model.compile`.
            loss: The task loss.
            loss_weights: The weights of the losses of several outputs.
            metrics: Metrics, computed on the predictions of the first pass.
            weighted_metrics: Metrics that use the sample weights.
            run_eagerly: Whether to run steps eagerly.
            steps_per_execution: The number of steps in each compiled call.
            jit_compile: Whether to compile with XLA.
            auto_scale_loss: Whether to scale the loss in `mixed_float16`.
            rdrop: A number or schedule, the paper's alpha; an `RDrop` with
                all settings; or None or False for plain Keras training at
                plain cost. Defaults to 1.0.
            **kwargs: Other arguments of the model's own `compile`.

        Raises:
            TypeError, ValueError: If `rdrop` is not valid, or the model
                cannot be trained with R-Drop. The model is then unchanged.
        """
        compiling.check_not_settings(type(self), RDropMixin, kwargs)
        rdrop = RDrop.from_argument(rdrop)
        if rdrop is not None:
            checks.check_model(self, RDropMixin)
            checks.check_loss(super().compile, args, kwargs, rdrop)
        super().compile(*args, **kwargs)
        self._set_rdrop(rdrop)
        self._refuse_h5()

    def _refuse_h5(self) -> None:
        _keras.refuse_h5(self, compiling.NOT_IN_H5)

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        """Saves the model, with the settings of R-Drop, as a `.keras` file."""
        compiling.check_not_h5(self, filepath, kwargs)
        return super().save(filepath, *args, **kwargs)

    def _set_rdrop(self, rdrop: RDrop | None) -> None:
        self._rdrop = rdrop
        self._rdrop_trackers = None if rdrop is None else Trackers()
        self._rdrop_checked = False
        self._rdrop_observation = None

    def get_compile_config(self) -> dict[str, Any]:
        config = super().get_compile_config()
        return compiling.add_settings(self, config)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        config, rdrop = compiling.take_settings(config)
        own = compiling.has_own_compile(type(self))
        if not own and checks.is_from_keras(super().compile_from_config):
            # Keras's own method does not call an overridden `compile`.
            config = keras.saving.deserialize_keras_object(config)
            self.compile(**config, rdrop=rdrop)
            if self.optimizer is not None and self.built:
                self.optimizer.build(self.trainable_variables)
            return
        super().compile_from_config(config)
        if _keras.compile_config(self) is not None:
            self._set_rdrop(rdrop)

    def reset_metrics(self) -> None:
        super().reset_metrics()
        self._reset_trackers()

    def _reset_trackers(self) -> None:
        if self._rdrop_trackers is not None:
            self._rdrop_trackers.reset()

    def train_step(self, *args: Any) -> Any:
        if self._rdrop is None:
            return super().train_step(*args)
        return trainer().train_step(self, *args, self._rdrop_trackers)

    def make_train_function(self, force: bool = False) -> Any:
        super().make_train_function(force=force)
        if (
            self._rdrop is None
            or self._rdrop_checked
            # An overridden `train_step` may change the data first.
            or type(self).train_step is not RDropMixin.train_step
        ):
            return self.train_function
        train_function = self.train_function

        def done():
            self._rdrop_checked = True
            self.train_function = train_function

        self.train_function = trainer().check_first_batch(
            self, train_function, self._rdrop_trackers, done
        )
        return self.train_function

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        if self._rdrop is None:
            return super().train_on_batch(*args, **kwargs)
        return_dict = kwargs.pop("return_dict", False)
        if len(args) > 4:
            *args, return_dict = args
        logs = super().train_on_batch(*args, **kwargs, return_dict=True)
        if return_dict:
            return logs
        reported = self._rdrop_trackers.reported
        plain = {k: v for k, v in logs.items() if k not in reported}
        return _keras.values_in_order(self, plain)

    def rdrop_plan(self) -> str:
        """Returns a one-line summary of how the model will train, and why.

        Raises:
            ValueError: If the model is not compiled, or the divergence of an
                output cannot be inferred.
        """
        self._check_compiled()
        return plan(self)

    def compute_rdrop_loss(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        return_parts: bool = False,
    ) -> tuple[Any, ...]:
        """Computes the loss that `fit` minimizes, for custom training loops.

        Runs the training-mode passes. `fit` applies the gradient of this loss;
        scale the loss with `optimizer.scale_loss` if the optimizer scales
        losses. `RDrop(every=...)` is ignored: each call runs all passes.

        On TensorFlow the gradient of an embedding is sparse, with one row for
        each lookup in each pass. Make it dense before the optimizer squares
        the rows, as `fit` does.

        Args:
            x: A batch of inputs, preprocessed as `call` takes them.
            y: The targets.
            sample_weight: Optional sample weights.
            return_parts: Whether to return the parts of the loss as well.

        Returns:
            The loss, a scalar, and the outputs of the first pass. With
            `RDrop(vocabulary_chunk=...)` the second is the input of the last
            layer. With `return_parts` the third is a dict of `task_loss` and
            `consistency_loss`, named and computed as `fit` logs them, and
            `<output>_consistency_loss` for models with several outputs.

        Raises:
            ValueError: If the model is not compiled.

        Example:

        ```python
        with tf.GradientTape() as tape:
            loss, y_pred = model.compute_rdrop_loss(x, y)
        gradients = tape.gradient(loss, model.trainable_weights)
        gradients = [tf.convert_to_tensor(g) for g in gradients]
        model.optimizer.apply(gradients, model.trainable_weights)
        ```
        """
        self._check_compiled()
        if self._rdrop is None:
            y_pred = self(x, training=True)
            loss = loss_of_pass(self, x, y, y_pred, sample_weight)
            parts = {"task_loss": loss}
        else:
            objective, y_pred = compute_objective(self, x, y, sample_weight)
            loss, parts = objective.loss, objective.parts()
        return (loss, y_pred, parts) if return_parts else (loss, y_pred)

    def _check_compiled(self) -> None:
        if not self.compiled:
            raise ValueError(
                "Expected a compiled model. Call `compile(...)` first: it "
                "says which loss and which alpha to train with."
            )
