"""Sizes and dropout rates of the Transformers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """The size of a Transformer and its dropout rates."""

    num_layers: int
    width: int
    feed_forward: int
    num_heads: int
    # Of embeddings and residual branches.
    dropout: float
    attention_dropout: float
    activation_dropout: float
    activation: str = "relu"


@dataclass(frozen=True)
class TranslationSizes(Sizes):
    """The size of a `Transformer`."""

    # The target's embeddings are always shared with the output layer.
    shared_embeddings: bool = True


@dataclass(frozen=True)
class LanguageSizes(Sizes):
    """The size of a `LanguageModel`.

    Attributes:
        final_norm: Whether the last hidden states are normalized.
        cutoffs: The first ids of the clusters of rarer words, for adaptive
            input and softmax. None uses one embedding table for all words.
        factor: The ratio of the widths of successive clusters.
        softmax_dropout: The dropout rate of the inputs of the adaptive softmax
            and of each of its clusters.
    """

    final_norm: bool = True
    cutoffs: tuple[int, ...] | None = None
    factor: float = 4.0
    softmax_dropout: float = 0.0

    def __post_init__(self):
        if self.cutoffs is not None:
            # A saved config has a list instead.
            object.__setattr__(self, "cutoffs", tuple(self.cutoffs))


TRANSLATION_SIZES = {
    # Trains from scratch on two CPU cores.
    "tiny": TranslationSizes(2, 96, 192, 4, 0.1, 0.0, 0.1),
    # For studies with many runs: on two CPU cores, and on a GPU.
    "narrow": TranslationSizes(2, 128, 256, 4, 0.3, 0.0, 0.0),
    "small": TranslationSizes(4, 256, 512, 4, 0.3, 0.0, 0.0),
    # fairseq's `transformer_iwslt_de_en`.
    "iwslt": TranslationSizes(6, 512, 1024, 4, 0.3, 0.0, 0.0),
    # fairseq's `transformer_vaswani_wmt_en_de_big`, with the paper's rates.
    "big": TranslationSizes(6, 1024, 4096, 16, 0.1, 0.1, 0.1),
}
LANGUAGE_SIZES = {
    # Trains from scratch on one CPU core.
    "tiny": LanguageSizes(2, 96, 384, 4, 0.1, 0.1, 0.0, "gelu"),
    "tiny_adaptive": LanguageSizes(
        *(2, 96, 384, 4, 0.1, 0.1, 0.1),
        final_norm=False,
        cutoffs=(200, 600),
        factor=2.0,
        softmax_dropout=0.1,
    ),
    # fairseq's `transformer_lm_gpt`.
    "gpt": LanguageSizes(12, 768, 3072, 12, 0.1, 0.1, 0.0, "gelu"),
    # fairseq's `transformer_lm_wiki103`, with the paper's 16 heads.
    "wiki103": LanguageSizes(
        *(16, 1024, 4096, 16, 0.3, 0.1, 0.1),
        final_norm=False,
        cutoffs=(20_000, 60_000),
        softmax_dropout=0.2,
    ),
}
