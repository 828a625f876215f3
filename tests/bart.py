"""A BART tokenizer that needs no download."""

import keras_hub

MERGES = ["Ġ c", "a t", "Ġc at", "t h", "th e", "Ġ the"]


def bart_tokenizer() -> keras_hub.models.BartTokenizer:
    """Returns one of all bytes and a few merges, with BART's special ids."""
    # GPT-2's signs for bytes: those that can be seen stand for themselves.
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    unseen = 256 - len(seen)
    symbols = [chr(byte) for byte in seen] + [
        chr(256 + n) for n in range(unseen)
    ]
    tokens = [
        *("<s>", "<pad>", "</s>", "<unk>"),
        *symbols,
        *(merge.replace(" ", "") for merge in MERGES),
        "<mask>",
    ]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return keras_hub.models.BartTokenizer(vocabulary, MERGES)
