"""Goes on with prompts by the SavedModel that a run wrote.

    python -m reproduce.language_modeling.serve DIR PROMPT [PROMPT ...]

Needs tensorflow and tensorflow_text, neither KerasHub nor R-Drop: vocabulary,
model and sampling are inside the SavedModel.
"""

import argparse

import tensorflow as tf
import tensorflow_text  # noqa: F401 - registers the tokenizer's operations


def main(arguments: list[str] | None = None) -> None:
    """Prints each prompt, what follows, and what the prompt cost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("saved_model", metavar="DIR")
    parser.add_argument("prompts", nargs="+", metavar="PROMPT")
    flags = parser.parse_args(arguments)
    served = tf.saved_model.load(flags.saved_model)
    prompts = tf.constant(flags.prompts)
    following = served.serve(prompts)["text"].numpy()
    scores = served.score(prompts)
    nats = -tf.reduce_sum(scores["log_probabilities"], axis=-1).numpy()
    for prompt, text, cost, length in zip(
        flags.prompts, following, nats, scores["lengths"].numpy()
    ):
        print(f"{prompt} [...] {text.decode()}")
        print(f"  ({cost:.2f} nats for the {length} tokens of the prompt)")


if __name__ == "__main__":
    main()
