"""KerasHub's BART with R-Drop, from a preset or with random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np

from rdrop_keras import RDropMixin
from reproduce.common.errors import InputError
from reproduce.data.bart_tokenizers import BytePairs
from reproduce.models import keras_hub_tasks as hub

BART_WIDTH = 1024


@keras.saving.register_keras_serializable("rdrop_keras_examples")
class RDropBartSeq2SeqLM(
    hub.TakesBatches, RDropMixin, keras_hub.models.BartSeq2SeqLM
):
    """`BartSeq2SeqLM`, trained with R-Drop.

    Its logits carry a Keras mask, with which losses, metrics and R-Drop's
    consistency ignore padding. KerasHub's logits have no mask, so padding
    counts.
    """

    def compute_mask(self, inputs: dict[str, Any], mask: Any = None) -> Any:
        return keras.ops.cast(inputs["decoder_padding_mask"], "bool")


@dataclass(frozen=True)
class Configuration:
    """The size of a BART from scratch, and its single dropout rate."""

    num_layers: int
    width: int
    feed_forward: int
    num_heads: int
    dropout: float


CONFIGURATIONS = {
    # Trains from scratch on one CPU core.
    "tiny": Configuration(2, 96, 192, 4, 0.1),
    # `bart.base` and `bart.large`, for users with enough data to pretrain.
    "base": Configuration(6, 768, 3072, 12, 0.1),
    "large": Configuration(12, 1024, 4096, 16, 0.1),
}


def small_bart(
    configuration: Configuration,
    vocabulary_size: int,
    longest: int,
    dtype: str = "float32",
) -> RDropBartSeq2SeqLM:
    """Returns a BART with random weights, for texts of up to `longest` ids."""
    backbone = keras_hub.models.BartBackbone(
        vocabulary_size=vocabulary_size,
        num_layers=configuration.num_layers,
        num_heads=configuration.num_heads,
        hidden_dim=configuration.width,
        intermediate_dim=configuration.feed_forward,
        dropout=configuration.dropout,
        max_sequence_length=longest,
        dtype=dtype,
    )
    model = RDropBartSeq2SeqLM(backbone=backbone, dtype=dtype)
    hub.scale_kernels(model, (BART_WIDTH / configuration.width) ** 0.5)
    return model


def preset_bart(
    preset: str, dropout: float | None, dtype: str = "float32"
) -> tuple[RDropBartSeq2SeqLM, BytePairs]:
    """Returns a pretrained BART and its tokenizer.

    The preset is a directory that KerasHub's `save_to_preset` wrote or in
    Hugging Face's format, or the name of a preset to download. A dropout rate
    of None is that of the preset.
    """
    changes = {} if dropout is None else {"dropout": dropout}
    try:
        backbone = keras_hub.models.BartBackbone.from_preset(
            preset, dtype=dtype, **changes
        )
        tokenizer = keras_hub.models.BartTokenizer.from_preset(preset)
    # KerasHub raises different exceptions for different wrong presets.
    except Exception as error:
        kind = "" if Path(preset).is_dir() else ", or the name of one"
        raise InputError(
            f"--preset {preset}: expected a directory with a BART and its "
            f"tokenizer, as KerasHub or Hugging Face writes them{kind}, got "
            f"{type(error).__name__}: {hub.first_line(error)}"
        ) from error
    model = RDropBartSeq2SeqLM(backbone=backbone, dtype=dtype)
    return model, BytePairs(tokenizer)


def bart_inputs(inputs: dict[str, Any], pad: int) -> dict[str, np.ndarray]:
    """Returns the model's inputs for `source_ids` and `target_ids`."""
    batch = {}
    for part, name in (("encoder", "source_ids"), ("decoder", "target_ids")):
        ids = np.asarray(inputs[name])
        batch[f"{part}_token_ids"] = ids
        batch[f"{part}_padding_mask"] = (ids != pad).astype("int32")
    return batch
