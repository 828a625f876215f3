"""A summarizer of strings: tokenizer, model and fairseq's beam search for BART.

`summarize` also runs inside a `tf.function` and in a SavedModel.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from reproduce.common.errors import InputError
from reproduce.data.bart_tokenizers import Tokenizer
from reproduce.data.bart_tokenizers import load_tokenizer
from reproduce.data.bart_tokenizers import save_tokenizer
from reproduce.data.special_ids import SpecialIds
from reproduce.decoding.beam_search import NEVER
from reproduce.decoding.beam_search import Constraint
from reproduce.decoding.beam_search import Hypotheses
from reproduce.decoding.beam_search import Step
from reproduce.decoding.beam_search import beam_search
from reproduce.decoding.beam_search import check_at_least
from reproduce.decoding.repetition import no_repeated_ngrams
from reproduce.decoding.text_to_text import DECODING
from reproduce.decoding.text_to_text import TextToText
from reproduce.decoding.text_to_text import load_model
from reproduce.models.bart import RDropBartSeq2SeqLM

ops = keras.ops

ARTICLES = 32


@dataclass(frozen=True)
class Decoding:
    """Settings of the search for summaries, as in `beam_search`.

    Lengths are numbers of ids with `<s>`, which is generated first, and without
    `</s>`, as fairseq's `max-len-b` and `min-len`. Without `early_stopping`, a
    search with a length penalty above 1 rarely ends before `max_length`.
    """

    beam_size: int = 4
    length_penalty: float = 1.0
    min_length: int = 2
    max_length: int = 40
    no_repeat_ngram_size: int = 3
    early_stopping: bool = True


class Summarizer(TextToText):
    """Summarizes articles.

    Args:
        model: The model.
        tokenizer: The tokenizer of the model.
        longest: The maximum number of ids of an article. The rest is ignored.
        decoding: The settings of the search.
        batch_size: The number of articles to summarize at a time.
    """

    output = "summary"

    def __init__(
        self,
        model: RDropBartSeq2SeqLM,
        tokenizer: Tokenizer,
        longest: int,
        decoding: Decoding,
        batch_size: int = ARTICLES,
    ):
        _check(model, tokenizer, longest, decoding)
        super().__init__(model, tokenizer, tokenizer, decoding, batch_size)
        self.longest = longest
        self.begin = (tokenizer.bos,)

    @classmethod
    def load(
        cls, directory: Path, batch_size: int = ARTICLES, **decoding: Any
    ) -> Summarizer:
        """Reads the files that `save` wrote; `decoding` as in `load_model`."""
        model, settings = load_model(directory, DECODING, **decoding)
        longest = settings.pop("longest")
        tokenizer = load_tokenizer(directory)
        return cls(model, tokenizer, longest, Decoding(**settings), batch_size)

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"longest": self.longest}

    def save_tokenizers(self, directory: Path) -> None:
        save_tokenizer(self.target, directory)

    def search(self, source_ids: Any) -> Hypotheses:
        bos, special = self.target.bos, self.target.special
        return summarize(self.model, source_ids, bos, special, self.decoding)


def summarize(
    model: RDropBartSeq2SeqLM,
    source_ids: Any,
    bos: int,
    special: SpecialIds,
    decoding: Decoding,
) -> Hypotheses:
    """Summarizes articles by beam search.

    Args:
        source_ids: `<s> article </s>`, padded on the right, `(batch, time)`.
        bos: The id of `<s>`, with which each hypothesis begins.
        special: The ids of padding, and of `</s>` as start and end.
    """
    check_at_least("max_length", decoding.max_length, 1)
    check_at_least("no_repeat_ngram_size", decoding.no_repeat_ngram_size, 0)
    source_ids = ops.convert_to_tensor(source_ids, "int32")
    time = decoding.max_length
    step, state = cached_step(
        model, source_ids, special.pad, decoding.beam_size, time + 1
    )
    return beam_search(
        step,
        state,
        ops.full((ops.shape(source_ids)[0],), time, "int32"),
        time,
        decoding.beam_size,
        decoding.length_penalty,
        decoding.min_length,
        decoding.early_stopping,
        special,
        constraint(bos, decoding.no_repeat_ngram_size),
    )


def constraint(bos: int, no_repeat_ngram_size: int) -> Constraint:
    """Returns a constraint: `<s>` only first, and no repeated n-grams."""
    no_repetition = no_repeated_ngrams(no_repeat_ngram_size)

    def constrain(log_probabilities, ids, index):
        is_bos = ops.arange(log_probabilities.shape[-1]) == bos
        allowed = ops.where(index == 0, is_bos, ops.logical_not(is_bos))
        log_probabilities = no_repetition(log_probabilities, ids, index)
        return ops.where(allowed, log_probabilities, NEVER)

    return constrain


def cached_step(
    model: RDropBartSeq2SeqLM,
    source_ids: Any,
    pad: int,
    beam_size: int,
    time: int,
) -> tuple[Step, Any]:
    """Returns a step for `beam_search`, and its initial state.

    The state holds keys and values of up to `time` positions. The keys and
    values of the article are computed once and repeated for each beam, because
    KerasHub's decoder needs one copy per row.
    """
    visible = ops.cast(source_ids != pad, "int32")
    memory = model.call_encoder(source_ids, visible)
    backbone = model.backbone
    heads = backbone.num_heads
    sizes = (heads, backbone.hidden_dim // heads)

    def empty(*shape):
        return ops.zeros((*shape, *sizes), model.compute_dtype)

    batch_size, source_time = ops.shape(source_ids)
    layers = backbone.num_layers
    # This call only projects the memory. It uses two positions, because Keras
    # warns of a softmax over a single one.
    *_, article = model.call_decoder_with_cache(
        memory,
        visible,
        ops.full((batch_size, 2), pad, "int32"),
        empty(batch_size, layers, 2, 2),
        0,
        empty(batch_size, layers, 2, source_time),
        0,
    )

    def beams(x):
        return x if beam_size == 1 else ops.repeat(x, beam_size, axis=0)

    memory, visible, article = beams(memory), beams(visible), beams(article)

    def step(ids, index, cache):
        shape = ops.shape(cache)
        logits, _, cache, _ = model.call_decoder_with_cache(
            memory,
            visible,
            ops.reshape(ids, (-1, 1)),
            ops.reshape(cache, (-1, *shape[2:])),
            index,
            article,
            None,
        )
        logits = ops.reshape(logits, (-1, beam_size, logits.shape[-1]))
        log_probabilities = ops.log_softmax(ops.cast(logits, "float32"))
        return log_probabilities, ops.reshape(cache, shape)

    return step, empty(batch_size, beam_size, layers, 2, time)


def _check(
    model: RDropBartSeq2SeqLM,
    tokenizer: Tokenizer,
    longest: int,
    decoding: Decoding,
) -> None:
    positions = model.backbone.max_sequence_length
    # The decoder reads its start id and all ids except the last one.
    for name, needed in (
        ("--max-source-length", longest),
        ("--max-length", decoding.max_length + 1),
    ):
        if needed > positions:
            raise InputError(
                f"{name}: expected at most what the model has positions for, "
                f"{positions}, got {needed}."
            )
    if decoding.min_length > decoding.max_length:
        raise InputError(
            f"--min-length {decoding.min_length}: expected at most "
            f"--max-length, {decoding.max_length}."
        )
    size = model.backbone.vocabulary_size
    if tokenizer.vocabulary_size > size:
        raise InputError(
            f"Expected a tokenizer of at most the model's {size} ids, got "
            f"{tokenizer.vocabulary_size}."
        )
