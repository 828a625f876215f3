"""Machine translation with a Transformer, plain and with R-Drop."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence

import tensorflow as tf

from reproduce.common import runs
from reproduce.common.compare import run_directory
from reproduce.common.errors import InputError
from reproduce.common.serving import serve_samples
from reproduce.data.cldr import load_cldr
from reproduce.data.parallel_text import read_parallel
from reproduce.data.parallel_text import read_sentences
from reproduce.data.translation_corpus import Corpus
from reproduce.data.translation_corpus import load_files
from reproduce.data.translation_corpus import load_iwslt14
from reproduce.data.translation_corpus import load_tsv
from reproduce.decoding.translator import SENTENCES
from reproduce.decoding.translator import Decoding
from reproduce.decoding.translator import Translator
from reproduce.models.translation_sizes import CONFIGURATIONS
from reproduce.scores.bleu import score
from reproduce.translation.compare import compare
from reproduce.translation.flags import DEFAULTS
from reproduce.translation.flags import RATES
from reproduce.translation.flags import parse
from reproduce.translation.train import PROGRAM
from reproduce.translation.train import Settings
from reproduce.translation.train import train
from reproduce.translation.train import updates_per_epoch

# What a tiny model on a small vocabulary reaches without a search.
LEARNING_RATE = 2e-3
DEMO_SENTENCES = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status."""
    commands = {"train": _train, "translate": _translate, "score": _score}
    try:
        flags = parse(arguments)
        commands[flags.command](flags)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _train(flags: argparse.Namespace) -> None:
    corpus = _corpus(flags)
    print(", ".join(f"{k}: {v}" for k, v in corpus.facts().items()))
    if corpus.report.skipped:
        print(corpus.report)
    settings = _settings(flags)
    if flags.updates is not None:
        per_epoch = updates_per_epoch(corpus, settings)
        epochs = -(-flags.updates // per_epoch)
        settings = dataclasses.replace(settings, epochs=epochs)
        print(f"{epochs} epochs of {per_epoch} updates")
    arms = flags.compare or (("plain", "rdrop") if flags.demo else None)
    if arms is None:
        metrics = train(corpus, settings, flags.output, flags.resume)
        for part in ("valid", "test"):
            if part in metrics:
                bleu, chrf = metrics[part]["bleu"], metrics[part]["chrf"]
                print(f"{part}: BLEU {bleu:.2f}, chrF {chrf:.2f}")
        print(metrics["valid"]["bleu_signature"])
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
            DEMO_SENTENCES,
        )


def _translate(flags: argparse.Namespace) -> None:
    translator = _load(flags)
    if flags.source is not None:
        for translation in translator.translate(read_sentences(flags.source)):
            print(translation)
        return
    # As they come, so that a pipe need not end to be answered.
    waiting: list[str] = []
    for line in sys.stdin:
        waiting.append(line.rstrip("\r\n"))
        if len(waiting) == SENTENCES or sys.stdin.isatty():
            print("\n".join(translator.translate(waiting)), flush=True)
            waiting = []
    if waiting:
        print("\n".join(translator.translate(waiting)), flush=True)


def _score(flags: argparse.Namespace) -> None:
    text, _ = read_parallel(flags.source, flags.reference)
    translator = _load(flags)
    language = runs.read_json(flags.model / runs.METRICS)["data"][
        "target_language"
    ]
    translations = translator.translate(text.sources)
    print(score(translations, text.targets, language))


def _load(flags: argparse.Namespace) -> Translator:
    return Translator.load(
        flags.model,
        beam_size=flags.beam_size,
        length_penalty=flags.length_penalty,
    )


def _corpus(flags: argparse.Namespace) -> Corpus:
    languages = {
        "source_language": flags.source_language,
        "target_language": flags.target_language,
    }
    if flags.train_source:
        return load_files(
            flags.train_source,
            flags.train_target,
            flags.valid_source,
            flags.valid_target,
            flags.test_source,
            flags.test_target,
            **languages,
        )
    if flags.train_tsv:
        return load_tsv(
            flags.train_tsv, flags.valid_tsv, flags.test_tsv, **languages
        )
    if flags.data:
        return load_iwslt14(flags.data, **languages)
    return load_cldr(
        flags.target_language, flags.source_language, flags.train_pairs
    )


def _settings(flags: argparse.Namespace) -> Settings:
    rates = {
        name: getattr(flags, name)
        for name in RATES
        if getattr(flags, name) is not None
    }
    configuration = dataclasses.replace(
        CONFIGURATIONS[flags.configuration], **rates
    )
    jit_compile = flags.jit_compile == "yes"
    if flags.jit_compile == "auto":
        # On a CPU it gains little and compiles every shape of batch.
        jit_compile = bool(tf.config.list_physical_devices("GPU"))
    return Settings(
        arm=flags.arm,
        alpha=flags.alpha,
        seed=flags.seed,
        epochs=flags.epochs,
        configuration=configuration,
        vocabulary_size=flags.vocabulary_size,
        joint=not flags.separate_vocabularies,
        max_tokens=flags.max_tokens,
        max_length=flags.max_length,
        max_ratio=flags.max_ratio,
        accumulate=flags.accumulate,
        learning_rate=flags.learning_rate or LEARNING_RATE,
        warm_up=flags.warm_up,
        weight_decay=flags.weight_decay,
        label_smoothing=flags.label_smoothing,
        validate_every=flags.validate_every,
        patience=flags.patience,
        average=flags.average,
        mixed_precision=flags.mixed_precision,
        jit_compile=jit_compile,
        vocabulary_chunk=flags.vocabulary_chunk,
        decoding=Decoding(
            beam_size=flags.beam_size, length_penalty=flags.length_penalty
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
