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


def translation(served: Any, texts: list[str]) -> None:
    """Prints each text and its translation."""
    import tensorflow as tf

    found = served.serve(tf.constant(texts))["translation"].numpy()
    widest = max(map(len, texts))
    for text, translated in zip(texts, found):
        print(f"{text:<{widest}}  {translated.decode()}")


def language_modeling(served: Any, prompts: list[str]) -> None:
    """Prints each prompt, its continuation, and the prompt's loss."""
    import tensorflow as tf

    texts = tf.constant(prompts)
    following = served.serve(texts)["text"].numpy()
    scores = served.score(texts)
    nats = -tf.reduce_sum(scores["log_probabilities"], axis=-1).numpy()
    lengths = scores["lengths"].numpy()
    for prompt, text, cost, length in zip(prompts, following, nats, lengths):
        print(f"{prompt} [...] {text.decode()}")
        print(f"  ({cost:.2f} nats for the {length} tokens of the prompt)")


def summarization(served: Any, articles: list[str]) -> None:
    """Prints each article and its summary."""
    import tensorflow as tf

    found = served.serve(tf.constant(articles))["summary"].numpy()
    for article, summary in zip(articles, found):
        print(f"  {article}\n    -> {summary.decode()}")


def text_classification(served: Any, texts: list[str]) -> None:
    """Prints each text, or pair of two texts, and its label or score."""
    import tensorflow as tf

    inputs = served.signatures["serving_default"].structured_input_signature[1]
    if "measurements" in inputs:
        raise InputError("The model takes measurements, not texts.")
    columns = [texts]
    if "second" in inputs:
        if len(texts) % 2:
            raise InputError(
                "Expected an even number of texts, two for each pair."
            )
        columns = [texts[::2], texts[1::2]]
    found = served.serve(*map(tf.constant, columns))
    _print_labels([" | ".join(row) for row in zip(*columns)], found)


def image_classification(served: Any, files: list[str]) -> None:
    """Prints each PNG, JPEG, GIF or BMP file and its label."""
    import tensorflow as tf

    signature = served.signatures["serving_default"]
    channels = signature.structured_input_signature[1]["images"].shape[-1]
    for file in files:
        image = tf.io.decode_image(
            tf.io.read_file(file), channels, expand_animations=False
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


# The function of each task that prints the results of a loaded SavedModel.
SERVERS: dict[str, Callable[[Any, list[str]], None]] = {
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
    SERVERS[name](served, flags.inputs)
    return 0
