"""The Transformer of Vaswani et al. (2017), as in the R-Drop paper."""

from __future__ import annotations

from typing import Any
from typing import NamedTuple

import keras

from reproduce.data.special_ids import PAD
from reproduce.models.attention import KeysAndValues
from reproduce.models.sizes import TranslationSizes
from reproduce.models.text_model import TextModel
from reproduce.models.text_model import causal_mask
from reproduce.models.transformer import TransformerLayer

ops = keras.ops


class Source(NamedTuple):
    """The keys and values of the source for each decoder layer, and its mask.

    The mask, `(batch, 1, 1, source_time)`, is false at padding.
    """

    layers: list[KeysAndValues]
    visible: Any


@keras.saving.register_keras_serializable("rdrop_keras_examples")
class Transformer(TextModel):
    """An encoder and a decoder with post-normalization.

    The inputs are `{"source_ids": (batch, source_time), "target_ids": (batch,
    target_time)}`, padded with `PAD` on the right; `target_ids` begin with
    `BOS`. The outputs are logits `(batch, target_time, vocabulary)`, in float32
    under every dtype policy. Their Keras mask makes losses, metrics and
    R-Drop's consistency ignore padding.

    Without `source_vocabulary_size`, source and target have one vocabulary, as
    shared embeddings require. The configuration has the fields of
    `TranslationSizes`.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762).
    """

    sizes = TranslationSizes

    def __init__(
        self,
        vocabulary_size: int,
        source_vocabulary_size: int | None = None,
        **configuration: Any,
    ):
        super().__init__(vocabulary_size, **configuration)
        sizes, policy = self.configuration, {"dtype": self.dtype_policy}
        self.source_vocabulary_size = source_vocabulary_size or vocabulary_size
        if sizes.shared_embeddings and (
            self.source_vocabulary_size != self.vocabulary_size
        ):
            raise ValueError(
                "Expected source and target to have one vocabulary, since they "
                "share embeddings. Received: source_vocabulary_size="
                f"{source_vocabulary_size}, vocabulary_size={vocabulary_size}. "
                "Pass `shared_embeddings=False`, or learn a joint vocabulary."
            )
        self.embedding = self.new_embedding(vocabulary_size, "embedding")
        self.source_embedding = self.embedding
        if not sizes.shared_embeddings:
            self.source_embedding = self.new_embedding(
                self.source_vocabulary_size, "source_embedding"
            )
        self.source_dropout = self.new_dropout("source_dropout")
        self.target_dropout = self.new_dropout("target_dropout")
        self.encoder_layers = [
            TransformerLayer(sizes, name=f"encoder_{i}", **policy)
            for i in range(sizes.num_layers)
        ]
        self.decoder_layers = [
            TransformerLayer(
                sizes, reads_source=True, name=f"decoder_{i}", **policy
            )
            for i in range(sizes.num_layers)
        ]
        # `encode` and decoding bypass `__call__`, which would build the model.
        ids = (None, None)
        self.build({"source_ids": ids, "target_ids": ids})

    def build(self, input_shape: Any) -> None:
        self.embedding.build()
        if self.source_embedding is not self.embedding:
            self.source_embedding.build()
        for layer in self.encoder_layers + self.decoder_layers:
            layer.build()

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "source_vocabulary_size": self.source_vocabulary_size,
        }

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        hidden = self.hidden_states(inputs, training=training)
        return self.vocabulary_logits(self.embedding, hidden, reverse=True)

    def compute_mask(self, inputs: dict[str, Any], mask: Any = None) -> Any:
        return ops.not_equal(inputs["target_ids"], PAD)

    def hidden_states(
        self, inputs: dict[str, Any], training: bool | None = None
    ) -> Any:
        """Returns the decoder's states, `(batch, target_time, width)`."""
        memory = self.encode(inputs["source_ids"], training=training)
        source = self.source(memory, inputs["source_ids"])
        return self.decode(inputs["target_ids"], source, training=training)

    def logits(self, hidden: Any) -> Any:
        """Projects `(..., width)` to logits `(..., vocabulary)`, float32."""
        return self.embedding(hidden, reverse=True)

    def encode(self, source_ids: Any, training: bool | None = None) -> Any:
        """Returns the memory, `(batch, source_time, width)`."""
        hidden = self.embed(self.source_embedding, source_ids)
        hidden = self.source_dropout(hidden, training=training)
        visible = _no_padding(source_ids)
        for layer in self.encoder_layers:
            hidden = layer(hidden, visible, training=training)
        return hidden

    def source(self, memory: Any, source_ids: Any) -> Source:
        """Projects a memory for attention, once for all decoding steps."""
        layers = [
            layer.source_attention.keys_and_values(memory)
            for layer in self.decoder_layers
        ]
        return Source(layers, _no_padding(source_ids))

    def decode(
        self, target_ids: Any, source: Source, training: bool | None = None
    ) -> Any:
        """Returns the decoder's states at all positions of `target_ids`."""
        hidden = self.embed(self.embedding, target_ids)
        hidden = self.target_dropout(hidden, training=training)
        # Padding is on the right, so the causal mask already hides it.
        visible = causal_mask(target_ids)
        for layer, memory in zip(self.decoder_layers, source.layers):
            hidden = layer(
                hidden, visible, memory, source.visible, training=training
            )
        return hidden

    def decode_step(
        self, ids: Any, index: Any, cache: list[KeysAndValues], source: Source
    ) -> tuple[Any, list[KeysAndValues]]:
        """Returns the states of target ids `(batch, beam)`, and the new cache.

        The cache is that of the previous step or of `empty_cache`. The source
        is that of the batch, without beams.
        """
        hidden = self.embed(self.embedding, ids[..., None], index)[:, :, 0]
        new_cache = []
        for layer, memory, past in zip(
            self.decoder_layers, source.layers, cache
        ):
            hidden, past = layer.step(
                hidden, index, past, memory, source.visible
            )
            new_cache.append(past)
        return hidden, new_cache


def _no_padding(ids):
    return ops.not_equal(ids, PAD)[:, None, None, :]
