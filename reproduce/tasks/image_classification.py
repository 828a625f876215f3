"""Image classification with a Vision Transformer or a residual network."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import astuple
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import Literal

import keras
import numpy as np

from rdrop_keras import RDrop
from rdrop_keras.recipes import PerUpdate
from reproduce.common import runs
from reproduce.common.arms import TWO_PASSES
from reproduce.common.arms import rdrop_of
from reproduce.common.comparison import Measure
from reproduce.common.curves import ACCURACY
from reproduce.common.errors import InputError
from reproduce.data.augment import AUGMENTATIONS
from reproduce.data.batches import Batches
from reproduce.data.batches import Rows
from reproduce.data.image_directory import load_directory
from reproduce.data.images import TRAIN_DIGITS
from reproduce.data.images import Dataset
from reproduce.data.images import Part
from reproduce.data.images import load_digits
from reproduce.exports import export_image_classifier
from reproduce.flags import Count
from reproduce.flags import MaybeCount
from reproduce.flags import MaybeCountOrZero
from reproduce.flags import MaybePath
from reproduce.flags import MaybePositive
from reproduce.flags import MaybeText
from reproduce.flags import NotNegative
from reproduce.flags import Rate
from reproduce.image_reports import measure
from reproduce.image_reports import plot_predictions
from reproduce.image_reports import plot_reliability
from reproduce.image_reports import probabilities_of
from reproduce.models.resnet import resnet
from reproduce.models.vit import SIZES
from reproduce.models.vit import Size
from reproduce.models.vit import check_side
from reproduce.models.vit import patch_size_of
from reproduce.models.vit import pretrained_vit
from reproduce.models.vit import vit
from reproduce.schedules import ProportionalAlpha
from reproduce.schedules import Schedule
from reproduce.schedules import learning_rate
from reproduce.task import Run
from reproduce.task import Settings as CommonSettings
from reproduce.task import Task
from reproduce.task import recipe_of
from reproduce.tasks.text import accumulation
from reproduce.tasks.text import is_compiled
from reproduce.tasks.text import stated

LEARNING_RATES = {"sgd": 0.03, "adamw": 1e-3}
LOGITS = "test_logits.npz"
RELIABILITY = "reliability.png"
PREDICTIONS = "predictions.png"
# The images that `compare --demo` writes and classifies.
DEMO_IMAGES = 4


@dataclass(frozen=True, kw_only=True)
class Settings(CommonSettings):
    """The flags of `train image_classification`."""

    epochs: MaybeCount = None
    """How often to go through the training part; none: 40, or what --updates
    needs."""
    output: Path = Path("runs/image_classification")
    """The directory to write."""
    data: MaybePath = None
    """CIFAR-10 or CIFAR-100 as published, for Python or binary; a directory of
    images for each class, or train, valid and test with such; TFRecords of
    encoded images; none: scikit-learn's digits."""
    format: Literal[
        "auto", "cifar10", "cifar100", "folder", "tfrecord", "tfds"
    ] = "auto"
    """The format of --data; auto: as its files are."""
    tfds: MaybeText = None
    """Read this data set of tensorflow-datasets, prepared in --data."""
    train_images: MaybeCount = None
    """The size of the training part, stratified by class; none: 200 digits,
    all of other data."""
    model: Literal["vit", "resnet"] = "vit"
    """The network."""
    preset: MaybePath = None
    """A ViT written by KerasHub's save_to_preset; none: random weights."""
    configuration: Literal["tiny", "b_16", "l_16"] = "tiny"
    """The size of a ViT with random weights."""
    blocks: Count = 3
    """The blocks in a stage of a ResNet, which has 6 N + 2 layers."""
    image_size: MaybeCount = None
    """Resize images to squares of this side; none: that of the preset, or
    their own."""
    patch_size: MaybeCount = None
    """The side of a patch; none: that of the configuration."""
    dropout: Rate = 0.1
    """The rate of all dropout layers."""
    attention_dropout: Rate = 0.0
    """The dropout rate of attention weights."""
    batch_size: Count = 32
    """The images of a batch."""
    accumulate: Count = 1
    """Batches in an update."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """The optimizer."""
    learning_rate: MaybePositive = None
    """The highest learning rate; none: 0.03 for sgd, 0.001 for adamw."""
    momentum: Rate = 0.9
    """The momentum of sgd."""
    weight_decay: NotNegative = 0.0
    """The weight decay."""
    clip_norm: NotNegative = 1.0
    """The largest global norm of gradients; 0: any."""
    schedule: Literal["cosine", "linear", "steps"] = "cosine"
    """The fall of the learning rate: to 0 along a cosine or a line, or by ten
    after half and three quarters of the updates."""
    warm_up: MaybeCountOrZero = None
    """Updates in which the learning rate rises; none: a twentieth."""
    summed_loss: bool = False
    """Make the updates of the paper's loss, which is the sum over passes, with
    the arms two_pass and rdrop: twice the learning rate of sgd and half
    --clip-norm."""
    decay_alpha: bool = False
    """Let alpha rise and fall in proportion to the learning rate."""
    augment: Literal["shift", "crop"] | None = None
    """Change training images. shift: by up to 4 pixels, and mirror half of
    them; crop: 5 to 100 % of an image, resized."""

    @property
    def size(self) -> Size:
        """The size of a ViT with random weights."""
        size = SIZES[self.configuration]
        patch_size = self.patch_size or size.patch_size
        return dataclasses.replace(size, patch_size=patch_size)

    @property
    def highest_rate(self) -> float:
        """The highest learning rate of a pass's mean loss."""
        return self.learning_rate or LEARNING_RATES[self.optimizer]


class ImageRun(Run):
    """A classifier of images, and its data."""

    def __init__(self, data: Dataset, settings: Settings):
        self.data = data
        self.settings = settings
        self.model = build(data.image_shape, len(data.classes), settings)
        # The last batch of an epoch may be smaller and counts whole.
        steps = -(-len(data.train) // settings.batch_size)
        self.epochs = settings.epochs or 40
        updates = steps * self.epochs // settings.accumulate
        if settings.updates is not None:
            updates = settings.updates
            self.epochs = math.ceil(updates * settings.accumulate / steps)
        compile_classifier(self.model, settings, updates)
        self.validation = Batches(_rows(data.valid))

    def batches(self, epoch: Any) -> Batches:
        return Batches(
            _rows(self.data.train),
            self.settings.batch_size,
            self.settings.seed,
            epoch,
            AUGMENTATIONS.get(self.settings.augment or ""),
        )

    def finish(self, output: Path, history: Any) -> dict[str, Any]:
        data, arm = self.data, self.settings.arm
        logits = {
            part: self.model.predict(Batches(_rows(images)), verbose=0)
            for part, images in (("valid", data.valid), ("test", data.test))
        }
        np.savez(output / LOGITS, logits=logits["test"])
        predicted = [(arm, probabilities_of(logits["test"]))]
        title = f"{data.name}: {arm}, seed {self.settings.seed}"
        _draw(predicted, data, title, output)
        self.model.save(output / runs.MODEL)
        export_image_classifier(
            self.model,
            data.classes,
            data.image_shape,
            output / runs.SAVED_MODEL,
        )
        return {
            part: measure(logits[part], images.labels)
            for part, images in (("valid", data.valid), ("test", data.test))
        }


class ImageClassification(Task):
    """Classifies images."""

    name = "image_classification"
    summary = "image classification with a ViT or a CIFAR ResNet"
    settings = Settings
    score = ACCURACY
    packages = ("keras-hub",)

    def recipe_settings(self, name: str) -> dict[str, Any]:
        recipe = recipe_of(self.name, name)
        model, optimizer = recipe.model, recipe.optimizer_settings
        schedule = recipe.schedule
        sizes = (
            model.encoder_layers,
            model.hidden_size,
            model.feed_forward_size,
            model.attention_heads,
            model.patch_size,
        )
        return {"recipe": name} | stated(
            {
                "alpha": recipe.alpha,
                "configuration": next(
                    name
                    for name, size in SIZES.items()
                    if astuple(size) == sizes
                ),
                "patch_size": model.patch_size,
                "image_size": model.image_size,
                "dropout": recipe.dropout.rate,
                "attention_dropout": recipe.dropout.attention,
                "optimizer": optimizer.name,
                "momentum": optimizer.momentum,
                "weight_decay": optimizer.weight_decay,
                "clip_norm": optimizer.global_clipnorm,
                "schedule": schedule.kind,
                "learning_rate": schedule.learning_rate,
                "warm_up": schedule.warmup_updates,
                "updates": schedule.total_updates,
                "batch_size": recipe.batch.examples,
                "accumulate": accumulation(recipe),
                "summed_loss": True,
                "augment": "crop",
            }
        )

    def check(self, settings: Settings) -> None:
        if settings.epochs and settings.updates and not settings.recipe:
            raise InputError("Give --epochs or --updates, not both.")
        if settings.recipe and not settings.data:
            raise InputError("--recipe needs --data DIR, where its dataset is.")
        if not settings.data and (settings.tfds or settings.format != "auto"):
            raise InputError("--format and --tfds need --data DIR.")
        if settings.preset and settings.model != "vit":
            raise InputError("--preset is for --model vit.")
        rates = [settings.dropout]
        if settings.model == "vit":
            rates.append(settings.attention_dropout)
        arms = getattr(settings, "arms", (settings.arm,))
        twice = [arm for arm in arms if arm in TWO_PASSES]
        if twice and not any(rates):
            raise InputError(
                f"--dropout {settings.dropout:g}: expected more than 0 for "
                f"{' and '.join(twice)}, got two passes that are the same."
            )

    def load(self, settings: Settings) -> Dataset:
        side = settings.image_size
        if settings.preset:
            side = check_side(settings.preset, side)
        if settings.data is None:
            data = load_digits(settings.train_images or TRAIN_DIGITS)
        else:
            data = load_directory(
                settings.data,
                settings.format,
                side,
                settings.train_images,
                settings.tfds,
            )
        *sides, channels = data.image_shape
        if settings.preset and channels != 3:
            raise InputError(
                f"--preset {settings.preset}: expected images in colour, got "
                f"{channels} channel. Give --data."
            )
        if settings.model == "vit" and not settings.preset:
            patch_size_of([side, side] if side else sides, settings.size)
        return data

    def begin(self, data: Dataset, settings: Settings) -> ImageRun:
        return ImageRun(data, settings)

    def title(self, data: Dataset, settings: Settings) -> str:
        return (
            f"{data.name}, alpha {settings.alpha:g}, dropout "
            f"{settings.dropout:g}"
        )

    def measures(self, data: Dataset) -> list[Measure]:
        return [
            Measure("valid", "accuracy", "validation, %", scale=100),
            Measure("test", "accuracy", "test, %", scale=100),
            Measure("test", "loss", "test loss", digits=3),
            Measure("test", "calibration_error", "calibration, %", scale=100),
        ]

    def report(self, metrics: dict[str, Any]) -> str:
        return "\n".join(
            f"{part}: accuracy {100 * metrics[part]['accuracy']:.2f} %, loss "
            f"{metrics[part]['loss']:.3f}, calibration error "
            f"{100 * metrics[part]['calibration_error']:.2f} %"
            for part in ("valid", "test")
        )

    def samples(
        self, data: Dataset, output: Path
    ) -> tuple[list[str], list[str]]:
        directory = output / "demo"
        directory.mkdir(exist_ok=True)
        indices = np.arange(min(DEMO_IMAGES, len(data.test)))
        files = []
        for index, image in zip(indices, data.test.images[indices]):
            name = data.classes[data.test.labels[index]].replace("/", "_")
            files.append(str(directory / f"{index}-{name}.png"))
            keras.utils.save_img(files[-1], image, scale=False)
        return files, []

    def compared(
        self,
        data: Dataset,
        settings: Settings,
        runs: dict[tuple[str, int], Path],
    ) -> None:
        _, seed = next(iter(runs))
        predicted = []
        for (arm, each), directory in runs.items():
            if each == seed:
                with np.load(directory / LOGITS) as arrays:
                    predicted.append((arm, probabilities_of(arrays["logits"])))
        title = f"{self.title(data, settings)}, seed {seed}"
        _draw(predicted, data, title, settings.output)


def build(
    image_shape: tuple[int, ...], num_classes: int, settings: Settings
) -> keras.Model:
    """Returns the classifier of these settings.

    Args:
        image_shape: Height, width and channels of the images.
        num_classes: The number of classes.
        settings: The settings.
    """
    if settings.model == "resnet":
        return resnet(
            image_shape,
            num_classes,
            settings.blocks,
            settings.dropout,
            settings.image_size,
        )
    rates = settings.dropout, settings.attention_dropout
    if settings.preset is None:
        return vit(
            image_shape, num_classes, settings.size, *rates, settings.image_size
        )
    return pretrained_vit(
        settings.preset, image_shape, num_classes, *rates, settings.image_size
    )


def compile_classifier(
    classifier: keras.Model, settings: Settings, updates: int
) -> None:
    """Compiles a classifier for a number of optimizer updates."""
    classifier.compile(
        optimizer_of(settings, updates),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        rdrop=_rdrop_of(settings, updates),
        jit_compile=is_compiled(),
    )


def optimizer_of(
    settings: Settings, updates: int
) -> keras.optimizers.Optimizer:
    """Returns a new optimizer for a number of updates."""
    # The gradient of a mean over two passes is half that of their sum.
    twice = settings.summed_loss and settings.arm in TWO_PASSES
    times = 2.0 if twice else 1.0
    # Adam divides by the size of the gradient.
    rate = _rate(settings, updates, times if settings.optimizer == "sgd" else 1)
    options: dict[str, Any] = {}
    if settings.clip_norm:
        options["global_clipnorm"] = settings.clip_norm / times
    if settings.accumulate > 1:
        options["gradient_accumulation_steps"] = settings.accumulate
        # Keras tells a schedule the number of batches.
        rate = PerUpdate(rate, settings.accumulate)
    if settings.optimizer == "sgd":
        return keras.optimizers.SGD(
            rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay / times or None,
            **options,
        )
    optimizer = keras.optimizers.AdamW(
        rate, weight_decay=settings.weight_decay, **options
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def alpha_of(settings: Settings, updates: int) -> float | Schedule:
    """Returns alpha: a number, or a schedule like the learning rate's."""
    if not settings.decay_alpha:
        return settings.alpha
    rate = _rate(settings, updates, 1)
    return ProportionalAlpha(settings.alpha, rate, settings.highest_rate)


def _rate(settings: Settings, updates: int, times: float) -> Schedule:
    highest = settings.highest_rate * times
    return learning_rate(settings.schedule, highest, updates, settings.warm_up)


def _rdrop_of(settings: Settings, updates: int) -> RDrop | None:
    options = {"divergence": "categorical"}
    if settings.model == "resnet":
        # Batch normalization comes before the only dropout, in the part that
        # runs once.
        options |= {
            "moving_statistics": "first_pass",
            "passes": "shared_prefix",
        }
    return rdrop_of(settings.arm, alpha_of(settings, updates), **options)


def _rows(part: Part) -> Rows:
    return Rows(part.images, part.labels)


def _draw(
    predicted: list[tuple[str, np.ndarray]],
    data: Dataset,
    title: str,
    output: Path,
) -> None:
    labels = data.test.labels
    plot_reliability(predicted, labels, title, output / RELIABILITY)
    ends = predicted if len(predicted) == 1 else [predicted[0], predicted[-1]]
    plot_predictions(ends, data, title, output / PREDICTIONS)


TASK = ImageClassification()
