"""The Transformer of Vaswani et al. (2017), as in the R-Drop paper."""

from __future__ import annotations

import dataclasses
from typing import Any
from typing import NamedTuple

import keras
import keras_hub

from rdrop_keras import RDropModel
from reproduce.data.special_ids import PAD
from reproduce.models.transformer import KeysAndValues
from reproduce.models.translation_layers import DecoderLayer
from reproduce.models.translation_layers import EncoderLayer
from reproduce.models.translation_sizes import Configuration

ops = keras.ops


class Source(NamedTuple):
    """The encoded source, which every decoding step reads.

    Attributes:
        layers: The keys and values of the memory for each decoder layer.
        visible: The mask of positions that are not padding,
            `(batch, 1, 1, source_time)`.
    """

    layers: list[KeysAndValues]
    visible: Any


@keras.saving.register_keras_serializable("rdrop_keras_examples")
class Transformer(RDropModel):
    """An encoder and a decoder with post-normalization.

    The inputs are `{"source_ids": (batch, source_time), "target_ids": (batch,
    target_time)}`, padded with `PAD` on the right; `target_ids` begin with
    `BOS`. The outputs are logits `(batch, target_time, vocabulary)`, in float32
    under every dtype policy. Their Keras mask makes losses, metrics and
    R-Drop's consistency ignore padding.

    Args:
        vocabulary_size: The number of target ids.
        num_layers: See `Configuration`.
        width: See `Configuration`.
        feed_forward: See `Configuration`.
        num_heads: See `Configuration`.
        dropout: See `Configuration`.
        attention_dropout: See `Configuration`.
        activation_dropout: See `Configuration`.
        shared_embeddings: See `Configuration`.
        source_vocabulary_size: The number of source ids. The default is
            `vocabulary_size`, which is required for shared embeddings.
        **kwargs: Arguments of `keras.Model`.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762).
    """

    def __init__(
        self,
        vocabulary_size: int,
        num_layers: int,
        width: int,
        feed_forward: int,
        num_heads: int,
        dropout: float,
        attention_dropout: float,
        activation_dropout: float,
        shared_embeddings: bool = True,
        source_vocabulary_size: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.configuration = Configuration(
            num_layers=num_layers,
            width=width,
            feed_forward=feed_forward,
            num_heads=num_heads,
            dropout=dropout,
            attention_dropout=attention_dropout,
            activation_dropout=activation_dropout,
            shared_embeddings=shared_embeddings,
        )
        self.vocabulary_size = vocabulary_size
        self.source_vocabulary_size = source_vocabulary_size or vocabulary_size
        if shared_embeddings and (
            self.source_vocabulary_size != self.vocabulary_size
        ):
            raise ValueError(
                "Expected source and target to have one vocabulary, since they "
                "share embeddings. Received: source_vocabulary_size="
                f"{source_vocabulary_size}, vocabulary_size={vocabulary_size}. "
                "Pass `shared_embeddings=False`, or learn a joint vocabulary."
            )
        policy = {"dtype": self.dtype_policy}

        def embedding(size, name):
            return keras_hub.layers.ReversibleEmbedding(
                size,
                width,
                embeddings_initializer=keras.initializers.RandomNormal(
                    stddev=width**-0.5
                ),
                reverse_dtype="float32",
                name=name,
                **policy,
            )

        self.embedding = embedding(vocabulary_size, "embedding")
        self.source_embedding = self.embedding
        if not shared_embeddings:
            self.source_embedding = embedding(
                self.source_vocabulary_size, "source_embedding"
            )
        # Half precision cannot distinguish adjacent positions.
        self.positions = keras_hub.layers.SinePositionEncoding(
            dtype="float32", name="positions"
        )
        self.source_dropout = keras.layers.Dropout(
            dropout, name="source_dropout", **policy
        )
        self.target_dropout = keras.layers.Dropout(
            dropout, name="target_dropout", **policy
        )
        self.encoder_layers = [
            EncoderLayer(self.configuration, name=f"encoder_{i}", **policy)
            for i in range(num_layers)
        ]
        self.decoder_layers = [
            DecoderLayer(self.configuration, name=f"decoder_{i}", **policy)
            for i in range(num_layers)
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
            **dataclasses.asdict(self.configuration),
            "vocabulary_size": self.vocabulary_size,
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
        hidden = self._embed(self.source_embedding, source_ids)
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
        """Returns the decoder's hidden states at all positions.

        Args:
            target_ids: The target ids, `(batch, target_time)`, beginning with
                `BOS`.
            source: The result of `source` for the batch.
            training: Whether dropout is active.

        Returns:
            The hidden states, `(batch, target_time, width)`.
        """
        hidden = self._embed(self.embedding, target_ids)
        hidden = self.target_dropout(hidden, training=training)
        # Padding is on the right, so the causal mask already hides it.
        time = ops.arange(ops.shape(target_ids)[1])
        visible = time[None, :] <= time[:, None]
        for layer, memory in zip(self.decoder_layers, source.layers):
            hidden = layer(
                hidden, memory, visible, source.visible, training=training
            )
        return hidden

    def empty_cache(
        self, batch_size: Any, beam_size: int, time: Any
    ) -> list[KeysAndValues]:
        """Returns an empty cache of `time` positions for `decode_step`."""
        heads = self.configuration.num_heads
        size = self.configuration.width // heads
        empty = ops.zeros(
            (batch_size, beam_size, heads, time, size), self.compute_dtype
        )
        return [KeysAndValues(empty, empty) for _ in self.decoder_layers]

    def decode_step(
        self, ids: Any, index: Any, cache: list[KeysAndValues], source: Source
    ) -> tuple[Any, list[KeysAndValues]]:
        """Returns the decoder's hidden states at one position.

        Args:
            ids: The target ids at this position, `(batch, beam)`.
            index: The position, a scalar.
            cache: The cache of the previous step.
            source: The result of `source` for the batch, without beams.

        Returns:
            The hidden states, `(batch, beam, width)`, and the updated cache.
        """
        hidden = self._embed(self.embedding, ids[..., None], index)[:, :, 0]
        new_cache = []
        for layer, memory, past in zip(
            self.decoder_layers, source.layers, cache
        ):
            hidden, past = layer.step(
                hidden, index, past, memory, source.visible
            )
            new_cache.append(past)
        return hidden, new_cache

    def _embed(self, embedding, ids, start_index=0):
        embedded = embedding(ids) * self.configuration.width**0.5
        # Positions do not depend on the sentence, so one row is enough.
        row = ops.zeros((1, ops.shape(ids)[-1], self.configuration.width))
        positions = self.positions(row, start_index=start_index)
        return embedded + ops.cast(positions, embedded.dtype)


def _no_padding(ids):
    return ops.not_equal(ids, PAD)[:, None, None, :]
