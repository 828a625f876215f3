"""A translator of strings: subwords, model and beam search.

`translate` also runs inside a `tf.function`, with or without XLA, and in a
SavedModel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from reproduce.data.special_ids import PAD
from reproduce.data.subwords import Subwords
from reproduce.decoding.beam_search import Hypotheses
from reproduce.decoding.beam_search import Step
from reproduce.decoding.beam_search import beam_search
from reproduce.decoding.beam_search import check_at_least
from reproduce.decoding.text_to_text import DECODING
from reproduce.decoding.text_to_text import TextToText
from reproduce.decoding.text_to_text import load_model
from reproduce.models.translation import Transformer

ops = keras.ops

# Without gradients, decoding has memory for larger batches.
SENTENCES = 64
SUBWORDS = "subwords.model"
SOURCE_SUBWORDS = "source_subwords.model"


@dataclass(frozen=True)
class Decoding:
    """Settings of the search for translations; see `translate`."""

    beam_size: int = 5
    length_penalty: float = 1.0
    max_length_factor: float = 1.2
    max_length_offset: int = 10
    min_length: int = 1


class Translator(TextToText):
    """Translates sentences.

    Args:
        model: The model.
        source: The subwords of the sources.
        target: The subwords of the targets, the same object if joint.
        decoding: The settings of the search.
    """

    output = "translation"

    def __init__(
        self,
        model: Transformer,
        source: Subwords,
        target: Subwords,
        decoding: Decoding,
    ):
        super().__init__(model, source, target, decoding, SENTENCES)

    @classmethod
    def load(cls, directory: Path, **decoding: Any) -> Translator:
        """Reads the files that `save` wrote; `decoding` as in `load_model`."""
        model, settings = load_model(directory, DECODING, **decoding)
        source = target = Subwords.load(directory / SUBWORDS)
        if (directory / SOURCE_SUBWORDS).exists():
            source = Subwords.load(directory / SOURCE_SUBWORDS)
        return cls(model, source, target, Decoding(**settings))

    def save_tokenizers(self, directory: Path) -> None:
        self.target.save(directory / SUBWORDS)
        if self.source is not self.target:
            self.source.save(directory / SOURCE_SUBWORDS)

    def search(self, source_ids: Any) -> Hypotheses:
        return translate(self.model, source_ids, **asdict(self.decoding))


def translate(
    model: Transformer,
    source_ids: Any,
    beam_size: int = 5,
    length_penalty: float = 1.0,
    max_length_factor: float = 1.2,
    max_length_offset: float = 10,
    min_length: int = 1,
    early_stopping: bool = False,
    make_step: Callable[..., tuple[Step, Any]] | None = None,
) -> Hypotheses:
    """Translates sentences by beam search.

    The translation of a sentence with n ids (without padding) has at most
    `max_length_factor * n + max_length_offset` ids before its `EOS`. The other
    settings are those of `beam_search`.

    Args:
        source_ids: The source ids, padded with `PAD` on the right,
            `(batch, source_time)`.
        make_step: A function with the arguments of `cached_step`, the default.
    """
    check_at_least("max_length_factor", max_length_factor, 0)
    check_at_least("max_length_offset", max_length_offset, 0)
    source_ids = ops.convert_to_tensor(source_ids, "int32")
    source_lengths = ops.sum(ops.cast(source_ids != PAD, "int32"), axis=1)

    def max_length(source_length):
        # The margin keeps 0.7 * 10 from being rounded down to 6.
        return max_length_factor * source_length + max_length_offset + 1e-3

    time = ops.shape(source_ids)[1]
    if isinstance(time, int):
        time = int(max_length(time))
    else:
        time = ops.cast(max_length(ops.cast(time, "float32")), "int32")
    max_lengths = ops.cast(
        max_length(ops.cast(source_lengths, "float32")), "int32"
    )
    step, state = (make_step or cached_step)(
        model, source_ids, beam_size, time + 1
    )
    return beam_search(
        step,
        state,
        ops.minimum(max_lengths, time),
        time,
        beam_size,
        length_penalty,
        min_length,
        early_stopping,
    )


def cached_step(
    model: Transformer, source_ids: Any, beam_size: int, time: Any
) -> tuple[Step, Any]:
    """Returns a step for `beam_search`, and its initial state.

    The state holds keys and values of up to `time` positions. The keys and
    values of the source are computed once and shared by a sentence's beams.
    """
    memory = model.encode(source_ids, training=False)
    source = model.source(memory, source_ids)

    def step(ids, index, cache):
        hidden, cache = model.decode_step(ids, index, cache, source)
        return ops.log_softmax(model.logits(hidden)), cache

    batch_size = ops.shape(source_ids)[0]
    return step, model.empty_cache(batch_size, beam_size, time)
