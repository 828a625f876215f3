"""KerasHub's classifiers, with R-Drop: raw strings in, logits out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import keras_hub
import numpy as np
import tensorflow as tf

from rdrop_keras import RDropMixin
from reproduce.common.export import export_functions

# A BERT that trains from scratch in a minute or two on two CPU cores.
NUM_LAYERS = 2
NUM_HEADS = 4
WIDTH = 64
SEQUENCE_LENGTH = 16
VOCABULARY_SIZE = 1500
# BERT draws its kernels for this width, whatever the width is.
BERT_WIDTH = 768
SPECIAL_TOKENS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
# Texts tokenized at a time, which bounds the memory that takes.
TOKENIZED_TEXTS = 8192


@keras.saving.register_keras_serializable("rdrop_keras_examples")
class ExactBertBackbone(keras_hub.models.BertBackbone):
    """`BertBackbone` with GELU itself.

    KerasHub's computes the approximation with tanh that the first BERT had.
    Hugging Face's checkpoints have the other one, and logits differ by a few
    thousandths.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for layer in self.transformer_layers:
            # There is no public way to it: `activation` is read only once.
            layer._feedforward_intermediate_dense.activation = (
                keras.activations.gelu
            )


@keras.saving.register_keras_serializable("rdrop_keras_examples")
class ExactBertTextClassifierPreprocessor(
    keras_hub.models.BertTextClassifierPreprocessor
):
    """By which KerasHub finds the preprocessor of such a preset."""

    backbone_cls = ExactBertBackbone


@keras.saving.register_keras_serializable("rdrop_keras_examples")
class RDropBertTextClassifier(RDropMixin, keras_hub.models.BertTextClassifier):
    """`BertTextClassifier`, trained with R-Drop."""


@keras.saving.register_keras_serializable("rdrop_keras_examples")
class RDropRobertaTextClassifier(
    RDropMixin, keras_hub.models.RobertaTextClassifier
):
    """`RobertaTextClassifier`, trained with R-Drop."""


def small_classifier(
    texts: Sequence[str],
    num_outputs: int,
    dropout: float,
    sequence_length: int | None = None,
) -> RDropBertTextClassifier:
    """Returns a small BERT with random weights.

    Args:
        texts: The training texts, from which the vocabulary is computed.
        num_outputs: How many classes there are, or 1 for a score.
        dropout: The rate of all dropout layers.
        sequence_length: The most tokens of an example, 16 if None.
    """
    sequence_length = sequence_length or SEQUENCE_LENGTH
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
        max_sequence_length=sequence_length,
    )
    tokenizer = keras_hub.models.BertTokenizer(vocabulary, lowercase=True)
    classifier = RDropBertTextClassifier(
        backbone=backbone,
        preprocessor=keras_hub.models.BertTextClassifierPreprocessor(
            tokenizer, sequence_length=sequence_length
        ),
        num_classes=num_outputs,
        dropout=dropout,
    )
    # A standard deviation of 0.02 suits 768 inputs. With 64, what attention
    # and feed-forward add is lost beside the residual, and the classifier
    # stays at chance for thousands of updates.
    for weight in classifier.trainable_variables:
        if "embedding" not in weight.path and len(weight.shape) > 1:
            weight.assign(weight * (BERT_WIDTH / WIDTH) ** 0.5)
    return classifier


def tokenized(
    preprocessor: keras_hub.models.TextClassifierPreprocessor,
    first: Sequence[str],
    second: Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
    """Returns texts, or pairs of them, as the inputs of the model."""
    chunks = []
    for start in range(0, len(first), TOKENIZED_TEXTS):
        rows = slice(start, start + TOKENIZED_TEXTS)
        texts = list(first[rows])
        if second is not None:
            texts = (texts, list(second[rows]))
        # By name: a pair given by place is taken for texts and labels.
        chunks.append(preprocessor(x=texts))
    return {
        name: np.concatenate([np.asarray(chunk[name]) for chunk in chunks])
        for name in chunks[0]
    }


def export_classifier(
    classifier: keras_hub.models.TextClassifier,
    classes: Sequence[str],
    path: Path,
    is_pair: bool = False,
) -> None:
    """Writes a SavedModel that takes texts and returns label strings.

    The endpoint "serve" takes a batch of strings and returns for each the
    `probabilities` of all classes and the `label` of the most probable. The
    endpoint "classes" takes nothing and returns the names of the classes in
    the order of `probabilities`. With no classes there is a `score` in place
    of both, and no endpoint "classes".

    Args:
        classifier: The model, with its preprocessor.
        classes: The names of the classes, none for a model of scores.
        path: The directory to write.
        is_pair: Whether "serve" takes `first` and `second` in place of
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
