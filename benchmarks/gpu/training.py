"""One training run of the translation study."""

from __future__ import annotations

import time
from dataclasses import asdict
from dataclasses import replace
from typing import Any

import keras

from benchmarks.gpu.cell import Cell
from benchmarks.gpu.corpus import Prepared
from rdrop_keras.losses import LabelSmoothedCrossentropy
from rdrop_keras.recipes import InverseSquareRoot
from reproduce.common.arms import batches_of
from reproduce.common.devices import is_compiled
from reproduce.data.batching import Batching
from reproduce.data.parallel_text import ParallelText
from reproduce.data.subwords import encode_pairs
from reproduce.decoding.translator import Decoding
from reproduce.decoding.translator import Translator
from reproduce.models.translation import Transformer
from reproduce.schedules import optimizer_of
from reproduce.scores.bleu import Scores
from reproduce.scores.bleu import score

# The number of sentences that are translated at a time.
SENTENCES = 256


class OutOfTime(Exception):
    """A run would not end before its deadline."""


class Training:
    """A model that trains on a prepared corpus.

    Args:
        prepared: The corpus.
        cell: The settings of the run.
    """

    def __init__(self, prepared: Prepared, cell: Cell):
        keras.utils.clear_session()
        keras.utils.set_random_seed(cell.seed)
        self.prepared, self.cell = prepared, cell
        self.pairs = prepared.first(cell.pairs)
        self.batching = Batching.of(
            self.pairs, cell.max_tokens, buckets=cell.buckets, full_batches=True
        )
        steps = self.batching.steps_per_epoch(self.pairs)
        self.epochs = max(round(cell.updates / steps), 1)
        self.updates = self.epochs * steps
        self.model = self._compiled()
        self.valid = self._evaluation(prepared.texts["valid"])
        self.test = self._evaluation(prepared.texts["test"])

    def run(self, deadline: float | None = None) -> dict[str, Any]:
        """Trains the model, and translates the test part with the weights of
        the best validation BLEU.

        Args:
            deadline: The value of `time.monotonic()` at which the run must have
                ended. None sets no limit.

        Returns:
            The record of the run: its settings, the curve of its validations
            and the final scores.

        Raises:
            OutOfTime: If the run would not end in time.
        """
        cell, started = self.cell, time.monotonic()
        epoch = 0
        batches = batches_of(
            cell.arm,
            self.batching.training_batches(
                self.pairs, cell.seed, lambda: epoch
            ),
        )
        greedy = self._translator(beam_size=1)
        curve: list[dict[str, Any]] = []
        best, weights, trained = -1.0, None, 0.0
        every = max(round(self.epochs / cell.validations), 1)
        for epoch in range(self.epochs):
            began = time.monotonic()
            history = self.model.fit(
                batches, initial_epoch=epoch, epochs=epoch + 1, verbose=0
            )
            trained += time.monotonic() - began
            if (epoch + 1) % every == 0 or epoch + 1 == self.epochs:
                losses = self._losses(self.valid)
                found = self._score(greedy, "valid")
                curve.append(
                    {
                        "epoch": epoch + 1,
                        "updates": self.updates * (epoch + 1) // self.epochs,
                        "train_seconds": round(trained, 2),
                        **{k: v[0] for k, v in history.history.items()},
                        **{f"val_{k}": v for k, v in losses.items()},
                        "val_bleu": found.bleu,
                        "val_chrf": found.chrf,
                    }
                )
                print(f"  {_line(curve[-1])}", flush=True)
                if found.bleu > best:
                    best, weights = found.bleu, self.model.get_weights()
            self._check_time(started, deadline, epoch + 1)
        self.model.set_weights(weights)
        return {
            "settings": cell.settings() | {"seed": cell.seed},
            "corpus": self.prepared.facts
            | {"name": self.prepared.name, "used": len(self.pairs)},
            "parameters": self.model.count_params(),
            "epochs": self.epochs,
            "updates": self.updates,
            "curve": curve,
            "valid": self._final("valid", self.valid),
            "test": self._final("test", self.test),
            "train_seconds": round(trained, 2),
            "seconds": round(time.monotonic() - started, 2),
        }

    def _compiled(self) -> Transformer:
        cell = self.cell
        model = Transformer(
            vocabulary_size=self.prepared.subwords.vocabulary_size,
            dtype=cell.dtype,
            **asdict(cell.sizes),
        )
        model.compile(
            optimizer_of(
                "adam",
                InverseSquareRoot(cell.learning_rate, cell.warm_up, 1e-7),
                beta_2=0.98,
                epsilon=1e-9,
            ),
            LabelSmoothedCrossentropy(cell.label_smoothing),
            metrics=["accuracy"],
            rdrop=cell.rdrop,
            jit_compile=is_compiled(),
        )
        return model

    def _evaluation(self, text: ParallelText) -> keras.utils.PyDataset:
        subwords = self.prepared.subwords
        pairs = encode_pairs(text, subwords, subwords)
        batching = self.batching.reaching(int(pairs.lengths.max()))
        return batching.evaluation_batches(pairs)

    def _losses(self, batches: keras.utils.PyDataset) -> dict[str, float]:
        return self.model.evaluate(batches, verbose=0, return_dict=True)

    def _translator(self, **decoding: Any) -> Translator:
        subwords = self.prepared.subwords
        settings = replace(Decoding(), **decoding)
        found = Translator(self.model, subwords, subwords, settings)
        # XLA compiles a search for each length.
        found.multiple = self.batching.boundaries[-1] // self.cell.buckets
        found.batch_size = SENTENCES
        return found

    def _score(self, translator: Translator, part: str) -> Scores:
        text = self.prepared.texts[part]
        language = self.prepared.facts["target_language"]
        return score(translator.generate(text.sources), text.targets, language)

    def _final(
        self, part: str, batches: keras.utils.PyDataset
    ) -> dict[str, Any]:
        return self._losses(batches) | asdict(
            self._score(self._translator(), part)
        )

    def _check_time(
        self, started: float, deadline: float | None, epochs: int
    ) -> None:
        """Raises `OutOfTime` if the rest at the present speed is too long."""
        now = time.monotonic()
        # Beam search on both parts takes about as long as an epoch.
        left = (now - started) / epochs * (self.epochs - epochs + 1)
        if deadline is not None and now + left > deadline:
            raise OutOfTime(
                f"{left / 60:.1f} minutes more are needed, "
                f"{(deadline - now) / 60:.1f} are left"
            )


def _line(point: dict[str, Any]) -> str:
    wanted = ("updates", "train_seconds", "loss", "val_loss", "val_bleu")
    return ", ".join(f"{name} {point[name]:.6g}" for name in wanted)
