"""Classifies image files with the SavedModel that a run wrote.

    python -m reproduce.image_classification.serve DIR FILE [FILE ...]

Needs tensorflow, neither KerasHub nor R-Drop.
"""

import argparse

import tensorflow as tf


def main(arguments: list[str] | None = None) -> None:
    """Prints the label and its probability for each image."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("saved_model", metavar="DIR")
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="PNG, JPEG, GIF or BMP"
    )
    flags = parser.parse_args(arguments)
    served = tf.saved_model.load(flags.saved_model)
    signature = served.signatures["serving_default"]
    channels = signature.structured_input_signature[1]["images"].shape[-1]
    widest = max(len(file) for file in flags.files)
    for file in flags.files:
        image = tf.io.decode_image(
            tf.io.read_file(file), channels, expand_animations=False
        )
        result = served.serve(image[None])
        label = result["label"].numpy()[0].decode()
        probability = result["probabilities"].numpy().max()
        print(f"{file:<{widest}}  {label} {probability:.2f}")


if __name__ == "__main__":
    main()
