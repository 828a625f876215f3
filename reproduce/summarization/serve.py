"""Summarizes with the SavedModel that a run wrote.

    python -m reproduce.summarization.serve DIR TEXT [TEXT ...]

Needs tensorflow and tensorflow_text, neither KerasHub nor R-Drop: tokenizer,
model and beam search are inside the SavedModel.
"""

import argparse

import tensorflow as tf
import tensorflow_text  # noqa: F401 - registers the tokenizer's operations


def main(arguments: list[str] | None = None) -> None:
    """Prints each text and its summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("saved_model", metavar="DIR")
    parser.add_argument("texts", nargs="+", metavar="TEXT")
    flags = parser.parse_args(arguments)
    served = tf.saved_model.load(flags.saved_model)
    result = served.serve(tf.constant(flags.texts))
    for text, summary in zip(flags.texts, result["summary"].numpy()):
        print(f"  {text}\n    -> {summary.decode()}")


if __name__ == "__main__":
    main()
