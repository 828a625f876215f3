"""A SavedModel that takes images as they are."""

from __future__ import annotations

from pathlib import Path

import keras
import tensorflow as tf

from reproduce.common.export import export_functions


def export_classifier(
    classifier: keras.Model,
    classes: tuple[str, ...],
    image_shape: tuple[int, ...],
    path: Path,
) -> None:
    """Writes a SavedModel that takes images and returns probabilities.

    The endpoint "serve" takes a batch of uint8 images of any one size and
    returns for each the `probabilities` of all classes and the `label` of the
    most probable. The endpoint "classes" takes nothing and returns the names
    of the classes in the order of `probabilities`.

    Args:
        classifier: The model.
        classes: The class names.
        image_shape: Height, width and channels of the images that it was
            trained on, to which others are resized.
        path: The directory to write.
    """
    names = tf.constant(classes)
    height, width, channels = image_shape

    def serve(images):
        images = tf.image.resize(images, (height, width), antialias=True)
        images = tf.cast(tf.round(images), tf.uint8)
        logits = classifier(images, training=False)
        return {
            "label": tf.gather(names, tf.argmax(logits, axis=-1)),
            "probabilities": tf.nn.softmax(tf.cast(logits, tf.float32)),
        }

    signature = tf.TensorSpec([None, None, None, channels], tf.uint8, "images")
    export_functions(
        path,
        {
            "serve": (serve, [signature]),
            "classes": (lambda: {"classes": tf.identity(names)}, []),
        },
        [classifier],
    )
