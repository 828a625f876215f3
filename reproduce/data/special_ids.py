"""The special token ids, which are the first ids of every vocabulary."""

from typing import NamedTuple

# Padding is 0 because Keras's layers use this id for padding.
PAD = 0
BOS = 1
EOS = 2
UNK = 3


class SpecialIds(NamedTuple):
    """The special ids of a search and of batches.

    Attributes:
        pad: The padding after the end id.
        start: The first input of the decoder.
        end: The last id of a sequence, which also starts BART's decoder.
    """

    pad: int = PAD
    start: int = BOS
    end: int = EOS


SPECIAL_IDS = SpecialIds()
