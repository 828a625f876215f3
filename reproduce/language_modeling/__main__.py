"""Language modelling with a Transformer, plain and with R-Drop."""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
from collections.abc import Iterable
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from reproduce.common import runs
from reproduce.common.compare import run_directory
from reproduce.common.errors import InputError
from reproduce.data.language_corpus import Corpus
from reproduce.data.language_corpus import LineFile
from reproduce.data.language_corpus import checked
from reproduce.data.language_corpus import load_files
from reproduce.data.language_corpus import load_wikitext
from reproduce.data.topics import load_topics
from reproduce.data.vocabulary import encode_lines
from reproduce.decoding.generator import Generator
from reproduce.decoding.generator import Sampling
from reproduce.language_modeling.compare import compare
from reproduce.language_modeling.flags import DEFAULTS
from reproduce.language_modeling.flags import RATES
from reproduce.language_modeling.flags import parse
from reproduce.language_modeling.settings import Settings
from reproduce.language_modeling.train import prepare
from reproduce.language_modeling.train import train
from reproduce.language_modeling.train import updates_per_epoch
from reproduce.models.language_sizes import CONFIGURATIONS
from reproduce.scores.perplexity import Measure
from reproduce.scores.perplexity import Perplexity

# By optimizer: what a tiny model reaches without a search.
LEARNING_RATES = {"adam": 2e-3, "nesterov": 0.1}
DEMO_PROMPTS = ("The statement", "A function is", "If the object")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status."""
    commands = {"train": _train, "evaluate": _evaluate, "generate": _generate}
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
    settings = _settings(flags)
    if flags.updates is not None:
        per_epoch = updates_per_epoch(
            prepare(corpus, settings).blocks, settings
        )
        epochs = -(-flags.updates // per_epoch)
        settings = dataclasses.replace(settings, epochs=epochs)
        print(f"{epochs} epochs of {per_epoch} updates")
    arms = flags.compare or (("plain", "rdrop") if flags.demo else None)
    if arms is None:
        metrics = train(corpus, settings, flags.output, flags.resume)
        for part in ("valid", "test"):
            if part in metrics:
                print(f"{part}: {_perplexity(metrics[part])}")
    else:
        # One seed shows the way; a result takes several.
        default = DEFAULTS.seeds[:1] if flags.demo else DEFAULTS.seeds
        seeds = flags.seeds or default
        compare(corpus, settings, arms, seeds, flags.output, flags.resume)
    print(f"written to {flags.output}")
    if flags.demo:
        _serve(run_directory(flags.output, arms[-1], seeds[0]))


def _evaluate(flags: argparse.Namespace) -> None:
    # First: it costs least to find out that it is not there.
    lines = _lines(flags)
    generator = Generator.load(flags.model)
    settings = runs.read_json(flags.model / runs.METRICS)["settings"]
    size, context = flags.block_size, flags.context_window
    size = settings["block_size"] if size is None else size
    context = settings["context_window"] if context is None else context
    if context >= size:
        raise InputError(
            f"--context-window {context}: expected less than the block size, "
            f"{size}."
        )
    measure = Measure(generator.model, size, context, flags.batch_size)
    stream = encode_lines(lines, generator.vocabulary)
    print(measure(stream))
    print(
        f"blocks of {size} tokens, {context} of them context; "
        f"{stream.unknown} unknown"
    )


def _generate(flags: argparse.Namespace) -> None:
    generator = Generator.load(
        flags.model,
        new_tokens=flags.new_tokens,
        temperature=flags.temperature,
        top_k=flags.top_k,
        top_p=flags.top_p,
        seed=flags.seed,
    )
    if flags.prompt:
        for prompt, text in zip(flags.prompt, generator.go_on(flags.prompt)):
            print(f"{prompt} [...] {text}")
        return
    # As they come, so that a pipe need not end to be answered.
    for line in sys.stdin:
        prompt = line.rstrip("\r\n")
        print(f"{prompt} [...] {generator.go_on([prompt])[0]}", flush=True)


def _lines(flags: argparse.Namespace) -> Iterable[str]:
    if flags.text:
        return checked(LineFile(flags.text))
    corpus = load_wikitext(flags.data) if flags.data else load_topics()
    return corpus.parts()[flags.part]


def _corpus(flags: argparse.Namespace) -> Corpus:
    if flags.train:
        return load_files(flags.train, flags.valid, flags.test)
    if flags.data:
        return load_wikitext(flags.data)
    return load_topics(flags.train_words)


def _settings(flags: argparse.Namespace) -> Settings:
    changes = {
        name: getattr(flags, name)
        for name in (*RATES, "cutoffs")
        if getattr(flags, name) is not None
    }
    configuration = dataclasses.replace(
        CONFIGURATIONS[flags.configuration], **changes
    )
    jit_compile = flags.jit_compile == "yes"
    if flags.jit_compile == "auto":
        jit_compile = bool(tf.config.list_physical_devices("GPU"))
    same = {field.name for field in dataclasses.fields(Settings)} - {
        "configuration",
        "jit_compile",
        "learning_rate",
        "sampling",
        "betas",
        "epsilon",
    }
    return Settings(
        configuration=configuration,
        jit_compile=jit_compile,
        learning_rate=flags.learning_rate or LEARNING_RATES[flags.optimizer],
        sampling=Sampling(
            new_tokens=flags.new_tokens,
            temperature=flags.temperature,
            top_k=flags.top_k,
            top_p=flags.top_p,
        ),
        **{name: getattr(flags, name) for name in same},
    )


def _perplexity(metrics: dict) -> Perplexity:
    return Perplexity(metrics["nats"], metrics["tokens"], metrics["words"])


def _serve(directory: Path) -> None:
    saved_model = directory / runs.SAVED_MODEL
    print(f"{saved_model}, in a process of its own:", flush=True)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "reproduce.language_modeling.serve",
            str(saved_model),
            *DEMO_PROMPTS,
        ],
        check=True,
    )


if __name__ == "__main__":
    sys.exit(main())
