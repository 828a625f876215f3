"""Pretrained encoders from a directory, with a new head."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reproduce.common.errors import InputError
from reproduce.text_classification import hugging_face
from reproduce.text_classification.model import RDropBertTextClassifier
from reproduce.text_classification.model import RDropRobertaTextClassifier
from reproduce.text_classification.settings import Settings

Classifier = RDropBertTextClassifier | RDropRobertaTextClassifier

# By the name of the encoder, in KerasHub and as Hugging Face has it.
CLASSIFIERS = {
    "BertBackbone": RDropBertTextClassifier,
    "RobertaBackbone": RDropRobertaTextClassifier,
}
# The names of classes that are one of these for all that matters here.
ALIASES = {"ExactBertBackbone": "BertBackbone"}
MODEL_TYPES = {"bert": "BertBackbone", "roberta": "RobertaBackbone"}
# By what the names of recipes have in them: the encoder they are for.
RECIPES = {"_bert_": "BertBackbone", "_roberta_": "RobertaBackbone"}


def preset_classifier(
    preset: Path,
    num_outputs: int,
    dropout: float,
    sequence_length: int | None = None,
) -> Classifier:
    """Returns a pretrained BERT or RoBERTa as a classifier.

    Its head is new, unless a checkpoint of Hugging Face has one with as many
    outputs. What is new is printed.

    Args:
        preset: A directory as KerasHub's `save_to_preset` writes it, or as
            Hugging Face has it.
        num_outputs: How many classes there are, or 1 for a score.
        dropout: The rate of all dropout layers, over the preset's own.
        sequence_length: The most tokens of an example; those of the preset if
            None or if it takes fewer.
    """
    classifier = CLASSIFIERS[encoder_of(preset)]
    config = _read_config(preset)
    checkpoint = None
    if "model_type" in config:
        checkpoint = hugging_face.read_checkpoint(preset, config)
        backbone = hugging_face.backbone_of(checkpoint, dropout)
        preprocessor = classifier.preprocessor_cls(
            hugging_face.load_tokenizer(preset, config)
        )
    else:
        backbone = classifier.backbone_cls.from_preset(
            str(preset), dropout=dropout
        )
        preprocessor = classifier.preprocessor_cls.from_preset(str(preset))
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
    if checkpoint is not None and not checkpoint.has_pooler:
        new.append("a new pooler")
    if checkpoint is None or not hugging_face.assign_head(checkpoint, model):
        new.append(f"a new head of {num_outputs} output(s)")
    print(
        f"{preset}: {type(backbone).__name__} with "
        f"{' and '.join(new) or 'the head of the checkpoint'}, dropout "
        f"{dropout:g}"
    )
    return model


def check_preset(settings: Settings) -> None:
    """Refuses what is no preset, before a run writes anything.

    Raises:
        InputError: If there is no encoder, or not the one of the recipe.
    """
    if settings.preset is None:
        return
    encoder = encoder_of(Path(settings.preset))
    for name, expected in RECIPES.items():
        if name in (settings.recipe or "") and encoder != expected:
            raise InputError(
                f"--preset {settings.preset}: expected a {expected}, got "
                f"{encoder}. Give the encoder of {settings.recipe}, or its "
                "recipe for the other one."
            )


def encoder_of(preset: Path) -> str:
    """Returns the encoder in a directory, one of `CLASSIFIERS`.

    Raises:
        InputError: If there is none in it.
    """
    config = _read_config(preset)
    if "model_type" in config:
        found = config["model_type"]
        name = MODEL_TYPES.get(found)
    else:
        found = config.get("class_name")
        name = ALIASES.get(found, found)
    if found is None:
        raise _not_a_config(preset)
    if name not in CLASSIFIERS:
        raise InputError(
            f"--preset {preset}: expected a {' or '.join(CLASSIFIERS)}, or "
            f"from Hugging Face a {' or '.join(MODEL_TYPES)}, got {found}."
        )
    return name


def _read_config(preset: Path) -> dict[str, Any]:
    try:
        config = json.loads((preset / "config.json").read_text("utf-8"))
    except OSError as error:
        raise InputError(
            f"--preset {preset}: {error.strerror}: config.json. Expected a "
            "directory written by KerasHub's `save_to_preset`, or one of "
            "Hugging Face."
        ) from error
    except ValueError as error:
        raise _not_a_config(preset) from error
    if not isinstance(config, dict):
        raise _not_a_config(preset)
    return config


def _not_a_config(preset: Path) -> InputError:
    return InputError(
        f"--preset {preset}: config.json is not a KerasHub config, nor one of "
        "Hugging Face."
    )
