"""Sizes of the language models."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Configuration:
    """The size of a `LanguageModel` and its dropout rates.

    `LanguageModel(vocabulary_size=..., **dataclasses.asdict(configuration))`
    creates the model.

    Attributes:
        num_layers: The number of layers.
        width: The size of hidden states.
        feed_forward: The hidden size of the feed-forward layers.
        num_heads: The number of attention heads.
        dropout: The dropout rate of embeddings and residual branches.
        attention_dropout: The dropout rate of attention probabilities.
        activation_dropout: The dropout rate of feed-forward activations.
        activation: The activation of the feed-forward layers.
        final_norm: Whether the last hidden states are normalized.
        cutoffs: The first ids of the clusters of rarer words, for adaptive
            input and softmax. None uses one embedding table for all words.
        factor: The ratio of the widths of successive clusters.
        softmax_dropout: The dropout rate of the inputs of the adaptive softmax
            and of each of its clusters.
    """

    num_layers: int
    width: int
    feed_forward: int
    num_heads: int
    dropout: float
    attention_dropout: float
    activation_dropout: float
    activation: str = "relu"
    final_norm: bool = True
    cutoffs: tuple[int, ...] | None = None
    factor: float = 4.0
    softmax_dropout: float = 0.0


CONFIGURATIONS = {
    # Trains from scratch on one CPU core.
    "tiny": Configuration(
        num_layers=2,
        width=96,
        feed_forward=384,
        num_heads=4,
        dropout=0.1,
        attention_dropout=0.1,
        activation_dropout=0.0,
        activation="gelu",
    ),
    "tiny_adaptive": Configuration(
        num_layers=2,
        width=96,
        feed_forward=384,
        num_heads=4,
        dropout=0.1,
        attention_dropout=0.1,
        activation_dropout=0.1,
        final_norm=False,
        cutoffs=(200, 600),
        factor=2.0,
        softmax_dropout=0.1,
    ),
    # fairseq's `transformer_lm_gpt`.
    "gpt": Configuration(
        num_layers=12,
        width=768,
        feed_forward=3072,
        num_heads=12,
        dropout=0.1,
        attention_dropout=0.1,
        activation_dropout=0.0,
        activation="gelu",
    ),
    # fairseq's `transformer_lm_wiki103`, with the paper's 16 heads.
    "wiki103": Configuration(
        num_layers=16,
        width=1024,
        feed_forward=4096,
        num_heads=16,
        dropout=0.3,
        attention_dropout=0.1,
        activation_dropout=0.1,
        final_norm=False,
        cutoffs=(20_000, 60_000),
        softmax_dropout=0.2,
    ),
}
