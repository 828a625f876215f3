"""Classifies texts with the SavedModel that a run wrote.

    python -m reproduce.text_classification.serve DIR TEXT [TEXT ...]

For a model of pairs, texts are taken two by two. Needs tensorflow and
tensorflow_text, neither KerasHub nor R-Drop: the model and its tokenizer are
inside the SavedModel.
"""

import argparse

import tensorflow as tf
import tensorflow_text  # noqa: F401 - registers the tokenizer's operations


def main(arguments: list[str] | None = None) -> None:
    """Prints for each text, or pair, its label and probability, or score."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("saved_model", metavar="DIR")
    parser.add_argument("texts", nargs="+", metavar="TEXT")
    flags = parser.parse_args(arguments)
    served = tf.saved_model.load(flags.saved_model)
    signature = served.signatures["serving_default"].structured_input_signature
    if "measurements" in signature[1]:
        parser.error(f"{flags.saved_model} takes measurements, not texts")
    texts = [flags.texts]
    if "second" in signature[1]:
        if len(flags.texts) % 2:
            parser.error("expected an even number of texts, two for each pair")
        texts = [flags.texts[::2], flags.texts[1::2]]
    result = served.serve(*map(tf.constant, texts))
    shown = [" | ".join(example) for example in zip(*texts)]
    widest = max(map(len, shown))
    for place, text in enumerate(shown):
        if "score" in result:
            says = f"{result['score'].numpy()[place]:.3f}"
        else:
            label = result["label"].numpy()[place].decode()
            probability = result["probabilities"].numpy()[place].max()
            says = f"{label} {probability:.2f}"
        print(f"{text:<{widest}}  {says}")


if __name__ == "__main__":
    main()
