"""Summarization with BART, plain and with R-Drop."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from reproduce.common import runs
from reproduce.common.compare import run_directory
from reproduce.common.errors import InputError
from reproduce.common.serving import serve_samples
from reproduce.data.parallel_text import read_parallel
from reproduce.data.parallel_text import read_sentences
from reproduce.summarization.baselines import lead
from reproduce.summarization.baselines import names as names_of
from reproduce.summarization.compare import compare
from reproduce.summarization.corpus import Corpus
from reproduce.summarization.corpus import load_files
from reproduce.summarization.corpus import load_line_files
from reproduce.summarization.decoding import Decoding
from reproduce.summarization.docstrings import load_docstrings
from reproduce.summarization.flags import DEFAULTS
from reproduce.summarization.flags import parse
from reproduce.summarization.model import CONFIGURATIONS
from reproduce.summarization.scoring import score
from reproduce.summarization.settings import Settings
from reproduce.summarization.stories import is_stories
from reproduce.summarization.stories import load_stories
from reproduce.summarization.summarizer import Summarizer
from reproduce.summarization.tfds import load_tfds
from reproduce.summarization.train import PROGRAM
from reproduce.summarization.train import train
from reproduce.summarization.train import with_updates

# What a tiny model on a small vocabulary learns with.
LEARNING_RATE = 2e-3
DEMO_ARTICLES = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status."""
    commands = {"train": _train, "summarize": _summarize, "score": _score}
    try:
        flags = parse(arguments)
        commands[flags.command](flags)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _train(flags: argparse.Namespace) -> None:
    corpus = _corpus(flags)
    facts = corpus.facts()
    facts["skipped"] = sum(facts["skipped"].values())
    print(", ".join(f"{name}: {value}" for name, value in facts.items()))
    for part, report in corpus.reports.items():
        if report.skipped:
            print(f"{part}: {report}")
    _print_baselines(corpus)
    settings = _settings(flags)
    if flags.updates is not None:
        settings, per_epoch = with_updates(corpus, settings, flags.updates)
        print(f"{settings.epochs} epochs of {per_epoch} updates")
    arms = flags.compare or (("plain", "rdrop") if flags.demo else None)
    if arms is None:
        metrics = train(corpus, settings, flags.output, flags.resume)
        for part in ("valid", "test"):
            if part in metrics:
                print(f"{part}: {_in_words(metrics[part])}")
    else:
        # One seed shows the way; a result takes several.
        default = DEFAULTS.seeds[:1] if flags.demo else DEFAULTS.seeds
        seeds = flags.seeds or default
        compare(corpus, settings, arms, seeds, flags.output, flags.resume)
    print(f"written to {flags.output}")
    if flags.demo:
        shown = run_directory(flags.output, arms[-1], seeds[0])
        serve_samples(
            PROGRAM,
            shown / runs.SAVED_MODEL,
            corpus.test or corpus.valid,
            DEMO_ARTICLES,
        )


def _print_baselines(corpus: Corpus) -> None:
    part, text = "test", corpus.test
    if text is None:
        part, text = "valid", corpus.valid
    baselines = {
        "first sentence": lead(text.sources, 1),
        "first three sentences": lead(text.sources, 3),
    }
    if corpus.name == "docstrings":
        baselines["words of the name"] = names_of(text.sources)
    for name, summaries in baselines.items():
        scores = score(summaries, text.targets).values()
        print(f"{part}, {name}: {_in_words(scores)}")


def _in_words(scores: dict[str, Any]) -> str:
    return (
        f"ROUGE-1 {scores['rouge1']:.2f}, ROUGE-2 {scores['rouge2']:.2f}, "
        f"ROUGE-L {scores['rougeL']:.2f}"
    )


def _summarize(flags: argparse.Namespace) -> None:
    summarizer = _load(flags)
    if flags.source is not None:
        for summary in summarizer.summarize(read_sentences(flags.source)):
            print(summary)
        return
    # As they come, so that a pipe need not end to be answered.
    waiting: list[str] = []
    for line in sys.stdin:
        waiting.append(line.rstrip("\r\n"))
        if len(waiting) == summarizer.batch_size or sys.stdin.isatty():
            print("\n".join(summarizer.summarize(waiting)), flush=True)
            waiting = []
    if waiting:
        print("\n".join(summarizer.summarize(waiting)), flush=True)


def _score(flags: argparse.Namespace) -> None:
    text, _ = read_parallel(flags.source, flags.reference)
    summarizer = _load(flags)
    print(score(summarizer.summarize(text.sources), text.targets))


def _load(flags: argparse.Namespace) -> Summarizer:
    return Summarizer.load(
        flags.model,
        flags.decoding_batch,
        **{name: getattr(flags, name) for name in _decoding_names()},
    )


def _corpus(flags: argparse.Namespace) -> Corpus:
    if flags.train_source:
        return load_files(
            flags.train_source,
            flags.train_target,
            flags.valid_source,
            flags.valid_target,
            flags.test_source,
            flags.test_target,
        )
    if flags.tfds:
        return load_tfds(flags.tfds, flags.data)
    if flags.data:
        if not flags.data.is_dir():
            raise InputError(f"--data {flags.data}: not a directory.")
        load = load_stories if is_stories(flags.data) else load_line_files
        return load(flags.data)
    return load_docstrings(flags.train_pairs)


def _settings(flags: argparse.Namespace) -> Settings:
    configuration = CONFIGURATIONS[flags.configuration or "tiny"]
    if flags.dropout is not None:
        configuration = dataclasses.replace(
            configuration, dropout=flags.dropout
        )
    jit_compile = flags.jit_compile == "yes"
    if flags.jit_compile == "auto":
        # On a CPU it gains little and compiles every shape of batch.
        jit_compile = bool(tf.config.list_physical_devices("GPU"))
    same = {
        field.name: getattr(flags, field.name)
        for field in dataclasses.fields(Settings)
        if hasattr(flags, field.name)
    }
    return Settings(
        **same
        | {
            # Until `with_updates`, which knows how many batches there are.
            "updates": None,
            "configuration": configuration,
            "learning_rate": flags.learning_rate or LEARNING_RATE,
            "clip_norm": flags.clip_norm or None,
            "jit_compile": jit_compile,
            "decoding": Decoding(
                **{name: getattr(flags, name) for name in _decoding_names()}
            ),
        }
    )


def _decoding_names() -> list[str]:
    # A search goes on or stops as fairseq's does: there is no flag for that.
    names = [field.name for field in dataclasses.fields(Decoding)]
    return [name for name in names if name != "early_stopping"]


if __name__ == "__main__":
    sys.exit(main())
