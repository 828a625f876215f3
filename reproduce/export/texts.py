"""SavedModels that take texts and generate texts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import tensorflow as tf

from reproduce.data.special_ids import EOS
from reproduce.data.special_ids import PAD
from reproduce.decoding.generator import Generator
from reproduce.decoding.generator import generate
from reproduce.decoding.text_to_text import TextToText
from reproduce.export import export_functions
from reproduce.export.tokenizers import generated_texts
from reproduce.export.tokenizers import graph_of
from reproduce.export.tokenizers import text_ids
from reproduce.scores.perplexity import token_log_probabilities

TEXTS = tf.TensorSpec([None], tf.string, "texts")
SAMPLING = (
    tf.TensorSpec([], tf.int32, "new_tokens"),
    tf.TensorSpec([], tf.float32, "temperature"),
    tf.TensorSpec([], tf.int32, "top_k"),
    tf.TensorSpec([], tf.float32, "top_p"),
    tf.TensorSpec([], tf.int32, "seed"),
)


def export_text_to_text(generator: TextToText, path: Path) -> None:
    """Writes a SavedModel; see `TextToText.save`."""
    source, target = graph_of(generator.source), graph_of(generator.target)
    pad, _, end = generator.source.special

    def serve(texts):
        ids = text_ids(source, texts, generator.begin, generator.longest, end)
        found = generator.search(ids.to_tensor(pad))
        special, bos = generator.target.special, generator.target.bos
        found_texts = generated_texts(target, found.ids[:, 0], special, bos)
        return {generator.output: found_texts, "score": found.scores[:, 0]}

    resources = [generator.model, source.resource, target.resource]
    export_functions(path, {"serve": (serve, [TEXTS])}, resources)


def export_generator(generator: Generator, path: Path) -> None:
    """Writes a SavedModel; see `Generator.save`."""
    model, graph = generator.model, graph_of(generator.vocabulary)
    sampling = asdict(generator.sampling)
    context = sampling.pop("context")

    def generate_texts(texts, new_tokens, temperature, top_k, top_p, seed):
        ids, lengths = prompt_ids(graph, texts, context)
        # What `keras.random.uniform` draws with the same seed.
        uniform = tf.random.stateless_uniform(
            [tf.shape(ids)[0], new_tokens], [seed, 0]
        )
        found = generate(
            model, ids, lengths, uniform, temperature, top_k, top_p
        )
        return {
            "text": text_of(graph, found.ids),
            "log_probability": tf.reduce_sum(found.log_probabilities, axis=-1),
        }

    def serve(texts):
        return generate_texts(texts, **sampling)

    def score(texts):
        ids, lengths = prompt_ids(graph, texts)
        inputs, labels, lengths = ids[:, :-1], ids[:, 1:], lengths - 1
        hidden = model.hidden_states(inputs, training=False)
        found = token_log_probabilities(model, hidden, labels)
        counted = tf.sequence_mask(lengths, tf.shape(labels)[1])
        return {
            "tokens": tf.where(counted, graph.pieces(labels), ""),
            "log_probabilities": tf.where(counted, found, 0.0),
            "lengths": lengths,
        }

    functions = {
        "serve": (serve, [TEXTS]),
        "generate": (generate_texts, [TEXTS, *SAMPLING]),
        "score": (score, [TEXTS]),
    }
    export_functions(path, functions, [model, graph])


def prompt_ids(
    graph: Any, texts: tf.Tensor, limit: int | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the same as `reproduce.data.vocabulary.prompt_ids`."""
    lines = tf.strings.split(texts, "\n")
    ids = graph.tokenize(lines)
    ends = tf.fill([ids.values.nrows(), 1], EOS)
    ended = tf.concat([ends, ids.values], axis=1)
    merged = ids.with_values(ended).merge_dims(1, 2)
    if limit is not None:
        merged = merged[:, -limit:]
    return merged.to_tensor(PAD), tf.cast(merged.row_lengths(), tf.int32)


def text_of(graph: Any, ids: tf.Tensor) -> tf.Tensor:
    """Returns the text of each row, with a line feed for each `EOS`."""

    def one(ids):
        is_end = ids == EOS
        line = tf.cumsum(tf.cast(is_end, tf.int32))
        lines = tf.RaggedTensor.from_value_rowids(
            tf.boolean_mask(ids, ~is_end),
            tf.boolean_mask(line, ~is_end),
            nrows=tf.reduce_max(tf.concat([[0], line], 0)) + 1,
        )
        return tf.strings.reduce_join(graph.detokenize(lines), separator="\n")

    return tf.map_fn(one, ids, fn_output_signature=tf.TensorSpec([], tf.string))
