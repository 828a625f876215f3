"""The parts of a recipe. None means that no source gives the value."""

from __future__ import annotations

import dataclasses

from rdrop_keras.convert import convert_alpha


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The network and the weights it starts from."""

    name: str
    source: str
    encoder_layers: int | None = None
    decoder_layers: int | None = None
    hidden_size: int | None = None
    feed_forward_size: int | None = None
    attention_heads: int | None = None
    patch_size: int | None = None
    image_size: int | None = None
    pretrained: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class DropoutSettings:
    """Dropout rates; `rate` applies to embeddings and hidden states."""

    rate: float
    source: str
    attention: float | None = None
    activation: float | None = None
    adaptive_softmax: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """The optimizer; weight decay is decoupled from the gradient.

    `name` is `"adam"`, `"sgd"` or `"nesterov"`. Variables whose name contains
    one of `undecayed` have no weight decay.
    """

    name: str
    source: str
    betas: tuple[float, float] | None = None
    epsilon: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    global_clipnorm: float | None = None
    undecayed: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleSettings:
    """The learning rate: a warm-up from `initial_learning_rate`, then a decay.

    `kind` is `"inverse_square_root"`, `"polynomial"` or `"cosine"`.
    `total_updates` includes the warm-up.
    """

    kind: str
    learning_rate: float
    source: str
    warmup_updates: int | None = None
    total_updates: int | None = None
    initial_learning_rate: float | None = None
    end_learning_rate: float | None = None
    power: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """The batch of one forward pass on one device, and passes per update.

    The batch is a number of `examples`, each counted once although R-Drop
    runs it twice, or a largest number of `tokens`.
    """

    source: str
    examples: int | None = None
    tokens: int | None = None
    gradient_accumulation_steps: int | None = None
    devices: int | None = None
    sequence_length: int | None = None
    hardware: str | None = None

    @property
    def per_update(self) -> int | None:
        """Examples or tokens in one update, or None if not known."""
        size = self.examples if self.tokens is None else self.tokens
        if None in (size, self.gradient_accumulation_steps, self.devices):
            return None
        return size * self.gradient_accumulation_steps * self.devices


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodingSettings:
    """How evaluation generates text, or cuts the context of each token."""

    source: str
    beam_size: int | None = None
    length_penalty: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    no_repeat_ngram_size: int | None = None
    context_window: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class VocabularySettings:
    """The vocabulary; `size` is the rounded number in the paper."""

    kind: str
    source: str
    size: int | None = None
    joint: bool | None = None
    adaptive_cutoffs: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Result:
    """One published comparison of plain training with R-Drop."""

    metric: str
    split: str
    baseline: float | None
    rdrop: float
    source: str
    higher_is_better: bool = True


@dataclasses.dataclass(frozen=True)
class AuthorsAlpha:
    """The weight in the authors' code.

    `convert_from` and `batch_size` are the arguments of `convert_alpha` that
    turn `value` into our alpha.
    """

    value: float
    convert_from: str
    batch_size: int | None = None

    @property
    def alpha(self) -> float:
        """The alpha that has the same effect here."""
        return convert_alpha(self.value, self.convert_from, self.batch_size)


@dataclasses.dataclass(frozen=True)
class Searched:
    """The values from which a setting was chosen."""

    setting: str
    values: tuple[float, ...]
    source: str
