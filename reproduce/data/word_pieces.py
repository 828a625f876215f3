"""A vocabulary of BERT's word pieces."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

from reproduce.data.subwords import Subwords
from reproduce.data.subwords import train_subwords

SPECIAL_TOKENS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
# BERT splits texts into words and signs.
WORDS = re.compile(r"\w+|[^\w\s]")


def word_pieces(texts: Sequence[str], size: int) -> list[str]:
    """Returns a vocabulary of BERT's word pieces, learned by SentencePiece.

    KerasHub's function needs TensorFlow, and the trainer of the package
    tokenizers does not give the same pieces twice.
    """
    texts = [" ".join(WORDS.findall(text.lower())) for text in texts]
    characters = sorted(set().union(*texts) - {" "})
    # Every character is a piece at the beginning of a word and within one.
    pieces = dict.fromkeys([*SPECIAL_TOKENS, *characters])
    pieces |= dict.fromkeys(f"##{character}" for character in characters)
    count = max(size - len(characters), len(characters) + 5)
    with warnings.catch_warnings():
        # Few texts have fewer pieces.
        warnings.simplefilter("ignore")
        subwords = Subwords(train_subwords(texts, count))
    for piece in subwords.pieces():
        start = piece.removeprefix("\u2581")
        pieces[start if start != piece else f"##{piece}"] = None
    pieces.pop("", None)
    return list(pieces)
