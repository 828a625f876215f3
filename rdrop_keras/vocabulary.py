"""Training passes that stop before the vocabulary head."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import keras

from rdrop_keras import _keras
from rdrop_keras.fusion import fusion_for
from rdrop_keras.losses.inference import divergence_for
from rdrop_keras.losses.vocabulary import VocabularyLoss
from rdrop_keras.losses.vocabulary import vocabulary_rdrop_loss
from rdrop_keras.objective import Consistency
from rdrop_keras.objective import Objective
from rdrop_keras.objective import Tokens
from rdrop_keras.objective import build_loss
from rdrop_keras.outputs import of_output
from rdrop_keras.rdrop import RDrop

ops = keras.ops


class HeadWeights(NamedTuple):
    """A layer that gives logits of a vocabulary.

    Attributes:
        kernel: `(width, vocabulary)`, or `(vocabulary, width)`.
        bias: `(vocabulary,)` or None.
        transposed: Whether the kernel is embeddings.
        activated: Whether a softmax follows.
    """

    kernel: Any
    bias: Any
    transposed: bool
    activated: bool


class Deferred:
    """Hands out the hidden states in place of a vocabulary head's logits.

    Attributes:
        head: After a pass, the `HeadWeights` of what was left out.
    """

    def __init__(self):
        self.head: HeadWeights | None = None
        self._hidden: Any = None

    def __call__(
        self, layer: keras.layers.Layer, hidden: Any, **kwargs: Any
    ) -> Any:
        """Returns what a head would have been applied to.

        Args:
            layer: The head.
            hidden: Its input.
            **kwargs: Its other arguments.
        """
        check_head(layer, kwargs)
        mask = _keras.mask_of(hidden)
        # What the logits would carry: `ReversibleEmbedding` drops masks.
        mask = layer.compute_mask(hidden, mask)
        self.head, hidden = _weights_and_input(layer, hidden)
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
            raise ValueError(
                "Expected the logits of the vocabulary head to be the model's "
                "one output, since with `vocabulary_chunk` a training pass "
                "ends before them. Received a model that computes something "
                "else of them, or has other outputs. Compile with "
                "`rdrop=RDrop(..., vocabulary_chunk=None)`."
            )
        self._hidden = None
        return leaves[0]


@contextlib.contextmanager
def deferring(model: Any) -> Iterator[Deferred]:
    """Lets a model's calls end before its vocabulary head.

    Args:
        model: An `RDropMixin` model: functional, or one whose `call` uses
            `vocabulary_logits`.
    """
    deferred = Deferred()
    found = head_position(model)
    graph = contextlib.nullcontext()
    if found is not None:
        position, layer = found

        def end(index, operation):
            if index != position:
                return operation
            return lambda hidden, **kwargs: deferred(
                layer, hidden, **_without_training(kwargs)
            )

        graph = _keras.replacing_operations(model, end)
    model._rdrop_deferred = deferred
    try:
        with graph:
            yield deferred
    finally:
        model._rdrop_deferred = None


def head_position(model: Any) -> tuple[int, keras.layers.Layer] | None:
    """Returns where a functional model calls its head, and the head, or None.

    Its position among `_keras.nodes`.
    """
    graph = _keras.graph_of(model)
    if graph is None:
        return None
    outputs = [id(tensor) for tensor in graph.outputs]
    for position, node in enumerate(_keras.nodes(graph)):
        if isinstance(node.operation, _HEADS) and any(
            id(tensor) in outputs for tensor in node.outputs
        ):
            return position, node.operation
    return None


def check_head(layer: Any, kwargs: dict[str, Any]) -> None:
    """Raises unless logits are a product of a layer's weights and its input."""
    wrong = None
    if isinstance(layer, keras.layers.Dense):
        if layer.activation not in _ACTIVATIONS:
            wrong = f"activation={layer.activation.__name__}"
        elif getattr(layer, "quantization_mode", None):
            wrong = f"quantization_mode={layer.quantization_mode!r}"
    elif isinstance(layer, keras.layers.ReversibleEmbedding):
        if not kwargs.get("reverse"):
            wrong = "a call without `reverse=True`"
        elif layer.logit_soft_cap is not None:
            wrong = f"logit_soft_cap={layer.logit_soft_cap!r}"
    else:
        wrong = f"a {type(layer).__name__}"
    if wrong is not None:
        raise ValueError(
            "Expected a vocabulary head of which training can compute the "
            "logits in chunks: a `keras.layers.Dense` without activation or "
            "with a softmax, or a `keras.layers.ReversibleEmbedding` called "
            f"with `reverse=True`. Received: {wrong}. Compile with "
            "`rdrop=RDrop(..., vocabulary_chunk=None)`."
        )


def chunked_objective(
    compiled_loss: Any,
    settings: RDrop,
    head: HeadWeights,
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
    results: list[VocabularyLoss] = []

    def compute(task_loss, name):
        options = _options(task_loss, name, settings, head)
        weight = alpha[name] if isinstance(alpha, dict) else alpha

        def in_chunks(y_true, y_pred, weights):
            result = vocabulary_rdrop_loss(
                y_true,
                hidden,
                head.kernel,
                head.bias,
                weight,
                head.transposed,
                sample_weight=weights,
                chunk_size=settings.vocabulary_chunk,
                **options,
            )
            results.append(result)
            return result.loss

        return in_chunks

    def take(part):
        def of_output(task_loss, name):
            return lambda *batch: getattr(results[0], part)

        return _through(compiled_loss, of_output, y, hidden, sample_weight)

    loss = _through(compiled_loss, compute, y, hidden, sample_weight)
    result = results[0]
    consistency = Consistency(
        value=take("consistency"),
        weighted=(loss - take("task_loss")) * len(hidden),
        identical=_identical(hidden, result.count),
        improper=ops.zeros((), "float32"),
    )
    return Objective(
        loss + additional,
        take("task_loss") + additional,
        consistency,
        ops.ones((), "float32"),
        Tokens(result.correct, result.nll, result.count),
    )


def _identical(hidden, count):
    # All of them: equal rows need not give equal logits, to the last bit, at
    # different places of a product.
    same = count > 0
    for other in hidden[1:]:
        same = ops.logical_and(same, ops.all(hidden[0] == other))
    return ops.cast(same, "float32")


def _through(compiled_loss, replace, y, hidden, sample_weight):
    # Keras's code, which pairs targets and weights and multiplies the loss's.
    return _keras.with_losses(compiled_loss, replace)(
        y, hidden[0], sample_weight
    )


def _options(
    task_loss: Any, name: str, settings: RDrop, head: HeadWeights
) -> dict[str, Any]:
    kind = of_output(settings.divergence, name, "auto")
    fusion = fusion_for(task_loss, divergence_for(task_loss, kind))
    if task_loss.from_logits == head.activated:
        raise ValueError(
            "Expected the loss to read what the head gives. Received: "
            f"from_logits={task_loss.from_logits} and a head "
            f"{'with' if head.activated else 'without'} a softmax."
        )
    return {
        "label_smoothing": fusion.label_smoothing,
        "ignore_class": fusion.ignore_class,
        "reduction": task_loss.reduction,
        "stop_gradient": settings.stop_gradient,
    }


def _weights_and_input(layer, hidden):
    """Returns a head and its input in the dtype that it computes in."""
    hidden = ops.cast(hidden, layer.compute_dtype)
    if isinstance(layer, keras.layers.Dense):
        activated = layer.activation is keras.activations.softmax
        bias = layer.bias if layer.use_bias else None
        return HeadWeights(layer.kernel, bias, False, activated), hidden
    tied = layer.tie_weights
    kernel = layer.embeddings if tied else layer.reverse_embeddings
    if layer.reverse_dtype is not None:
        # Rounded first, as the layer's call does.
        kernel = ops.cast(ops.copy(kernel), layer.compute_dtype)
        kernel = ops.cast(kernel, layer.reverse_dtype)
        hidden = ops.cast(hidden, layer.reverse_dtype)
    return HeadWeights(kernel, None, tied, False), hidden


def _without_training(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in kwargs.items() if key != "training"}


def logits_or_hidden(
    model: Any,
    layer: Callable[..., Any],
    hidden: Any,
    kwargs: dict[str, Any],
) -> Any:
    """Returns a head's logits, or its input where the head is left out."""
    if model._rdrop_deferred is None:
        return layer(hidden, **kwargs)
    return model._rdrop_deferred(layer, hidden, **kwargs)


_HEADS = (keras.layers.Dense, keras.layers.ReversibleEmbedding)
_ACTIVATIONS = (keras.activations.linear, keras.activations.softmax)
_NO_HEAD = (
    "Expected a vocabulary head with `vocabulary_chunk`. Received a model that "
    "is not functional with a `Dense` or `ReversibleEmbedding` layer as its "
    "last, and whose `call` does not compute its logits by "
    "`self.vocabulary_logits(layer, hidden)`. Do that, or compile with "
    "`rdrop=RDrop(..., vocabulary_chunk=None)`."
)
