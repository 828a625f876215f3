"""Training passes that stop before the vocabulary head."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras._context import ForModel
from rdrop_keras.closed_form.heads import AdaptiveSoftmaxHead
from rdrop_keras.closed_form.heads import HeadWeights
from rdrop_keras.closed_form.heads import check_head
from rdrop_keras.closed_form.heads import head_and_input
from rdrop_keras.divergences.for_loss import divergence_for
from rdrop_keras.divergences.reduction import common_mask
from rdrop_keras.objective.all_outputs import build_loss
from rdrop_keras.objective.by_output import of_output
from rdrop_keras.objective.fusion import fusion_for
from rdrop_keras.objective.one_output import Comparison
from rdrop_keras.objective.result import Consistency
from rdrop_keras.objective.result import Objective
from rdrop_keras.objective.result import Tokens
from rdrop_keras.rdrop import RDrop

ops = keras.ops

# What `vocabulary_logits` hands hidden states to while a model is called.
_deferred = ForModel("rdrop_keras_deferred")


class Deferred:
    """Hands out the hidden states in place of a vocabulary head's logits.

    Attributes:
        head: After a pass, what was left out.
    """

    def __init__(self):
        self.head: HeadWeights | AdaptiveSoftmaxHead | None = None
        self._hidden: Any = None

    def __call__(
        self, layer: keras.layers.Layer, *args: Any, **kwargs: Any
    ) -> Any:
        """Returns what a head would have been applied to.

        Args:
            layer: The head.
            *args: Its input, if it is not given by name.
            **kwargs: Its other arguments.
        """
        if self._hidden is not None:
            raise ValueError(
                "Expected one call of `vocabulary_logits` in each pass, with "
                "`vocabulary_chunk` as its last step. Received another, of "
                f"{layer.name}. {_WITHOUT}"
            )
        check_head(layer, kwargs)
        call = inspect.signature(layer.call).bind(*args, **kwargs)
        hidden = next(iter(call.arguments.values()))
        mask = _keras.mask_of(hidden)
        # What the logits would carry: `ReversibleEmbedding` drops masks.
        mask = layer.compute_mask(hidden, mask)
        self.head, hidden = head_and_input(layer, hidden)
        # A tensor of its own, by which it is known again.
        self._hidden = _keras.carry_mask(ops.copy(hidden), mask)
        return self._hidden

    def hidden_of(self, output: Any) -> Any:
        """Returns the hidden states that one pass came to.

        Raises:
            ValueError: If that is not what the head was to be applied to.
        """
        leaves = keras.tree.flatten(output)
        if self._hidden is None:
            raise ValueError(_NO_HEAD)
        if len(leaves) != 1 or leaves[0] is not self._hidden:
            raise ValueError(_OTHER_OUTPUTS)
        self._hidden = None
        return leaves[0]


@contextlib.contextmanager
def deferring(
    model: Any,
) -> Iterator[tuple[Deferred, list[Callable[[int, Callable], Callable]]]]:
    """Lets a model's calls end before its vocabulary head.

    Args:
        model: An `RDropMixin` model: functional, or one whose `call` uses
            `vocabulary_logits`.

    Yields:
        What the head's input goes to, and the replacements with which a
        functional model is to be called (see `_keras.rewired`).
    """
    deferred = Deferred()
    found = head_position(model)
    replacements = []
    if found is not None:
        position, layer = found

        def end(index, operation):
            if index != position:
                return operation
            return lambda *args, **kwargs: deferred(
                layer, *args, **_without_training(kwargs)
            )

        replacements.append(end)
    with _deferred.set(model, deferred):
        yield deferred, replacements


def head_position(model: Any) -> tuple[int, keras.layers.Layer] | None:
    """Returns where a functional model ends, and with what, or None.

    The position of the call among `_keras.nodes`, and the operation, which
    need not be a head that has chunks.
    """
    graph = _keras.graph_of(model)
    if graph is None:
        return None
    if len(graph.outputs) != 1:
        raise ValueError(_OTHER_OUTPUTS)
    for position, node in enumerate(_keras.nodes(graph)):
        if any(tensor is graph.outputs[0] for tensor in node.outputs):
            return position, node.operation
    return None


def chunked_objective(
    compiled_loss: Any,
    settings: RDrop,
    head: HeadWeights | AdaptiveSoftmaxHead,
    y: Any,
    hidden: Sequence[Any],
    sample_weight: Any,
    alpha: Any,
    additional: Any,
) -> Objective:
    """Returns the loss and its parts without the logits of the batch.

    Args:
        compiled_loss: What `compile(loss=...)` made.
        settings: The compiled settings.
        head: What gives the logits.
        y: Class ids.
        hidden: What it gives them of, in each pass.
        sample_weight: Sample weights, as `fit` hands them over.
        alpha: What `RDrop.alpha_at` returned.
        additional: The mean over passes of what layers add to the loss.
    """
    if not compiled_loss.built:
        # No logits are at hand, and labels may exceed what stands for them.
        labels = keras.tree.map_structure(ops.zeros_like, y)
        logits = ops.zeros((*ops.shape(hidden[0])[:-1], 2))
        build_loss(compiled_loss, (labels, logits, None))
    entry, *_ = _keras.loss_entries(compiled_loss, y, hidden[0], sample_weight)
    weight = alpha[entry.name] if isinstance(alpha, dict) else alpha
    result = head.loss(
        entry.y_true,
        hidden,
        weight,
        sample_weight=entry.sample_weight,
        chunk_size=settings.vocabulary_chunk,
        **_options(entry.loss, entry.name, settings, head),
    )

    def weighted(value):
        # Keras's code, which multiplies the loss weight.
        return _keras.weighted_sum_of_losses(
            compiled_loss, [value], y, hidden[0], sample_weight
        )

    loss, task_loss = weighted(result.loss), weighted(result.task_loss)
    consistency = Consistency(
        value=weighted(result.consistency),
        weighted=(loss - task_loss) * len(hidden),
        by_output={},
        compared=_compared(hidden, head),
    )
    return Objective(
        loss + additional,
        task_loss + additional,
        consistency,
        ops.ones((), "float32"),
        Tokens(result.correct, result.nll, result.count),
    )


def _compared(hidden, head):
    if head.draws:
        # Its masks differ, which the hidden states do not show.
        return ()
    # Not the logits: equal rows need not give equal ones, to the last bit, at
    # different places of a product.
    mask = common_mask(hidden)
    return (Comparison("logits", None, hidden, None, mask, None),)


def _options(
    task_loss: Any,
    name: str,
    settings: RDrop,
    head: HeadWeights | AdaptiveSoftmaxHead,
) -> dict[str, Any]:
    kind = of_output(settings.divergence, name, "auto")
    fusion = fusion_for(task_loss, divergence_for(task_loss, kind))
    if task_loss.from_logits == head.activated:
        raise ValueError(
            "Expected the loss to read what the head gives. Received: "
            f"from_logits={task_loss.from_logits} and a head "
            f"{'with' if head.activated else 'without'} a softmax."
        )
    head.check(fusion.label_smoothing, settings.dropout_rates)
    return {
        "label_smoothing": fusion.label_smoothing,
        "ignore_class": fusion.ignore_class,
        "reduction": task_loss.reduction,
        "stop_gradient": settings.stop_gradient,
    }


def _without_training(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in kwargs.items() if key != "training"}


def logits_or_hidden(
    model: Any,
    layer: Callable[..., Any],
    hidden: Any,
    kwargs: dict[str, Any],
) -> Any:
    """Returns a head's logits, or its input where the head is left out."""
    deferred = _deferred.get(model)
    if deferred is None:
        return layer(hidden, **kwargs)
    return deferred(layer, hidden, **kwargs)


_NO_HEAD = (
    "Expected a vocabulary head with `vocabulary_chunk`. Received a model that "
    "is not functional with a `Dense`, `ReversibleEmbedding` or "
    "`AdaptiveSoftmax` layer as its last, and whose `call` does not compute "
    "its logits by `self.vocabulary_logits(layer, hidden)`. Do that, or "
    "compile with `rdrop=RDrop(..., vocabulary_chunk=None)`."
)

_WITHOUT = "Compile with `rdrop=RDrop(..., vocabulary_chunk=None)`."

_OTHER_OUTPUTS = (
    "Expected the logits of the vocabulary head to be the model's one output, "
    "since with `vocabulary_chunk` a training pass ends before them. Received "
    "a model that computes something else of them, or has other outputs. "
    f"{_WITHOUT}"
)
