"""The flags of text classification."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import Literal

from reproduce import flags
from reproduce.task import Settings as CommonSettings

# The larger of the two rates that the paper fine-tunes BERT with (A.4).
PRESET_LEARNING_RATE = 1e-5
SMALL_LEARNING_RATE = 1e-3
DEFAULTS = {
    "texts": {"alpha": 5.0, "epochs": 38, "schedule": "cosine"},
    "glue": {"alpha": 1.0, "epochs": 10, "schedule": "linear"},
    "diabetes": {"alpha": 1.0, "epochs": 100, "schedule": "linear"},
}


@dataclass(frozen=True, kw_only=True)
class Settings(CommonSettings):
    """The flags of `train text_classification`."""

    alpha: flags.MaybeNotNegative = None
    """Weight of the consistency, the paper's alpha; none: 1 for GLUE and
    diabetes, 5 for other data."""
    epochs: flags.MaybeCount = None
    """The number of epochs; none: as many as --updates needs, or 10 for GLUE,
    100 for diabetes, 38 for other data."""
    output: Path = Path("runs/text_classification")
    train: flags.MaybePath = None
    """Own data: .tsv or .csv, UTF-8, with the columns text and label; none:
    names in 42 languages."""
    valid: flags.MaybePath = None
    test: flags.MaybePath = None
    glue_task: (
        Literal["mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb", "cola"]
        | None
    ) = None
    """The task of GLUE in --data."""
    data: flags.MaybePath = None
    """The directory of GLUE's files of the task, or its parent; or of
    Debian's files."""
    corpus: Literal["debian"] | None = None
    """Classify Debian's package descriptions in --data by section."""
    train_texts: flags.MaybeCount = None
    """The number of training texts of Debian's; none: all."""
    task: Literal["diabetes"] | None = None
    """A regression instead of texts: scikit-learn's diabetes, with a small
    dense network."""
    preset: flags.MaybePath = None
    """A BERT or RoBERTa written by KerasHub's save_to_preset or in Hugging
    Face's format: config.json, model.safetensors and vocabulary; none: a
    small BERT with random weights."""
    sequence_length: flags.MaybeCount = None
    """The maximum number of tokens of an example; none: 128 for GLUE,
    64 for Debian's descriptions, otherwise the maximum of the preset, or 16."""
    dropout: flags.Rate = 0.1
    """The rate of all dropout layers."""
    batch_size: flags.Count = 32
    """The number of rows in a batch."""
    learning_rate: flags.MaybePositive = None
    """The highest learning rate; none: 1e-5 with --preset, else 1e-3."""
    schedule: Literal["cosine", "linear"] | None = None
    """The decay of the learning rate to 0; none: linear for GLUE and diabetes,
    else cosine."""
    warm_up: flags.MaybeCountOrZero = None
    """The number of warm-up updates; none: a twentieth of all."""

    @property
    def kind(self) -> str:
        """The kind of data, a key of `DEFAULTS`."""
        return "glue" if self.glue_task else self.task or "texts"

    def resolved(self) -> Settings:
        """Returns the settings with the defaults of their data."""
        rate = PRESET_LEARNING_RATE if self.preset else SMALL_LEARNING_RATE
        length = 128 if self.glue_task else 64 if self.corpus else None
        defaults = {
            **DEFAULTS[self.kind],
            "learning_rate": rate,
            "sequence_length": length,
        }
        if self.updates and not self.epochs:
            defaults["epochs"] = None
        return dataclasses.replace(
            self,
            **{x: y for x, y in defaults.items() if getattr(self, x) is None},
        )

    def compared(self) -> dict[str, Any]:
        return super(Settings, self.resolved()).compared()
