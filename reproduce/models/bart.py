"""KerasHub's BART with R-Drop, from a preset or with random weights."""

from __future__ import annotations

from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np

from rdrop_keras import RDropMixin
from reproduce.common.errors import InputError
from reproduce.data.bart_tokenizers import BytePairs
from reproduce.models.prepared import PreparedBatches

ops = keras.ops

# BART's initializer suits kernels of this width and ignores the actual width.
BART_WIDTH = 1024


@keras.saving.register_keras_serializable("rdrop_keras_examples")
class RDropBartSeq2SeqLM(
    PreparedBatches, RDropMixin, keras_hub.models.BartSeq2SeqLM
):
    """`BartSeq2SeqLM`, trained with R-Drop.

    Its logits carry a Keras mask, with which losses, metrics and R-Drop's
    consistency ignore padding. KerasHub's logits have no mask, so padding
    counts.
    """

    def compute_mask(self, inputs: dict[str, Any], mask: Any = None) -> Any:
        return ops.cast(inputs["decoder_padding_mask"], "bool")


@dataclass(frozen=True)
class Configuration:
    """The size of a BART from scratch, and its dropout rate.

    Attributes:
        num_layers: The number of encoder layers and of decoder layers.
        width: The size of embeddings and hidden states.
        feed_forward: The hidden size of the feed-forward layers.
        num_heads: The number of attention heads.
        dropout: The dropout rate of embeddings, attention probabilities and
            residual branches. KerasHub's BART has a single rate.
    """

    num_layers: int
    width: int
    feed_forward: int
    num_heads: int
    dropout: float


CONFIGURATIONS = {
    # Trains from scratch on one CPU core.
    "tiny": Configuration(
        num_layers=2, width=96, feed_forward=192, num_heads=4, dropout=0.1
    ),
    # `bart.base` and `bart.large`, for users with enough data to pretrain.
    "base": Configuration(
        num_layers=6, width=768, feed_forward=3072, num_heads=12, dropout=0.1
    ),
    "large": Configuration(
        num_layers=12, width=1024, feed_forward=4096, num_heads=16, dropout=0.1
    ),
}


def small_bart(
    configuration: Configuration,
    vocabulary_size: int,
    longest: int,
    dtype: str = "float32",
) -> RDropBartSeq2SeqLM:
    """Returns a BART with random weights.

    Args:
        configuration: Its size.
        vocabulary_size: The number of ids.
        longest: The maximum number of ids of an article or summary.
        dtype: The dtype policy.
    """
    sizes = asdict(configuration)
    backbone = keras_hub.models.BartBackbone(
        vocabulary_size=vocabulary_size,
        num_layers=sizes["num_layers"],
        num_heads=sizes["num_heads"],
        hidden_dim=sizes["width"],
        intermediate_dim=sizes["feed_forward"],
        dropout=sizes["dropout"],
        max_sequence_length=longest,
        dtype=dtype,
    )
    model = RDropBartSeq2SeqLM(backbone=backbone, dtype=dtype)
    # A standard deviation of 0.02 suits 1,024 inputs. With far fewer inputs,
    # the outputs of attention and feed-forward are negligible next to the
    # residual.
    scale = (BART_WIDTH / configuration.width) ** 0.5
    for weight in model.trainable_variables:
        if "embedding" not in weight.path and len(weight.shape) > 1:
            weight.assign(weight * scale)
    return model


def preset_bart(
    preset: str, dropout: float | None, dtype: str = "float32"
) -> tuple[RDropBartSeq2SeqLM, BytePairs]:
    """Returns a pretrained BART and its tokenizer.

    Args:
        preset: A directory that KerasHub's `save_to_preset` wrote or in Hugging
            Face's format, or the name of a preset to download.
        dropout: The rate of all dropout layers. None keeps the preset's rate.
        dtype: The dtype policy.

    Raises:
        InputError: If the preset is not a BART.
    """
    changes = {} if dropout is None else {"dropout": dropout}
    try:
        backbone = keras_hub.models.BartBackbone.from_preset(
            preset, dtype=dtype, **changes
        )
        tokenizer = keras_hub.models.BartTokenizer.from_preset(preset)
    except Exception as error:
        # KerasHub raises different exceptions for different wrong presets.
        kind = "" if Path(preset).is_dir() else ", or the name of one"
        raise InputError(
            f"--preset {preset}: expected a directory with a BART and its "
            f"tokenizer, as KerasHub or Hugging Face writes them{kind}, got "
            f"{type(error).__name__}: {_first_line(error)}"
        ) from error
    model = RDropBartSeq2SeqLM(backbone=backbone, dtype=dtype)
    return model, BytePairs(tokenizer)


def bart_inputs(inputs: dict[str, Any], pad: int) -> dict[str, np.ndarray]:
    """Returns the model's inputs for `source_ids` and `target_ids`."""
    names = {"encoder": "source_ids", "decoder": "target_ids"}
    batch = {}
    for part, name in names.items():
        ids = np.asarray(inputs[name])
        batch[f"{part}_token_ids"] = ids
        batch[f"{part}_padding_mask"] = (ids != pad).astype("int32")
    return batch


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]
