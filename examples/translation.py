"""
Title: Translation with a Transformer and R-Drop
Description: Train an English-German Transformer, plain and with R-Drop.
Runtime: about three minutes on two CPU cores; no download.
"""

"""
## Introduction

[R-Drop](https://arxiv.org/abs/2106.14448) runs every training batch through the
network twice. Dropout makes the two predictions differ, and the loss gets one
more term: the KL divergence between them. Inference does not change.

Translation is where the paper gains most. This example trains a small
Transformer, plain and with R-Drop, and exports it from strings to strings.
"""

import datetime
import os
import pathlib
import random

import babel
import keras
import keras_hub
import matplotlib.pyplot as plt
import sacrebleu
import tensorflow as tf
from babel.dates import format_date
from babel.lists import format_list
from keras.losses import SparseCategoricalCrossentropy
from keras_hub import layers

from rdrop_keras import RDropModel

EPOCHS = int(os.environ.get("EPOCHS", 25))
OUTPUT = pathlib.Path(os.environ.get("OUTPUT", "runs/translation"))

"""
## The data

Babel carries the Unicode CLDR: how languages write dates and lists. We draw
phrases at random; the same seed draws the same phrase in every language.
"""

PLACES = sorted(filter(str.isalpha, babel.Locale("en").territories))[:200:4]


def write_phrase(seed, language):
    draw = random.Random(seed)
    locale = babel.Locale.parse(language)
    if draw.random() < 0.5:
        day = datetime.date.fromordinal(draw.randrange(730_000, 740_000))
        return format_date(day, draw.choice(["full", "long"]), locale=locale)
    chosen = draw.sample(PLACES, draw.randrange(2, 5))
    names = [locale.territories[code] for code in chosen]
    return format_list(names, draw.choice(["standard", "or"]), locale=locale)


pairs = [(write_phrase(i, "en"), write_phrase(i, "de")) for i in range(1200)]
pairs = list(dict(pairs).items())  # each source once
train, valid, test = pairs[:500], pairs[500:700], pairs[700:1000]

"""
One SentencePiece vocabulary serves both languages. The tokenizer runs in
TensorFlow, so it goes into the SavedModel later.
"""

PAD, START, END = 0, 2, 3  # as `compute_sentence_piece_proto` numbers them
LENGTH, VOCABULARY = 32, 240

proto = keras_hub.tokenizers.compute_sentence_piece_proto(
    tf.data.Dataset.from_tensor_slices(list(sum(train, ()))), VOCABULARY
)


def build_tokenizer():
    return keras_hub.tokenizers.SentencePieceTokenizer(
        proto, sequence_length=LENGTH, add_bos=True, add_eos=True
    )


def make_data(pairs):
    tokenizer = build_tokenizer()
    source_ids, target_ids = (tokenizer(list(texts)) for texts in zip(*pairs))
    return (source_ids, target_ids[:, :-1]), target_ids[:, 1:]


train_data, valid_data = make_data(train), make_data(valid)

"""
## The model

A functional encoder-decoder. R-Drop needs dropout layers in the model and
nothing else. The only change is `RDropModel` in place of `keras.Model`.
"""

WIDTH, HEADS, LAYERS, DROPOUT = 64, 4, 2, 0.1


def build_transformer():
    source = keras.Input((None,), dtype="int32")
    target = keras.Input((None,), dtype="int32")
    is_word = keras.ops.not_equal(source, PAD)
    x = layers.TokenAndPositionEmbedding(VOCABULARY, LENGTH, WIDTH)(source)
    for _ in range(LAYERS):
        encoder = layers.TransformerEncoder(2 * WIDTH, HEADS, DROPOUT)
        x = encoder(x, padding_mask=is_word)
    y = layers.TokenAndPositionEmbedding(VOCABULARY, LENGTH, WIDTH)(target)
    for _ in range(LAYERS):
        decoder = layers.TransformerDecoder(2 * WIDTH, HEADS, DROPOUT)
        y = decoder(y, x, encoder_padding_mask=is_word)
    return RDropModel([source, target], keras.layers.Dense(VOCABULARY)(y))


"""
## Training

`compile` takes one more argument than Keras's own: `rdrop`, the paper's alpha,
or None for plain Keras training. `ignore_class` drops padding from both terms
of the loss. `fit` logs two more values: `task_loss`, and `consistency_loss`,
the divergence between the two passes.
"""


def train_transformer(rdrop):
    keras.utils.set_random_seed(1)
    model = build_transformer()
    model.compile(
        optimizer=keras.optimizers.Adam(2e-3, clipnorm=1.0),
        loss=SparseCategoricalCrossentropy(from_logits=True, ignore_class=PAD),
        rdrop=rdrop,
    )
    stop = keras.callbacks.EarlyStopping(patience=8, restore_best_weights=True)
    history = model.fit(
        *train_data,
        validation_data=valid_data,
        epochs=EPOCHS,
        callbacks=[stop],
        verbose=2,
    )
    return model, history.history["val_loss"]


"""
## Serving

The SavedModel takes and returns strings, and needs no Keras to run.
"""


def export(model, path):
    # A new one, since `set_random_seed` drops the resources of those before.
    tokenizer = build_tokenizer()
    tokenizer.build(None)  # only layers that are built can be exported

    def translate(texts):
        source_ids = tokenizer(texts)
        first = tf.zeros_like(source_ids[:, 0])
        prompt = START * tf.one_hot(first, LENGTH - 1, dtype=tf.int32)

        def next_token(prompt, cache, index):
            return model([source_ids, prompt])[:, index - 1], None, cache

        decode = keras_hub.samplers.GreedySampler()
        ids = decode(next_token, prompt, index=1, stop_token_ids=[END])
        ended = tf.cumsum(tf.cast(ids == END, tf.int32), axis=1) > 0
        return tokenizer.detokenize(tf.where(ended, PAD, ids))

    archive = keras.export.ExportArchive()
    strings = tf.TensorSpec([None], tf.string)
    archive.add_endpoint("translate", translate, [strings])
    archive.track(tokenizer)
    archive.write_out(path, verbose=False)
    return tf.saved_model.load(path)


"""
## Results

We score what is served: by BLEU, and by the share of exact translations.
"""

sources, targets = map(list, zip(*test))
figure, axis = plt.subplots(figsize=(5, 3), layout="constrained")
rows = [f"{'':8}{'best val_loss':>16}{'test BLEU':>12}{'exact, %':>12}"]
for name, rdrop in (("plain", None), ("R-Drop", 5.0)):
    model, losses = train_transformer(rdrop)
    served = export(model, OUTPUT / name)
    found = [text.decode() for text in served.translate(sources).numpy()]
    bleu = sacrebleu.corpus_bleu(found, [targets]).score
    exact = 100 * sum(map(str.__eq__, found, targets)) / len(targets)
    rows.append(f"{name:8}{min(losses):16.3f}{bleu:12.1f}{exact:12.1f}")
    axis.plot(range(1, len(losses) + 1), losses, label=name)
axis.set(xlabel="epoch", title="validation loss", yscale="log")
axis.legend()
figure.savefig(OUTPUT / "curves.png", dpi=80)

print(*rows, f"{sources[0]}  ->  {found[0]}", sep="\n")
