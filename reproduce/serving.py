"""Uses an exported SavedModel.

    python -m reproduce serve TASK DIR INPUT [INPUT ...]

It needs tensorflow and tensorflow_text, but neither KerasHub nor R-Drop:
tokenizer, model and beam search are inside the SavedModel.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from reproduce.common.errors import InputError


def translation(served: Any, texts: list[str], inputs: Any) -> None:
    """Prints each text and its translation."""
    found = served.serve(inputs)["translation"].numpy()
    widest = max(map(len, texts))
    for text, translated in zip(texts, found):
        print(f"{text:<{widest}}  {translated.decode()}")


def language_modeling(served: Any, prompts: list[str], inputs: Any) -> None:
    """Prints each prompt, its continuation, and the prompt's loss."""
    following = served.serve(inputs)["text"].numpy()
    scores = served.score(inputs)
    nats = -scores["log_probabilities"].numpy().sum(axis=-1)
    lengths = scores["lengths"].numpy()
    for prompt, text, cost, length in zip(prompts, following, nats, lengths):
        print(f"{prompt} [...] {text.decode()}")
        print(f"  ({cost:.2f} nats for the {length} tokens of the prompt)")


def summarization(served: Any, articles: list[str], inputs: Any) -> None:
    """Prints each article and its summary."""
    found = served.serve(inputs)["summary"].numpy()
    for article, summary in zip(articles, found):
        print(f"  {article}\n    -> {summary.decode()}")


def text_classification(served: Any, texts: list[str], inputs: Any) -> None:
    """Prints each text, or pair of two texts, and its label or score."""
    names = served.signatures["serving_default"].structured_input_signature[1]
    if "measurements" in names:
        raise InputError("The model takes measurements, not texts.")
    if "second" not in names:
        _print_labels(texts, served.serve(inputs))
        return
    if len(texts) % 2:
        raise InputError("Expected an even number of texts, two for each pair.")
    pairs = [" | ".join(pair) for pair in zip(texts[::2], texts[1::2])]
    _print_labels(pairs, served.serve(inputs[::2], inputs[1::2]))


def image_classification(served: Any, files: list[str], inputs: Any) -> None:
    """Prints each PNG, JPEG, GIF or BMP file and its label."""
    import tensorflow as tf

    signature = served.signatures["serving_default"]
    channels = signature.structured_input_signature[1]["images"].shape[-1]
    for file, path in zip(files, inputs):
        image = tf.io.decode_image(
            tf.io.read_file(path), channels, expand_animations=False
        )
        _print_labels([file], served.serve(image[None]))


def _print_labels(names: list[str], found: Any) -> None:
    widest = max(map(len, names))
    for place, name in enumerate(names):
        if "score" in found:
            says = f"{found['score'].numpy()[place]:.3f}"
        else:
            label = found["label"].numpy()[place].decode()
            probability = found["probabilities"].numpy()[place].max()
            says = f"{label} {probability:.2f}"
        print(f"{name:<{widest}}  {says}")


# For each task, a function that prints what a SavedModel returns for strings,
# which it gets as a list and as a tensor.
SERVERS: dict[str, Callable[[Any, list[str], Any], None]] = {
    "translation": translation,
    "language_modeling": language_modeling,
    "summarization": summarization,
    "text_classification": text_classification,
    "image_classification": image_classification,
}


def main(name: str, arguments: Sequence[str]) -> int:
    """Loads the SavedModel of a task and prints its predictions."""
    if name not in SERVERS:
        raise InputError(f"{name}: expected a task: {', '.join(SERVERS)}.")
    parser = argparse.ArgumentParser(
        prog=f"python -m reproduce serve {name}",
        description=SERVERS[name].__doc__,
    )
    parser.add_argument("saved_model", metavar="DIR")
    parser.add_argument("inputs", nargs="+", metavar="INPUT")
    flags = parser.parse_args(arguments)
    import tensorflow as tf
    import tensorflow_text  # noqa: F401 - registers its operations

    try:
        served = tf.saved_model.load(flags.saved_model)
    except OSError as error:
        raise InputError(
            f"{flags.saved_model}: expected the saved_model folder of a run "
            f"({str(error).splitlines()[0]})."
        ) from error
    SERVERS[name](served, flags.inputs, tf.constant(flags.inputs))
    return 0
