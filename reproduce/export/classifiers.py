"""SavedModels of classifiers that take raw inputs.

The endpoint "serve" returns for each input the `probabilities` of all classes
and the `label` of the most probable class. The endpoint "classes" takes no
arguments and returns the class names in the order of `probabilities`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import keras_hub
import tensorflow as tf

from reproduce.data.diabetes import Diabetes
from reproduce.export import export_functions


def export_image_classifier(
    classifier: keras.Model,
    classes: Sequence[str],
    image_shape: tuple[int, ...],
    path: Path,
) -> None:
    """Writes a SavedModel that takes uint8 images of any one size.

    They are resized to the height and width of `image_shape`, that of the
    training images.
    """
    *sides, channels = image_shape

    def serve(images):
        images = tf.image.resize(images, sides, antialias=True)
        images = tf.cast(tf.round(images), tf.uint8)
        logits = classifier(images, training=False)
        return _labelled(classes, tf.cast(logits, tf.float32))

    signature = tf.TensorSpec([None, None, None, channels], tf.uint8, "images")
    functions = {
        "serve": (serve, [signature]),
        "classes": _names("classes", classes),
    }
    export_functions(path, functions, [classifier])


def export_text_classifier(
    classifier: keras_hub.models.TextClassifier,
    classes: Sequence[str],
    path: Path,
    is_pair: bool = False,
) -> None:
    """Writes a SavedModel that takes `texts`, or `first` and `second` of pairs.

    A regression model has no classes: it has no endpoint "classes" and returns
    a `score`.
    """
    preprocessor = classifier.preprocessor
    inputs = ("first", "second") if is_pair else ("texts",)

    def serve(*texts):
        texts = preprocessor(x=tuple(texts) if is_pair else texts[0])
        outputs = tf.cast(classifier(texts, training=False), tf.float32)
        if classes:
            return _labelled(classes, outputs)
        return {"score": outputs[:, 0]}

    signature = [tf.TensorSpec([None], tf.string, name) for name in inputs]
    functions = {"serve": (serve, signature)}
    if classes:
        functions["classes"] = _names("classes", classes)
    export_functions(path, functions, [classifier, preprocessor])


def export_diabetes(model: keras.Model, data: Diabetes, path: Path) -> None:
    """Writes a SavedModel that takes unscaled `measurements`.

    It returns an unscaled `score` for each row. The endpoint "inputs" returns
    the names of the measurements in the order of the columns.
    """
    mean, scale = (tf.constant(x, tf.float32) for x in data.moments)
    target_mean, target_scale = data.target_moments

    def serve(measurements):
        outputs = model((measurements - mean) / scale, training=False)[:, 0]
        return {"score": outputs * target_scale + target_mean}

    signature = tf.TensorSpec(
        [None, len(data.input_names)], tf.float32, "measurements"
    )
    functions = {
        "serve": (serve, [signature]),
        "inputs": _names("inputs", data.input_names),
    }
    export_functions(path, functions, [model])


def _labelled(classes: Sequence[str], logits: tf.Tensor) -> dict[str, Any]:
    return {
        "label": tf.gather(tf.constant(classes), tf.argmax(logits, axis=-1)),
        "probabilities": tf.nn.softmax(logits),
    }


def _names(key: str, names: Sequence[str]) -> tuple[Any, list]:
    """Returns an endpoint without arguments."""
    return lambda: {key: tf.constant(names)}, []
