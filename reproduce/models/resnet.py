"""The residual network of He et al. 2016 for CIFAR.

KerasHub's ResNet has the stem and the shortcuts of the ImageNet models.
"""

from __future__ import annotations

import keras
from keras import layers

from rdrop_keras import RDropModel
from reproduce.models.vit import resized

WIDTHS = (16, 32, 64)


def resnet(
    image_shape: tuple[int, ...],
    num_classes: int,
    blocks: int,
    dropout: float,
    image_size: int | None = None,
) -> RDropModel:
    """Returns a residual network of 6n + 2 layers with random weights.

    The number n of blocks in a stage is 3 for ResNet-20. Images are those of
    `vit`. The network of He et al. has no dropout, which R-Drop needs. Here
    dropout precedes the last layer, so that both passes can share everything
    before it.
    """
    inputs = layers.Input(image_shape, dtype="uint8", name="images")
    sides = (image_size, image_size) if image_size else image_shape[:2]
    x = _convolution(resized(inputs, sides), WIDTHS[0])
    x = layers.ReLU()(layers.BatchNormalization()(x))
    for stage, width in enumerate(WIDTHS):
        for block in range(blocks):
            halved = stage > 0 and block == 0
            x = _block(x, width, strides=2 if halved else 1)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(dropout)(x)
    logits = layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return RDropModel(inputs, logits, name=f"resnet{6 * blocks + 2}")


def _block(x: keras.KerasTensor, width: int, strides: int) -> keras.KerasTensor:
    hidden = layers.BatchNormalization()(_convolution(x, width, strides))
    hidden = _convolution(layers.ReLU()(hidden), width)
    hidden = layers.BatchNormalization()(hidden)
    if x.shape[-1] != width:
        # Option A of the paper: subsampling, and zeros for new channels.
        x = layers.MaxPooling2D(1, strides, padding="same")(x)
        missing = width - x.shape[-1]
        x = keras.ops.pad(x, ((0, 0), (0, 0), (0, 0), (0, missing)))
    return layers.ReLU()(layers.Add()([x, hidden]))


def _convolution(
    x: keras.KerasTensor, width: int, strides: int = 1
) -> keras.KerasTensor:
    return layers.Conv2D(
        width,
        3,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
    )(x)
