"""Sizes of the language models."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Configuration:
    """The size of a `LanguageModel` and its dropout rates.

    `LanguageModel(vocabulary_size=..., **dataclasses.asdict(configuration))`
    makes the model.

    Attributes:
        num_layers: How many layers.
        width: The size of hidden states.
        feed_forward: The size between the two feed-forward kernels.
        num_heads: How many attention heads.
        dropout: The rate for embeddings and for each residual branch.
        attention_dropout: The rate for attention probabilities.
        activation_dropout: The rate for feed-forward activations.
        activation: That of the feed-forward layers.
        final_norm: Whether the last hidden states are normalised.
        cutoffs: Where the clusters of rarer words begin, for adaptive input
            and softmax. None is one embedding table for all of them.
        factor: How much narrower each cluster is than the one before.
        softmax_dropout: The rate for what goes into the adaptive softmax, and
            into each of its clusters.
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
