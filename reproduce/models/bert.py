"""KerasHub's BERT and RoBERTa classifiers, with R-Drop.

They are either small, with random weights, or pretrained, from a local
directory.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import keras_hub
import numpy as np

from rdrop_keras import RDropMixin
from reproduce.common.errors import InputError
from reproduce.data.batches import cut
from reproduce.data.word_pieces import word_pieces
from reproduce.models import hugging_face
from reproduce.models import keras_hub_tasks as hub
from reproduce.models.hugging_face_files import load_tokenizer

# A BERT that trains from random weights in a minute or two on two CPU cores.
NUM_LAYERS = 2
NUM_HEADS = 4
WIDTH = 64
SEQUENCE_LENGTH = 16
VOCABULARY_SIZE = 450
BERT_WIDTH = 768
# The number of texts tokenized at a time, which bounds the memory use.
TOKENIZED_TEXTS = 8192


@keras.saving.register_keras_serializable("rdrop_keras_examples")
class RDropBertTextClassifier(
    hub.TakesBatches, RDropMixin, keras_hub.models.BertTextClassifier
):
    """`BertTextClassifier`, trained with R-Drop."""


@keras.saving.register_keras_serializable("rdrop_keras_examples")
class RDropRobertaTextClassifier(
    hub.TakesBatches, RDropMixin, keras_hub.models.RobertaTextClassifier
):
    """`RobertaTextClassifier`, trained with R-Drop."""


@keras.saving.register_keras_serializable("rdrop_keras_examples")
class ExactBertTextClassifierPreprocessor(
    keras_hub.models.BertTextClassifierPreprocessor
):
    """The class by which KerasHub finds the preprocessor of a preset."""

    backbone_cls = hugging_face.ExactBertBackbone


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

    Its vocabulary is that of the training texts. It has one output for each
    class, or 1 for a score. The default sequence length is 16.
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
    hub.scale_kernels(classifier, (BERT_WIDTH / WIDTH) ** 0.5)
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

    The preset is a directory that KerasHub's `save_to_preset` wrote, or in
    Hugging Face's format. The head is new, unless a Hugging Face checkpoint has
    a head with the same number of outputs. The program prints a line about new
    weights. The sequence length is at most that of the preset.
    """
    classifier = CLASSIFIERS[encoder_of(preset)]
    config, checkpoint = hub.read_config(preset), None
    if "model_type" in config:
        checkpoint = hugging_face.read_checkpoint(preset, config)
        backbone = hugging_face.backbone_of(checkpoint, dropout)
        preprocessor = classifier.preprocessor_cls(
            load_tokenizer(preset, checkpoint.kind, backbone.vocabulary_size)
        )
    else:
        try:
            backbone = classifier.backbone_cls.from_preset(
                str(preset), dropout=dropout
            )
            preprocessor = classifier.preprocessor_cls.from_preset(str(preset))
        # KerasHub can raise any exception for a damaged file.
        except Exception as error:
            raise InputError(
                f"--preset {preset}: KerasHub cannot load it: "
                f"{hub.first_line(error)}"
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
    if checkpoint is not None and checkpoint.lacks_pooler:
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
    """Returns the class name of the encoder in a directory."""
    config = hub.read_config(preset)
    found = config.get("model_type", config.get("class_name"))
    name = NAMES.get(found, found) if isinstance(found, str) else None
    if name not in CLASSIFIERS:
        raise InputError(
            f"--preset {preset}: expected a {' or '.join(CLASSIFIERS)}, or "
            f"from Hugging Face a bert or roberta, got {found}."
        )
    return name
