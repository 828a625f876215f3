"""What a model's own `call` may use while R-Drop makes its passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from rdrop_keras.passes.shared_prefix import once
from rdrop_keras.passes.without_head import logits_or_hidden


class InCall:
    """Methods of `RDropMixin` for the `call` of a subclass."""

    def compute_once(
        self, function: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Computes in `call` what no dropout reaches, once for all passes.

        With `RDrop(passes="shared_prefix")` the first pass of a training step
        computes it and the others take its result. Otherwise it is computed
        at every call.

        Args:
            function: A layer or function that draws no random numbers.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Returns:
            What the function returns: tensors, of any structure.

        Example:

        ```python
        def call(self, inputs, training=None):
            features = self.compute_once(self.encoder, inputs)
            return self.head(self.dropout(features, training=training))
        ```
        """

        def compute():
            return function(*args, **kwargs)

        shared = once.get(self)
        return compute() if shared is None else shared(compute)

    def vocabulary_logits(
        self, layer: keras.layers.Layer, hidden: Any, **kwargs: Any
    ) -> Any:
        """Computes in `call` the logits of a vocabulary, as its last step.

        With `RDrop(vocabulary_chunk=...)` training passes end before it, and
        the loss is computed from what the layer is applied to, in chunks.
        Otherwise it is applied.

        Args:
            layer: A `Dense`, `ReversibleEmbedding` or
                `rdrop_keras.layers.AdaptiveSoftmax` layer.
            hidden: Its input, `(batch, ..., width)`.
            **kwargs: Other arguments of its call, such as `reverse=True`.

        Returns:
            The logits, `(batch, ..., vocabulary)`, which `call` has to return
            as they are.

        Example:

        ```python
        def call(self, inputs, training=None):
            hidden = self.decoder(inputs, training=training)
            return self.vocabulary_logits(self.embedding, hidden, reverse=True)
        ```
        """
        return logits_or_hidden(self, layer, hidden, kwargs)
