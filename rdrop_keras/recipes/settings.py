"""The parts of a recipe: frozen values and where each group was read.

None stands for what neither the paper nor its authors' code says.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The network, and what it starts from."""

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
    """Dropout rates; `rate` is that of the hidden states and embeddings."""

    rate: float
    source: str
    attention: float | None = None
    activation: float | None = None
    adaptive_softmax: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """The optimizer; `weight_decay` is decoupled from the gradient.

    Attributes:
        name: `"adam"`, or `"sgd"` or `"nesterov"` with `momentum`.
        global_clipnorm: The largest norm of the whole gradient.
        undecayed: Parts of names of variables without weight decay.
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
    """The learning rate: warm-up from `initial_learning_rate`, then decay.

    Attributes:
        kind: `"inverse_square_root"`, `"polynomial"` or `"cosine"`.
        total_updates: All updates, those of the warm-up among them.
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
    """How many examples or tokens make an update.

    Attributes:
        examples: Examples in one forward pass of one device, each counted
            once although R-Drop passes it twice.
        tokens: Tokens at most, where batches are made by tokens.
        gradient_accumulation_steps: Forward passes to an update.
        devices: Devices whose gradients make one update.
        sequence_length: Tokens in a training block of a language model.
        hardware: What the paper names.
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
        """Examples or tokens in an update, None if not known."""
        size = self.examples if self.tokens is None else self.tokens
        if None in (size, self.gradient_accumulation_steps, self.devices):
            return None
        return size * self.gradient_accumulation_steps * self.devices


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodingSettings:
    """How outputs are generated, or contexts cut, for evaluation."""

    source: str
    beam_size: int | None = None
    length_penalty: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    no_repeat_ngram_size: int | None = None
    context_window: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class VocabularySettings:
    """The vocabulary; `size` is the number the paper rounds to."""

    kind: str
    source: str
    size: int | None = None
    joint: bool | None = None
    adaptive_cutoffs: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """One published comparison; None where only one side is published."""

    metric: str
    split: str
    baseline: float | None
    rdrop: float
    source: str
    higher_is_better: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuthorsAlpha:
    """The weight in the authors' code, and the alpha it amounts to here.

    Attributes:
        value: The weight as their code has it.
        convert_from: The `source` that `rdrop_keras.convert_alpha` takes.
        batch_size: The batch it takes, where the code sums over one.
        alpha: What it gives.
    """

    value: float
    convert_from: str
    alpha: float
    batch_size: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Searched:
    """The values among which a setting was chosen."""

    setting: str
    values: tuple[float, ...]
    source: str
