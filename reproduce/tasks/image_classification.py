"""Image classification with a Vision Transformer or a residual network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from reproduce.common.arms import TWO_PASSES
from reproduce.common.comparison import Measure
from reproduce.common.curves import ACCURACY
from reproduce.common.errors import InputError
from reproduce.data.image_directory import load_directory
from reproduce.data.images import TRAIN_DIGITS
from reproduce.data.images import Dataset
from reproduce.data.images import load_digits
from reproduce.image_reports import draw
from reproduce.image_reports import probabilities_of
from reproduce.models import vit
from reproduce.task import Task
from reproduce.tasks.image_runs import LOGITS
from reproduce.tasks.image_runs import ImageRun
from reproduce.tasks.image_settings import Settings

# The images that `compare --demo` writes and classifies.
DEMO_IMAGES = 4


class ImageClassification(Task):
    """Classifies images."""

    name = "image_classification"
    settings = Settings
    score = ACCURACY
    packages = ("keras-hub",)

    def own_settings(self, recipe: Any) -> dict[str, Any]:
        model = recipe.model
        names = {size.layers: name for name, size in vit.SIZES.items()}
        return {
            "configuration": names[model.encoder_layers],
            "patch_size": model.patch_size,
            "image_size": model.image_size,
            "batch_size": recipe.batch.examples,
            "augment": "crop",
        }

    def check(self, settings: Settings) -> None:
        if settings.epochs and settings.updates and not settings.recipe:
            raise InputError("Give --epochs or --updates, not both.")
        if settings.recipe and not settings.data:
            raise InputError("--recipe needs --data DIR, where its dataset is.")
        if not settings.data and (settings.tfds or settings.format != "auto"):
            raise InputError("--format and --tfds need --data DIR.")
        if settings.preset and settings.model != "vit":
            raise InputError("--preset is for --model vit.")
        rate = settings.dropout
        if settings.model == "vit":
            rate = max(rate, settings.attention_dropout)
        arms = getattr(settings, "arms", (settings.arm,))
        twice = [arm for arm in arms if arm in TWO_PASSES]
        if twice and not rate:
            raise InputError(
                f"--dropout {settings.dropout:g}: expected more than 0 for "
                f"{' and '.join(twice)}, got two passes that are the same."
            )

    def load(self, settings: Settings) -> Dataset:
        side = settings.image_size
        if settings.preset:
            side = vit.check_side(settings.preset, side)
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
            vit.patch_size_of([side, side] if side else sides, settings.size)
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
        draw(predicted, data, title, settings.output)


TASK = ImageClassification()
