"""Sizes of the translation models."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Configuration:
    """The size of a `Transformer` and its dropout rates.

    `Transformer(vocabulary_size=..., **dataclasses.asdict(configuration))`
    creates the model.

    Attributes:
        num_layers: The number of encoder layers and of decoder layers.
        width: The size of embeddings and hidden states.
        feed_forward: The hidden size of the feed-forward layers.
        num_heads: The number of attention heads.
        dropout: The dropout rate of embeddings and residual branches.
        attention_dropout: The dropout rate of attention probabilities.
        activation_dropout: The dropout rate of feed-forward activations.
        shared_embeddings: Whether source and target share one embedding table.
            The target's table is always shared with the output layer.
    """

    num_layers: int
    width: int
    feed_forward: int
    num_heads: int
    dropout: float
    attention_dropout: float
    activation_dropout: float
    shared_embeddings: bool = True


CONFIGURATIONS = {
    # Trains from scratch on two CPU cores.
    "tiny": Configuration(
        num_layers=2,
        width=96,
        feed_forward=192,
        num_heads=4,
        dropout=0.1,
        attention_dropout=0.0,
        activation_dropout=0.1,
    ),
    # fairseq's `transformer_iwslt_de_en`.
    "iwslt": Configuration(
        num_layers=6,
        width=512,
        feed_forward=1024,
        num_heads=4,
        dropout=0.3,
        attention_dropout=0.0,
        activation_dropout=0.0,
    ),
    # fairseq's `transformer_vaswani_wmt_en_de_big`, with the paper's rates.
    "big": Configuration(
        num_layers=6,
        width=1024,
        feed_forward=4096,
        num_heads=16,
        dropout=0.1,
        attention_dropout=0.1,
        activation_dropout=0.1,
    ),
}
