"""SavedModels of classifiers that take raw inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import keras_hub
import tensorflow as tf

from reproduce.data.diabetes import Diabetes
from reproduce.export.functions import export_functions


def export_image_classifier(
    classifier: keras.Model,
    classes: Sequence[str],
    image_shape: tuple[int, ...],
    path: Path,
) -> None:
    """Writes a SavedModel that takes images and returns probabilities.

    The endpoint "serve" takes a batch of uint8 images of one size, whatever it
    is, and returns for each image the `probabilities` of all classes and the
    `label` of the most probable class. The endpoint "classes" takes no
    arguments and returns the class names in the order of `probabilities`.

    Args:
        classifier: The model.
        classes: The class names.
        image_shape: Height, width and channels of the training images, to
            which others are resized.
        path: The directory to write.
    """
    names = tf.constant(classes)
    *sides, channels = image_shape

    def serve(images):
        images = tf.image.resize(images, sides, antialias=True)
        images = tf.cast(tf.round(images), tf.uint8)
        logits = classifier(images, training=False)
        return {
            "label": tf.gather(names, tf.argmax(logits, axis=-1)),
            "probabilities": tf.nn.softmax(tf.cast(logits, tf.float32)),
        }

    signature = tf.TensorSpec([None, None, None, channels], tf.uint8, "images")
    functions = {
        "serve": (serve, [signature]),
        "classes": (lambda: {"classes": tf.identity(names)}, []),
    }
    export_functions(path, functions, [classifier])


def export_text_classifier(
    classifier: keras_hub.models.TextClassifier,
    classes: Sequence[str],
    path: Path,
    is_pair: bool = False,
) -> None:
    """Writes a SavedModel that takes texts and returns labels.

    The endpoints are those of `export_image_classifier`, with `texts` in place
    of `images`. A regression model has no endpoint "classes" and returns a
    `score`.

    Args:
        classifier: The model, with its preprocessor.
        classes: The class names, empty for a regression model.
        path: The directory to write.
        is_pair: Whether "serve" takes `first` and `second` instead of
            `texts`.
    """
    preprocessor = classifier.preprocessor
    inputs = ("first", "second") if is_pair else ("texts",)
    names = tf.constant(classes) if classes else None

    def serve(*texts):
        texts = preprocessor(x=tuple(texts) if is_pair else texts[0])
        outputs = tf.cast(classifier(texts, training=False), tf.float32)
        if not classes:
            return {"score": outputs[:, 0]}
        return {
            "label": tf.gather(names, tf.argmax(outputs, axis=-1)),
            "probabilities": tf.nn.softmax(outputs),
        }

    signature = [tf.TensorSpec([None], tf.string, name) for name in inputs]
    functions = {"serve": (serve, signature)}
    if classes:
        functions["classes"] = (lambda: {"classes": tf.identity(names)}, [])
    export_functions(path, functions, [classifier, preprocessor])


def export_diabetes(model: keras.Model, data: Diabetes, path: Path) -> None:
    """Writes a SavedModel that takes measurements and returns a score.

    The endpoint "serve" takes rows of unscaled measurements and returns an
    unscaled `score` for each row. The endpoint "inputs" takes no arguments and
    returns the names of the measurements in the order of the columns.
    """
    mean, scale = (tf.constant(x, tf.float32) for x in data.moments)
    target_mean, target_scale = data.target_moments
    names = tf.constant(data.input_names)

    def serve(measurements):
        outputs = model((measurements - mean) / scale, training=False)[:, 0]
        return {"score": outputs * target_scale + target_mean}

    signature = tf.TensorSpec(
        [None, len(data.input_names)], tf.float32, "measurements"
    )
    functions = {
        "serve": (serve, [signature]),
        "inputs": (lambda: {"inputs": tf.identity(names)}, []),
    }
    export_functions(path, functions, [model])
