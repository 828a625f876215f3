"""KerasHub's BERT classifier, with R-Drop: raw strings in, logits out."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import keras_hub
import tensorflow as tf

from examples.common.errors import InputError
from examples.common.export import export_functions
from rdrop_keras import RDropMixin

# A BERT that trains from scratch in a minute or two on two CPU cores.
NUM_LAYERS = 2
NUM_HEADS = 4
WIDTH = 64
SEQUENCE_LENGTH = 16
VOCABULARY_SIZE = 1500
# BERT draws its kernels for this width, whatever the width is.
BERT_WIDTH = 768
SPECIAL_TOKENS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]


@keras.saving.register_keras_serializable("rdrop_keras_examples")
class RDropBertTextClassifier(RDropMixin, keras_hub.models.BertTextClassifier):
    """`BertTextClassifier`, trained with R-Drop."""


def small_classifier(
    texts: tuple[str, ...], num_classes: int, dropout: float
) -> RDropBertTextClassifier:
    """Returns a small BERT with random weights.

    Args:
        texts: The training texts, from which the vocabulary is computed.
        num_classes: How many classes there are.
        dropout: The rate of all dropout layers.
    """
    vocabulary = keras_hub.tokenizers.compute_word_piece_vocabulary(
        tf.data.Dataset.from_tensor_slices(list(texts)),
        vocabulary_size=VOCABULARY_SIZE,
        lowercase=True,
        reserved_tokens=SPECIAL_TOKENS,
    )
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=len(vocabulary),
        num_layers=NUM_LAYERS,
        num_heads=NUM_HEADS,
        hidden_dim=WIDTH,
        intermediate_dim=2 * WIDTH,
        dropout=dropout,
        max_sequence_length=SEQUENCE_LENGTH,
    )
    tokenizer = keras_hub.models.BertTokenizer(vocabulary, lowercase=True)
    classifier = RDropBertTextClassifier(
        backbone=backbone,
        preprocessor=keras_hub.models.BertTextClassifierPreprocessor(
            tokenizer, sequence_length=SEQUENCE_LENGTH
        ),
        num_classes=num_classes,
        dropout=dropout,
    )
    # A standard deviation of 0.02 suits 768 inputs. With 64, what attention
    # and feed-forward add is lost beside the residual, and the classifier
    # stays at chance for thousands of updates.
    for weight in classifier.trainable_variables:
        if "embedding" not in weight.path and len(weight.shape) > 1:
            weight.assign(weight * (BERT_WIDTH / WIDTH) ** 0.5)
    return classifier


def preset_classifier(
    preset: Path, num_classes: int, dropout: float
) -> RDropBertTextClassifier:
    """Returns a pretrained BERT with a new classification head.

    Args:
        preset: A directory as `save_to_preset` writes it.
        num_classes: How many classes there are.
        dropout: The rate of all dropout layers, over the preset's own.
    """
    config = preset / "config.json"
    try:
        class_name = json.loads(config.read_text("utf-8"))["class_name"]
    except OSError as error:
        raise InputError(
            f"--preset {preset}: {error.strerror}: config.json. Expected a "
            "directory written by KerasHub's `save_to_preset`."
        ) from error
    except (ValueError, KeyError) as error:
        raise InputError(
            f"--preset {preset}: config.json is not a KerasHub config."
        ) from error
    if class_name != "BertBackbone":
        raise InputError(
            f"--preset {preset}: expected a BertBackbone, got {class_name}."
        )
    backbone = keras_hub.models.BertBackbone.from_preset(
        str(preset), dropout=dropout
    )
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor.from_preset(
        str(preset)
    )
    preprocessor.sequence_length = min(
        preprocessor.sequence_length, backbone.max_sequence_length
    )
    return RDropBertTextClassifier(
        backbone=backbone,
        preprocessor=preprocessor,
        num_classes=num_classes,
        dropout=dropout,
    )


def export_classifier(
    classifier: keras_hub.models.BertTextClassifier,
    classes: tuple[str, ...],
    path: Path,
) -> None:
    """Writes a SavedModel that takes texts and returns label strings.

    The endpoint "serve" takes a batch of strings and returns for each the
    `probabilities` of all classes and the `label` of the most probable. The
    endpoint "classes" takes nothing and returns the names of the classes in
    the order of `probabilities`.
    """
    preprocessor = classifier.preprocessor
    names = tf.constant(classes)

    def serve(texts):
        logits = classifier(preprocessor(texts), training=False)
        return {
            "label": tf.gather(names, tf.argmax(logits, axis=-1)),
            "probabilities": tf.nn.softmax(tf.cast(logits, tf.float32)),
        }

    export_functions(
        path,
        {
            "serve": (serve, [tf.TensorSpec([None], tf.string, "texts")]),
            "classes": (lambda: {"classes": tf.identity(names)}, []),
        },
        [classifier, preprocessor],
    )
