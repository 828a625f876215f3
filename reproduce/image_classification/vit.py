"""A Vision Transformer of plain Keras layers."""

from __future__ import annotations

from dataclasses import dataclass

import keras
from keras import layers

from rdrop_keras import RDropModel
from reproduce.common.errors import InputError


@dataclass(frozen=True)
class Size:
    """How large a Vision Transformer is.

    Attributes:
        layers: How many blocks.
        width: The size of an embedding.
        feed_forward: The size of the hidden layer of a block.
        heads: How many attention heads.
        patch_size: The side of a patch; None if it follows from the images.
    """

    layers: int
    width: int
    feed_forward: int
    heads: int
    patch_size: int | None


SIZES = {
    # Trains from scratch in seconds on two CPU cores.
    "tiny": Size(2, 48, 96, 4, None),
    "b_16": Size(12, 768, 3072, 12, 16),
    "l_16": Size(24, 1024, 4096, 16, 16),
}


@keras.saving.register_keras_serializable("rdrop_keras_examples")
class ClassToken(layers.Layer):
    """Puts a learned embedding before those of the patches."""

    def build(self, input_shape):
        self.token = self.add_weight(
            shape=(1, 1, input_shape[-1]), initializer="zeros", name="token"
        )

    def call(self, patches):
        batch = keras.ops.shape(patches)[0]
        token = keras.ops.repeat(self.token, batch, axis=0)
        token = keras.ops.cast(token, patches.dtype)
        return keras.ops.concatenate([token, patches], axis=1)


@keras.saving.register_keras_serializable("rdrop_keras_examples")
class PositionEmbedding(layers.Layer):
    """Adds a learned embedding for each position."""

    def build(self, input_shape):
        self.embeddings = self.add_weight(
            shape=(1, *input_shape[1:]),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="embeddings",
        )

    def call(self, tokens):
        return tokens + keras.ops.cast(self.embeddings, tokens.dtype)


def vit(
    image_shape: tuple[int, ...],
    num_classes: int,
    size: Size,
    dropout: float,
    attention_dropout: float = 0.0,
    image_size: int | None = None,
) -> RDropModel:
    """Returns a Vision Transformer with random weights.

    It takes images as they are, values from 0 to 255, and returns logits.

    Args:
        image_shape: Height, width and channels of the images.
        num_classes: How many classes there are.
        size: How large it is.
        dropout: The rate of all dropout layers.
        attention_dropout: The rate of dropout on attention weights.
        image_size: The side to which it resizes images; None leaves them.
    """
    inputs = layers.Input(image_shape, dtype="uint8", name="images")
    images = scaled(inputs, image_size)
    patch_size = patch_size_of(images.shape[1:3], size)
    x = layers.Conv2D(size.width, patch_size, patch_size, name="patches")(
        images
    )
    x = layers.Reshape((-1, size.width))(x)
    x = PositionEmbedding(name="positions")(ClassToken(name="class_token")(x))
    x = layers.Dropout(dropout)(x)
    for _ in range(size.layers):
        x = _block(x, size, dropout, attention_dropout)
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    logits = layers.Dense(num_classes, dtype="float32", name="logits")(x[:, 0])
    return RDropModel(inputs, logits, name="vit")


def patch_size_of(sides: tuple[int, ...], size: Size) -> int:
    """Returns the side of a patch of images of these sides.

    Raises:
        InputError: If patches of that size do not fill the images.
    """
    # Four patches a side of the smallest images, eight of others.
    fitting = max(max(sides) // (4 if max(sides) < 16 else 8), 1)
    patch_size = size.patch_size or fitting
    if any(side % patch_size for side in sides):
        raise InputError(
            "Expected images whose sides are multiples of the patch size "
            f"{patch_size}, got {sides[0]}x{sides[1]}. Give --image-size or "
            "--patch-size."
        )
    return patch_size


def scaled(
    images: keras.KerasTensor, image_size: int | None
) -> keras.KerasTensor:
    """Returns images with values from -1 to 1, of another size if asked."""
    images = layers.Rescaling(1 / 127.5, -1.0)(images)
    if image_size is None or images.shape[1:3] == (image_size, image_size):
        return images
    return layers.Resizing(image_size, image_size)(images)


def _block(
    x: keras.KerasTensor, size: Size, dropout: float, attention_dropout: float
) -> keras.KerasTensor:
    normed = layers.LayerNormalization(epsilon=1e-6)(x)
    attended = layers.MultiHeadAttention(
        size.heads, size.width // size.heads, dropout=attention_dropout
    )(normed, normed)
    x = layers.Add()([x, layers.Dropout(dropout)(attended)])
    hidden = layers.LayerNormalization(epsilon=1e-6)(x)
    hidden = layers.Dense(size.feed_forward, activation="gelu")(hidden)
    hidden = layers.Dense(size.width)(layers.Dropout(dropout)(hidden))
    return layers.Add()([x, layers.Dropout(dropout)(hidden)])
