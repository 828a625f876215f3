"""
Title: Language modeling with Llama and R-Drop
Description: Train KerasHub's Llama on a small corpus, plain and with R-Drop.
Runtime: about three minutes on two CPU cores; no download.
"""

"""
## Introduction

[R-Drop](https://arxiv.org/abs/2106.14448) runs every training batch through the
network twice. Dropout makes the two predictions differ, and the loss gets one
more term: the KL divergence between them. Inference does not change.

This example adds R-Drop to a KerasHub language model and trains it on 16,000
words, so few that it soon over-fits. The task keeps all that it has: raw
strings as input, presets, `generate`.
"""

import os
import pathlib
import random
import textwrap
from pydoc_data.topics import topics

import keras
import keras_hub
import matplotlib.pyplot as plt
import tensorflow as tf

from rdrop_keras import RDropMixin

EPOCHS = int(os.environ.get("EPOCHS", 16))
OUTPUT = pathlib.Path(os.environ.get("OUTPUT", "runs/language_modeling"))

"""
## The data

Every Python carries its language reference, which `help()` prints, in
`pydoc_data.topics`. We take its paragraphs of prose in pieces of at most 160
characters. Whole topics are held out. A paragraph that stands in several topics
counts only where it comes first, which is in the training set if anywhere.
"""

names = sorted(topics)
random.Random(0).shuffle(names)
seen = set()


def read_pieces(names):
    pieces = []
    for name in names:
        for paragraph in topics[name].split("\n\n"):
            is_prose = not paragraph.startswith((" ", "*", "-", "+", "|"))
            if is_prose and paragraph not in seen:
                seen.add(paragraph)
                pieces += textwrap.wrap(" ".join(paragraph.split()), 160)
    return pieces


test_start, valid_start = len(names) * 9 // 10, len(names) * 8 // 10
train = read_pieces(names[:valid_start])
valid = read_pieces(names[valid_start:test_start])
test = read_pieces(names[test_start:])
random.Random(0).shuffle(train)
train = tf.data.Dataset.from_tensor_slices(train[:700])
valid = tf.data.Dataset.from_tensor_slices(valid).batch(100)
test = tf.data.Dataset.from_tensor_slices(test).batch(100)

"""
## The model

`RDropMixin` goes before the class of the task. That is the only change. For a
pretrained model, write `RDropLlama.from_preset("llama3.2_1b")`, and turn its
dropout on, which R-Drop needs. Here we train a small Llama from scratch, with a
SentencePiece vocabulary made of the training set.
"""


@keras.saving.register_keras_serializable("example")
class RDropLlama(RDropMixin, keras_hub.models.LlamaCausalLM):
    pass


WIDTH, HEADS, LAYERS, DROPOUT, LENGTH = 96, 4, 2, 0.1, 64

proto = keras_hub.tokenizers.compute_sentence_piece_proto(
    train, vocabulary_size=1000
)


def build_llama():
    backbone = keras_hub.models.LlamaBackbone(
        vocabulary_size=1000,
        num_layers=LAYERS,
        num_query_heads=HEADS,
        num_key_value_heads=HEADS,
        hidden_dim=WIDTH,
        intermediate_dim=2 * WIDTH,
        dropout=DROPOUT,
    )
    preprocessor = keras_hub.models.LlamaCausalLMPreprocessor(
        keras_hub.models.LlamaTokenizer(proto), sequence_length=LENGTH
    )
    return RDropLlama(backbone=backbone, preprocessor=preprocessor)


"""
## Training

`compile` takes one more argument than the task's own: `rdrop`, the paper's
alpha, or None for plain Keras training. `fit` takes strings; the preprocessor
weights padding with 0, for both terms of the loss.

`fit` logs two more values: `task_loss`, and `consistency_loss`, the divergence
between the two passes. Callbacks work as they always do.
"""


def train_llama(rdrop):
    keras.utils.set_random_seed(1)
    model = build_llama()
    model.compile(
        optimizer=keras.optimizers.AdamW(2e-3, weight_decay=0.01),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=[
            keras_hub.metrics.Perplexity(from_logits=True, name="perplexity")
        ],
        sampler="greedy",
        rdrop=rdrop,
    )
    stop = keras.callbacks.EarlyStopping(
        "val_perplexity", mode="min", patience=3, restore_best_weights=True
    )
    history = model.fit(
        train.shuffle(700, seed=1).batch(16),
        validation_data=valid,
        epochs=EPOCHS,
        callbacks=[stop],
        verbose=2,
    )
    return model, history.history["val_perplexity"]


"""
## Results

Perplexity is by subword. Lower is better.
"""

OUTPUT.mkdir(parents=True, exist_ok=True)
figure, axis = plt.subplots(figsize=(5, 3), layout="constrained")
rows = [f"{'perplexity':12}{'best validation':>16}{'test':>8}{'epochs':>8}"]
for name, rdrop in (("plain", None), ("R-Drop", 1.0)):
    model, curve = train_llama(rdrop)
    logs = model.evaluate(test, return_dict=True, verbose=0)
    test_value, epochs = logs["perplexity"], len(curve)
    rows.append(f"{name:12}{min(curve):16.1f}{test_value:8.1f}{epochs:8}")
    axis.plot(range(1, epochs + 1), curve, label=name)
print(*rows, sep="\n")
axis.set(xlabel="epoch", title="validation perplexity", yscale="log")
axis.legend()
figure.savefig(OUTPUT / "curves.png", dpi=80)

"""
## Serving

`model.generate("...")` works as in KerasHub. Its steps are TensorFlow
graphs, so they go into a SavedModel that takes and returns strings. It runs
where neither this package nor Keras is installed.
"""


preprocessor, tokenizer = model.preprocessor, model.preprocessor.tokenizer


def generate(prompts):
    inputs = preprocessor.generate_preprocess(prompts)
    outputs = model.generate_step(inputs, [tokenizer.end_token_id])
    ids, mask = outputs["token_ids"], outputs["padding_mask"]
    return tokenizer.detokenize(tf.where(mask, ids, tokenizer.pad_token_id))


archive = keras.export.ExportArchive()
archive.track(preprocessor)
archive.add_endpoint("generate", generate, [tf.TensorSpec([None], tf.string)])
archive.write_out(OUTPUT / "saved_model", verbose=False)

served = tf.saved_model.load(OUTPUT / "saved_model")
for text in served.generate(["The value of", "If the object"]).numpy():
    print(textwrap.fill(text.decode(), 76))
