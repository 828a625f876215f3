"""Classifies texts with the SavedModel that a run wrote.

    python -m examples.text_classification.serve DIR TEXT [TEXT ...]

Needs tensorflow and tensorflow_text, neither KerasHub nor R-Drop: the model
and its tokenizer are inside the SavedModel.
"""

import argparse

import tensorflow as tf
import tensorflow_text  # noqa: F401 - registers the tokenizer's operations


def main(arguments: list[str] | None = None) -> None:
    """Prints the label and its probability for each text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("saved_model", metavar="DIR")
    parser.add_argument("texts", nargs="+", metavar="TEXT")
    flags = parser.parse_args(arguments)
    served = tf.saved_model.load(flags.saved_model)
    result = served.serve(tf.constant(flags.texts))
    widest = max(len(text) for text in flags.texts)
    for text, label, probabilities in zip(
        flags.texts, result["label"].numpy(), result["probabilities"].numpy()
    ):
        print(f"{text:<{widest}}  {label.decode()} {probabilities.max():.2f}")


if __name__ == "__main__":
    main()
