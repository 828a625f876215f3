"""Sizes of the translation models."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Configuration:
    """The size of a `Transformer` and its dropout rates.

    `Transformer(vocabulary_size=..., **dataclasses.asdict(configuration))`
    makes the model.

    Attributes:
        num_layers: How many encoder layers, and as many decoder layers.
        width: The size of embeddings and hidden states.
        feed_forward: The size between the two feed-forward kernels.
        num_heads: How many attention heads.
        dropout: The rate for embeddings and for each residual branch.
        attention_dropout: The rate for attention probabilities.
        activation_dropout: The rate for feed-forward activations.
        shared_embeddings: Whether the source is embedded by the table that
            embeds and predicts the target. If not, it has one of its own.
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
