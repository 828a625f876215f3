"""
Title: Image classification with a Vision Transformer and R-Drop
Description: Train a small ViT on 200 handwritten digits, plain and with R-Drop.
Runtime: about two minutes on two CPU cores; no download.
"""

"""
## Introduction

[R-Drop](https://arxiv.org/abs/2106.14448) runs every training batch through the
network twice. Dropout makes the two predictions differ, and the loss gets one
more term: the KL divergence between them. Inference does not change.

This example trains a Vision Transformer on few images, where over-fitting is
the problem to solve, and compares plain training with R-Drop.
"""

import os
import pathlib

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from keras import layers
from sklearn.datasets import load_digits

from rdrop_keras import RDropModel

EPOCHS = int(os.environ.get("EPOCHS", 40))
OUTPUT = pathlib.Path(os.environ.get("OUTPUT", "runs/vision_transformer"))

"""
## The data

scikit-learn carries 1,797 images of handwritten digits, 8x8 pixels with values
from 0 to 16. We train on 200 of them and validate on 400. The other 1,197 are
the test set.
"""

digits = load_digits()
images = digits.images[..., None].astype("uint8")
labels = digits.target
order = np.random.default_rng(0).permutation(len(images))
train, valid, test = np.split(order, [200, 600])

"""
## The model

A functional ViT: patches of 2x2 pixels, position embeddings, two encoder
blocks. It takes raw pixels, because the rescaling is a layer of the model.

R-Drop needs dropout layers in the model and nothing else. The only change is
`RDropModel` in place of `keras.Model`.
"""

WIDTH, HEADS, BLOCKS, DROPOUT = 48, 4, 2, 0.1


class PositionEmbedding(layers.Layer):
    def build(self, input_shape):
        self.table = self.add_weight(
            shape=input_shape[1:], initializer="normal"
        )

    def call(self, patches):
        return patches + self.table


def build_vit():
    inputs = keras.Input((8, 8, 1), dtype="uint8")
    x = layers.Rescaling(1 / 16)(inputs)
    x = layers.Conv2D(WIDTH, kernel_size=2, strides=2)(x)
    x = layers.Reshape((16, WIDTH))(x)
    x = layers.Dropout(DROPOUT)(PositionEmbedding()(x))
    for _ in range(BLOCKS):
        y = layers.LayerNormalization()(x)
        y = layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(y, y)
        x = x + layers.Dropout(DROPOUT)(y)
        y = layers.LayerNormalization()(x)
        y = layers.Dense(2 * WIDTH, activation="gelu")(y)
        x = x + layers.Dropout(DROPOUT)(layers.Dense(WIDTH)(y))
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return RDropModel(inputs, layers.Dense(10)(x))


"""
## Training

`compile` takes one more argument than Keras's own. `rdrop=None` is plain Keras
training, one pass per batch. `rdrop=1.0` is R-Drop with the paper's alpha of 1.

`fit` then also logs `task_loss`, the cross-entropy alone, and
`consistency_loss`, the divergence between the two passes in nats. The
predictions of the two passes agree more and more as the latter falls.
"""


def train_vit(rdrop, seed):
    keras.utils.set_random_seed(seed)
    model = build_vit()
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        rdrop=rdrop,
    )
    name = "plain" if rdrop is None else "rdrop"
    history = model.fit(
        images[train],
        labels[train],
        validation_data=(images[valid], labels[valid]),
        epochs=EPOCHS,
        callbacks=[keras.callbacks.TensorBoard(OUTPUT / f"{name}_{seed}")],
        verbose=0,
    )
    return model, history.history


"""
200 images and one seed prove little, so we train three times each way. Both
ways see the same images in the same order and make equally many updates.
"""

SEEDS = range(1, 1 + int(os.environ.get("SEEDS", 3)))
histories = {"plain": [], "R-Drop": []}
accuracies = {"plain": [], "R-Drop": []}
for seed in SEEDS:
    for name, rdrop in (("plain", None), ("R-Drop", 1.0)):
        model, history = train_vit(rdrop, seed)
        histories[name].append(history)
        loss, accuracy = model.evaluate(images[test], labels[test], verbose=0)
        accuracies[name].append(accuracy)

print(
    "test accuracy, % "
    + "".join(f"  seed {seed}" for seed in SEEDS)
    + "   mean"
)
for name, values in accuracies.items():
    row = "".join(f"{100 * value:8.1f}" for value in [*values, np.mean(values)])
    print(f"{name:17}{row}")

"""
## The curves

The loss shows over-fitting first: that of plain training stops falling earlier.
"""

figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for axis, key in zip(axes, ("val_loss", "val_accuracy")):
    for name, runs in histories.items():
        curves = np.array([run[key] for run in runs])
        axis.plot(range(1, EPOCHS + 1), curves.mean(0), label=name)
        axis.fill_between(
            range(1, EPOCHS + 1), curves.min(0), curves.max(0), alpha=0.2
        )
    axis.set(xlabel="epoch", title=key)
    axis.legend()
figure.savefig(OUTPUT / "curves.png", dpi=80)

"""
## Serving

`export` writes a SavedModel of the inference path. It knows nothing of R-Drop,
runs where neither this package nor Keras is installed, and takes raw pixels.
"""

model.export(OUTPUT / "saved_model", verbose=False)

served = tf.saved_model.load(OUTPUT / "saved_model")
probabilities = tf.nn.softmax(served.serve(images[test][:1]))[0]
digit = int(tf.argmax(probabilities))
print(
    f"The SavedModel reads a {digit} (probability {probabilities[digit]:.2f}); "
    f"it is a {labels[test][0]}."
)
