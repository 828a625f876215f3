"""Methods for a model's own `call`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from rdrop_keras.passes.once import once
from rdrop_keras.passes.without_head import logits_or_hidden


class InCall:
    """Methods of `RDropMixin` for the `call` of a subclass."""

    def compute_once(
        self, function: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Calls a deterministic function once for all passes.

        For use in `call`. With `passes="auto"` or `"shared_prefix"` in
        `RDrop`, the first pass of a training step calls the function and the
        other passes reuse its result. In all other calls of the model the
        function is simply called.

        Args:
            function: A layer or function that draws no random numbers.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Returns:
            The result of the function: tensors, of any structure.

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
        """Computes the logits of a vocabulary, as the last step of `call`.

        With `RDrop(vocabulary_chunk=...)` training passes end before the
        layer, and the loss is computed from the layer's input in chunks.
        Otherwise the layer is called.

        Args:
            layer: A `Dense`, `ReversibleEmbedding` or
                `rdrop_keras.layers.AdaptiveSoftmax` layer.
            hidden: The layer's input, `(batch, ..., width)`.
            **kwargs: Other arguments of the layer's call, such as
                `reverse=True`.

        Returns:
            The logits, `(batch, ..., vocabulary)`, which `call` must return
            unchanged.

        Example:

        ```python
        def call(self, inputs, training=None):
            hidden = self.decoder(inputs, training=training)
            return self.vocabulary_logits(self.embedding, hidden, reverse=True)
        ```
        """
        return logits_or_hidden(self, layer, hidden, kwargs)
