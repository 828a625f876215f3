"""The decoder-only Transformers of the R-Drop paper."""

from __future__ import annotations

from typing import Any

import keras

from reproduce.data.special_ids import PAD
from reproduce.models.adaptive import AdaptiveInput
from reproduce.models.adaptive import TiedAdaptiveSoftmax
from reproduce.models.attention import KeysAndValues
from reproduce.models.attention import normalization
from reproduce.models.sizes import LanguageSizes
from reproduce.models.text_model import TextModel
from reproduce.models.text_model import causal_mask
from reproduce.models.transformer import TransformerLayer

ops = keras.ops

Cache = list[KeysAndValues]


@keras.saving.register_keras_serializable("rdrop_keras_examples")
class LanguageModel(TextModel):
    """Predicts each token from the previous tokens.

    The inputs are ids `(batch, time)`, padded with `PAD` on the right. The
    outputs are logits `(batch, time, vocabulary)` of the next token at each
    position, in float32 under every dtype policy. Their Keras mask makes
    losses, metrics and R-Drop's consistency ignore padding. With `cutoffs`,
    the logits are log-probabilities, and ids must be ordered by falling
    frequency. The configuration has the fields of `LanguageSizes`.
    """

    sizes = LanguageSizes

    def __init__(self, vocabulary_size: int, **configuration: Any):
        super().__init__(vocabulary_size, **configuration)
        sizes, policy = self.configuration, {"dtype": self.dtype_policy}
        self.head = None
        if sizes.cutoffs is None:
            self.embedding = self.new_embedding(vocabulary_size, "embedding")
        else:
            self.embedding = AdaptiveInput(
                vocabulary_size,
                sizes.width,
                sizes.cutoffs,
                sizes.factor,
                name="embedding",
                **policy,
            )
            self.head = TiedAdaptiveSoftmax(
                self.embedding, sizes.softmax_dropout, name="head", **policy
            )
            self.head_dropout = keras.layers.Dropout(
                sizes.softmax_dropout, name="head_dropout", **policy
            )
        self.dropout = self.new_dropout("embedding_dropout")
        self.layers_of_decoder = [
            TransformerLayer(sizes, pre_norm=True, name=f"layer_{i}", **policy)
            for i in range(sizes.num_layers)
        ]
        self.final_norm = None
        if sizes.final_norm:
            self.final_norm = normalization("final_norm", self.dtype_policy)
        # Generation bypasses `__call__`, which would build the model.
        self.build((None, None))

    def build(self, input_shape: Any) -> None:
        shape = (None, None, self.configuration.width)
        self.embedding.build()
        for layer in self.layers_of_decoder:
            layer.build()
        if self.final_norm is not None:
            self.final_norm.build(shape)
        if self.head is not None:
            self.head.build(shape)
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        hidden = self.hidden_states(inputs, training=training)
        if self.head is None:
            return self.vocabulary_logits(self.embedding, hidden, reverse=True)
        hidden = self.head_dropout(hidden, training=training)
        return self.vocabulary_logits(self.head, hidden, training=training)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return ops.not_equal(inputs, PAD)

    def hidden_states(self, ids: Any, training: bool | None = None) -> Any:
        """Returns the last hidden states, `(batch, time, width)`."""
        hidden = self.embed(self.embedding, ids)
        hidden = self.dropout(hidden, training=training)
        visible = causal_mask(ids)
        for layer in self.layers_of_decoder:
            hidden = layer(hidden, visible, training=training)
        return self._finish(hidden)

    def log_probabilities(self, hidden: Any) -> Any:
        """Returns the float32 log-probabilities of all words in nats."""
        if self.head is None:
            return ops.log_softmax(self.embedding(hidden, reverse=True))
        return self.head(hidden, training=False)

    def fill_cache(self, ids: Any, time: Any) -> Cache:
        """Returns a cache of `time` positions that begins with prompts.

        Entries of padding on the right are overwritten before they are read.
        """
        hidden, visible = self.embed(self.embedding, ids), causal_mask(ids)
        cache = self.empty_cache(ops.shape(ids)[0], 1, time)
        for number, layer in enumerate(self.layers_of_decoder):
            hidden, memory = layer.with_memory(hidden, visible, training=False)
            cache[number] = KeysAndValues(
                *(
                    ops.slice_update(empty, (0,) * 5, new[:, None])
                    for empty, new in zip(cache[number], memory)
                )
            )
        return cache

    def step(self, ids: Any, index: Any, cache: Cache) -> tuple[Any, Cache]:
        """Returns the hidden states of ids `(batch,)`, and the new cache.

        The cache is that of `fill_cache` or of the previous step.
        """
        hidden = self.embed(self.embedding, ids[:, None], index)
        new_cache = []
        for layer, past in zip(self.layers_of_decoder, cache):
            hidden, past = layer.step(hidden, index, past)
            new_cache.append(past)
        return self._finish(hidden)[:, 0], new_cache

    def _finish(self, hidden):
        return hidden if self.final_norm is None else self.final_norm(hidden)
