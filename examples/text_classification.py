"""
Title: Text classification with BERT and R-Drop
Description: Train KerasHub's BERT on raw strings, plain and with R-Drop.
Runtime: about two to three minutes on two CPU cores; no download.
"""

"""
## Introduction

[R-Drop](https://arxiv.org/abs/2106.14448) runs every training batch through the
network twice. Dropout makes the two predictions differ, and the loss gets one
more term: the KL divergence between them. Inference does not change.

This example adds R-Drop to a KerasHub task. The task keeps all that it has:
raw strings as input, presets, `predict`. The data are names of countries,
languages and currencies, and the label is the language they are written in.
"""

import os
import pathlib
import random

import babel
import keras
import keras_hub
import matplotlib.pyplot as plt
import tensorflow as tf

from rdrop_keras import RDropMixin

EPOCHS = int(os.environ.get("EPOCHS", 30))
OUTPUT = pathlib.Path(os.environ.get("OUTPUT", "runs/text_classification"))

"""
## The data

Babel carries the Unicode CLDR, which names every country, language and currency
in every language. We hold out whole concepts: "Germany" is in the training set
or in the test set, in all languages, because "Alemania" gives "Alemanha" away.
Names that two languages share have no right answer and are left out.
"""

LANGUAGES = (
    "ca cs da de es fi fr hr hu it nl no pl pt ro sk sl sv tr vi".split()
)


def read_names():
    names = {}
    for label, code in enumerate(LANGUAGES):
        locale = babel.Locale.parse(code)
        for kind in ("territories", "languages", "currencies"):
            for concept, name in getattr(locale, kind).items():
                names.setdefault(name, []).append((concept, label))
    for name, meanings in names.items():
        if len(meanings) == 1:
            yield meanings[0][0], name, meanings[0][1]


examples = sorted(read_names())
concepts = sorted({concept for concept, _, _ in examples})
random.Random(0).shuffle(concepts)


def make_dataset(concepts, count):
    chosen = [row for row in examples if row[0] in set(concepts)]
    random.Random(0).shuffle(chosen)
    _, texts, labels = zip(*chosen[:count])
    return tf.data.Dataset.from_tensor_slices((list(texts), list(labels)))


half = len(concepts) // 2
train = make_dataset(concepts[:half], 1500)
valid = make_dataset(concepts[half : half + half // 3], 1000).batch(250)
test = make_dataset(concepts[half + half // 3 :], 3000).batch(250)

"""
## The model

`RDropMixin` goes before the class of the task. That is the only change. For a
pretrained model, write `RDropBert.from_preset("bert_base_en", num_classes=20)`.
Here we train a small BERT from scratch, with a vocabulary made of the training
texts.
"""


@keras.saving.register_keras_serializable("example")
class RDropBert(RDropMixin, keras_hub.models.BertTextClassifier):
    pass


WIDTH, HEADS, LAYERS, DROPOUT, LENGTH = 64, 4, 2, 0.1, 16

vocabulary = keras_hub.tokenizers.compute_word_piece_vocabulary(
    train.map(lambda text, label: text),
    vocabulary_size=800,
    lowercase=True,
    reserved_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
)


def build_bert():
    tokenizer = keras_hub.models.BertTokenizer(vocabulary, lowercase=True)
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=len(vocabulary),
        num_layers=LAYERS,
        num_heads=HEADS,
        hidden_dim=WIDTH,
        intermediate_dim=2 * WIDTH,
        dropout=DROPOUT,
        max_sequence_length=LENGTH,
    )
    model = RDropBert(
        backbone=backbone,
        preprocessor=keras_hub.models.BertTextClassifierPreprocessor(
            tokenizer, sequence_length=LENGTH
        ),
        num_classes=len(LANGUAGES),
        dropout=DROPOUT,
    )
    # BERT draws its weights for a width of 768. Smaller ones need larger
    # weights to learn at all.
    for weight in model.trainable_weights:
        if len(weight.shape) > 1 and "embedding" not in weight.path:
            weight.assign(weight * (768 / WIDTH) ** 0.5)
    return model


"""
## Training

`compile` takes one more argument than the task's own: `rdrop`, the paper's
alpha, or None for plain Keras training. `fit` logs two more values:
`task_loss`, and `consistency_loss`, the divergence between the two passes.
"""


def train_bert(rdrop):
    keras.utils.set_random_seed(1)
    model = build_bert()
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        rdrop=rdrop,
    )
    stop = keras.callbacks.EarlyStopping(
        "val_accuracy", patience=8, restore_best_weights=True
    )
    history = model.fit(
        train.shuffle(1500, seed=1).batch(32),
        validation_data=valid,
        epochs=EPOCHS,
        callbacks=[stop],
        verbose=2,
    )
    return model, history.history


"""
## Results
"""

OUTPUT.mkdir(parents=True, exist_ok=True)
figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
rows = [f"{'':8}{'test loss':>12}{'test accuracy, %':>18}{'epochs':>8}"]
for name, rdrop in (("plain", None), ("R-Drop", 2.0)):
    model, history = train_bert(rdrop)
    loss, accuracy = model.evaluate(test, verbose=0)
    epochs = range(1, len(history["loss"]) + 1)
    rows.append(f"{name:8}{loss:12.3f}{100 * accuracy:18.1f}{len(epochs):8}")
    for axis, key in zip(axes, ("val_loss", "val_accuracy")):
        axis.plot(epochs, history[key], label=name)
        axis.set(xlabel="epoch", title=key)
        axis.legend()
print(*rows, sep="\n")
figure.savefig(OUTPUT / "curves.png", dpi=80)

"""
## Serving

The SavedModel takes strings: the WordPiece tokenizer is part of its graph. It
knows nothing of R-Drop and runs where this package is not installed, nor Keras.
"""


def classify(texts):
    return tf.nn.softmax(model(model.preprocessor(texts)))


archive = keras.export.ExportArchive()
archive.track(model.preprocessor)
archive.add_endpoint("classify", classify, [tf.TensorSpec([None], tf.string)])
archive.write_out(OUTPUT / "saved_model", verbose=False)

served = tf.saved_model.load(OUTPUT / "saved_model")
texts = ["Nova Zelândia", "nowozelandzki", "új-zélandi dollár"]
for text, row in zip(texts, served.classify(tf.constant(texts)).numpy()):
    print(f"{text}: {LANGUAGES[row.argmax()]} ({row.max():.0%})")
