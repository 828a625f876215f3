"""KerasHub's BERT and RoBERTa classifiers, with R-Drop.

They are either small, with random weights, or pretrained, from a local
directory.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np

from rdrop_keras import RDropMixin
from reproduce.common.errors import InputError
from reproduce.data.batches import cut
from reproduce.data.word_pieces import word_pieces
from reproduce.models import hugging_face
from reproduce.models.hugging_face import ExactBertBackbone
from reproduce.models.hugging_face_files import load_tokenizer

# A BERT that trains from random weights in a minute or two on two CPU cores.
NUM_LAYERS = 2
NUM_HEADS = 4
WIDTH = 64
SEQUENCE_LENGTH = 16
VOCABULARY_SIZE = 450
# BERT's initializer suits kernels of this width and ignores the actual width.
BERT_WIDTH = 768
# The number of texts tokenized at a time, which bounds the memory use.
TOKENIZED_TEXTS = 8192


class _TakesBatches(RDropMixin):
    """Accepts a `PyDataset` of tokens, which KerasHub's tasks do not."""

    def fit(self, x=None, **kwargs):
        return self._method("fit", x)(x=x, **kwargs)

    def evaluate(self, x=None, **kwargs):
        return self._method("evaluate", x)(x=x, **kwargs)

    def predict(self, x, **kwargs):
        return self._method("predict", x)(x=x, **kwargs)

    def _method(self, name, x):
        if isinstance(x, keras.utils.PyDataset):
            return functools.partial(getattr(keras.Model, name), self)
        return getattr(super(), name)


@keras.saving.register_keras_serializable("rdrop_keras_examples")
class RDropBertTextClassifier(
    _TakesBatches, keras_hub.models.BertTextClassifier
):
    """`BertTextClassifier`, trained with R-Drop."""


@keras.saving.register_keras_serializable("rdrop_keras_examples")
class RDropRobertaTextClassifier(
    _TakesBatches, keras_hub.models.RobertaTextClassifier
):
    """`RobertaTextClassifier`, trained with R-Drop."""


@keras.saving.register_keras_serializable("rdrop_keras_examples")
class ExactBertTextClassifierPreprocessor(
    keras_hub.models.BertTextClassifierPreprocessor
):
    """The class by which KerasHub finds the preprocessor of a preset."""

    backbone_cls = ExactBertBackbone


# The classifier for each class of encoder.
CLASSIFIERS = {
    "BertBackbone": RDropBertTextClassifier,
    "RobertaBackbone": RDropRobertaTextClassifier,
}
NAMES = {
    "ExactBertBackbone": "BertBackbone",
    "bert": "BertBackbone",
    "roberta": "RobertaBackbone",
}


def small_classifier(
    texts: Sequence[str],
    num_outputs: int,
    dropout: float,
    sequence_length: int | None = None,
) -> RDropBertTextClassifier:
    """Returns a small BERT with random weights.

    Args:
        texts: The training texts, from which the vocabulary is computed.
        num_outputs: The number of classes, or 1 for a score.
        dropout: The rate of all dropout layers.
        sequence_length: The maximum number of tokens of an example. The
            default is 16.
    """
    sequence_length = sequence_length or SEQUENCE_LENGTH
    vocabulary = word_pieces(texts, VOCABULARY_SIZE)
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
    # A standard deviation of 0.02 suits 768 inputs. With 64, the outputs of
    # attention and feed-forward are negligible next to the residual, and the
    # classifier stays at chance for thousands of updates.
    for weight in classifier.trainable_variables:
        if "embedding" not in weight.path and len(weight.shape) > 1:
            weight.assign(weight * (BERT_WIDTH / WIDTH) ** 0.5)
    return classifier


def tokenized(
    preprocessor: keras_hub.models.TextClassifierPreprocessor,
    first: Sequence[str],
    second: Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
    """Returns the model's inputs for texts or pairs of texts.

    They are padded to the bucket of the longest text.
    """
    chunks = []
    for start in range(0, len(first), TOKENIZED_TEXTS):
        rows = slice(start, start + TOKENIZED_TEXTS)
        texts = list(first[rows])
        if second is not None:
            texts = (texts, list(second[rows]))
        # A positional pair would be taken for texts and labels.
        chunks.append(preprocessor(x=texts))
    return cut(
        {
            name: np.concatenate([np.asarray(chunk[name]) for chunk in chunks])
            for name in chunks[0]
        }
    )


def preset_classifier(
    preset: Path,
    num_outputs: int,
    dropout: float,
    sequence_length: int | None = None,
) -> keras_hub.models.TextClassifier:
    """Returns a pretrained BERT or RoBERTa as a classifier.

    Its head is new, unless a Hugging Face checkpoint has a head with the same
    number of outputs. The program prints a line about new weights.

    Args:
        preset: A directory that KerasHub's `save_to_preset` wrote, or in
            Hugging Face's format.
        num_outputs: The number of classes, or 1 for a score.
        dropout: The rate of all dropout layers.
        sequence_length: The maximum number of tokens of an example. The
            preset's maximum applies if it is lower, or if this is None.
    """
    classifier = CLASSIFIERS[encoder_of(preset)]
    config, checkpoint = _read_config(preset), None
    if "model_type" in config:
        checkpoint = hugging_face.read_checkpoint(preset, config)
        backbone = hugging_face.backbone_of(checkpoint, dropout)
        preprocessor = classifier.preprocessor_cls(
            load_tokenizer(
                preset, checkpoint.kind, checkpoint.size("vocab_size")
            )
        )
    else:
        try:
            backbone = classifier.backbone_cls.from_preset(
                str(preset), dropout=dropout
            )
            preprocessor = classifier.preprocessor_cls.from_preset(str(preset))
        # KerasHub can raise any exception for a damaged file.
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()
            raise InputError(
                f"--preset {preset}: KerasHub cannot load it: {reason[0]}"
            ) from error
    preprocessor.sequence_length = min(
        sequence_length or preprocessor.sequence_length,
        backbone.max_sequence_length,
    )
    model = classifier(
        backbone=backbone,
        preprocessor=preprocessor,
        num_classes=num_outputs,
        dropout=dropout,
    )
    new = []
    if (
        checkpoint is not None
        and checkpoint.kind == "bert"
        and (not checkpoint.stores_pooler)
    ):
        new.append("a new pooler")
    if checkpoint is None or not hugging_face.assign_head(checkpoint, model):
        new.append(f"a new head of {num_outputs} output(s)")
    print(
        f"{preset}: {type(backbone).__name__} with "
        f"{' and '.join(new) or 'the head of the checkpoint'}, dropout "
        f"{dropout:g}"
    )
    return model


def encoder_of(preset: Path) -> str:
    """Returns the class name of the encoder in a directory.

    Raises:
        InputError: If the directory has no encoder of `CLASSIFIERS`.
    """
    config = _read_config(preset)
    found = config.get("model_type", config.get("class_name"))
    name = NAMES.get(found, found) if isinstance(found, str) else None
    if name not in CLASSIFIERS:
        raise InputError(
            f"--preset {preset}: expected a {' or '.join(CLASSIFIERS)}, or "
            f"from Hugging Face a bert or roberta, got {found}."
        )
    return name


def _read_config(preset: Path) -> dict[str, Any]:
    path = preset / "config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(
            f"--preset {preset}: {error.strerror}: config.json. Expected a "
            "directory written by KerasHub's `save_to_preset`, or one of "
            "Hugging Face."
        ) from error
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise InputError(
            f"--preset {preset}: config.json is not a KerasHub config, nor "
            "one of Hugging Face."
        )
    return config
