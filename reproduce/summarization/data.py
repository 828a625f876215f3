"""A corpus as the model sees it: ids in batches."""

from __future__ import annotations

from typing import Any
from typing import NamedTuple

import tensorflow as tf

from reproduce.common.epochs import EpochNumber
from reproduce.common.errors import InputError
from reproduce.data.batching import Batching
from reproduce.data.batching import EncodedPairs
from reproduce.data.parallel_text import ParallelText
from reproduce.summarization.corpus import Corpus
from reproduce.summarization.model import RDropBartSeq2SeqLM
from reproduce.summarization.model import bart_inputs
from reproduce.summarization.model import preset_bart
from reproduce.summarization.model import small_bart
from reproduce.summarization.settings import Settings
from reproduce.summarization.tokenizers import Tokenizer
from reproduce.summarization.tokenizers import encode
from reproduce.summarization.tokenizers import train_tokenizer


class Prepared(NamedTuple):
    """A model, its tokenizer, and the training part in its ids.

    Attributes:
        cut: How many training articles and summaries were cut.
    """

    model: RDropBartSeq2SeqLM
    tokenizer: Tokenizer
    batching: Batching
    train: EncodedPairs
    cut: dict[str, int]

    def training_batches(self, seed: int, epoch: EpochNumber) -> Any:
        """Batches that hold each pair once per epoch, in a new order each."""
        batches = self.batching.training_batches(self.train, seed, epoch)
        return self._for_bart(batches)

    def evaluation_batches(
        self, text: ParallelText, settings: Settings
    ) -> tf.data.Dataset:
        """Batches of another part, always the same."""
        pairs, _ = _encode(text, self.tokenizer, settings)
        batching = self.batching.reaching(int(pairs.lengths.max(initial=1)))
        return self._for_bart(batching.evaluation_batches(pairs))

    def _for_bart(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        pad = self.tokenizer.special.pad
        return batches.map(lambda x, y: (bart_inputs(x, pad), y))

    def updates_per_epoch(self, accumulate: int) -> int:
        """Returns how many updates an epoch has, rounded down but for 0."""
        steps = self.batching.steps_per_epoch(self.train)
        return max(steps // accumulate, 1)


def prepare(corpus: Corpus, settings: Settings) -> Prepared:
    """Makes or loads the model and tokenizes the training part."""
    longest = max(
        settings.max_source_length,
        settings.max_target_length,
        settings.decoding.max_length + 1,
    )
    if settings.preset is None:
        tokenizer = train_tokenizer(corpus.train, settings.vocabulary_size)
        model = small_bart(
            settings.configuration,
            tokenizer.vocabulary_size,
            longest,
            settings.policy,
        )
    else:
        model, tokenizer = preset_bart(
            settings.preset, settings.dropout, settings.policy
        )
        positions = model.backbone.max_sequence_length
        if longest > positions:
            raise InputError(
                f"--preset {settings.preset}: has positions for {positions} "
                f"ids, fewer than the {longest} wanted. Lower "
                "--max-source-length, --max-target-length or --max-length."
            )
    pairs, cut = _encode(corpus.train, tokenizer, settings)
    batching = Batching.of(
        pairs,
        settings.max_tokens,
        settings.max_pairs,
        short_targets=True,
        special=tokenizer.special,
    )
    return Prepared(model, tokenizer, batching, pairs, cut)


def _encode(
    text: ParallelText, tokenizer: Tokenizer, settings: Settings
) -> tuple[EncodedPairs, dict[str, int]]:
    sources, cut_sources = encode(
        tokenizer, text.sources, settings.max_source_length
    )
    targets, cut_targets = encode(
        tokenizer, text.targets, settings.max_target_length
    )
    cut = {"sources": cut_sources, "targets": cut_targets}
    return EncodedPairs(tuple(sources), tuple(targets)), cut
