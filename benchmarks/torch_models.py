"""PyTorch versions of the models, with the weights of the Keras models.

They are idiomatic PyTorch. Each module reads its arrays in the order of Keras's
weights, so that both have the same initial weights and, without dropout, the
same logits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from reproduce.models.sizes import TranslationSizes

Arrays = Iterator[np.ndarray]


def _parameter(array: np.ndarray) -> nn.Parameter:
    return nn.Parameter(torch.tensor(array))


def _linear(arrays: Arrays, inputs: int | None = None) -> nn.Linear:
    """Returns a layer from a kernel `(inputs, ...outputs)` and a bias."""
    kernel, bias = next(arrays), next(arrays)
    inputs = inputs or kernel.shape[0]
    kernel = kernel.reshape(inputs, -1)
    layer = nn.Linear(*kernel.shape)
    layer.weight = _parameter(kernel.T.copy())
    layer.bias = _parameter(bias.reshape(-1))
    return layer


def _norm(arrays: Arrays, epsilon: float) -> nn.LayerNorm:
    gamma, beta = next(arrays), next(arrays)
    layer = nn.LayerNorm(gamma.shape, eps=epsilon)
    layer.weight, layer.bias = _parameter(gamma), _parameter(beta)
    return layer


def _convolution(arrays: Arrays, **options: object) -> nn.Conv2d:
    kernel, bias = next(arrays), next(arrays)
    height, width, inputs, outputs = kernel.shape
    layer = nn.Conv2d(inputs, outputs, (height, width), **options)
    layer.weight = _parameter(kernel.transpose(3, 2, 0, 1).copy())
    layer.bias = _parameter(bias)
    return layer


class Attention(nn.Module):
    """Multi-head attention with PyTorch's fused function."""

    def __init__(self, arrays: Arrays, heads: int, rate: float):
        super().__init__()
        self.query = _linear(arrays)
        width = self.query.in_features
        self.key = _linear(arrays)
        self.value = _linear(arrays)
        self.output = _linear(arrays, inputs=width)
        self.heads, self.rate = heads, rate

    def forward(self, x, memory=None, mask=None):
        memory = x if memory is None else memory
        attended = F.scaled_dot_product_attention(
            self._split(self.query(x)),
            self._split(self.key(memory)),
            self._split(self.value(memory)),
            attn_mask=mask,
            dropout_p=self.rate if self.training else 0.0,
        )
        return self.output(attended.transpose(1, 2).flatten(2))

    def _split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class TransformerLayer(nn.Module):
    """Self-attention, optional source attention, feed-forward; post-norm."""

    def __init__(self, arrays: Arrays, sizes: TranslationSizes, decoder: bool):
        super().__init__()
        epsilon = 1e-5

        def attention():
            return Attention(arrays, sizes.num_heads, sizes.attention_dropout)

        self.attention = attention()
        self.norm = _norm(arrays, epsilon)
        self.source_attention = None
        if decoder:
            self.source_attention = attention()
            self.source_norm = _norm(arrays, epsilon)
        self.inner, self.outer = _linear(arrays), _linear(arrays)
        self.last_norm = _norm(arrays, epsilon)
        self.dropout = nn.Dropout(sizes.dropout)
        self.activation_dropout = nn.Dropout(sizes.activation_dropout)

    def forward(self, x, visible, memory=None, visible_source=None):
        x = self.norm(x + self.dropout(self.attention(x, mask=visible)))
        if self.source_attention is not None:
            attended = self.source_attention(x, memory, visible_source)
            x = self.source_norm(x + self.dropout(attended))
        hidden = self.activation_dropout(F.relu(self.inner(x)))
        return self.last_norm(x + self.dropout(self.outer(hidden)))


class TransformerTwin(nn.Module):
    """The translation task's `Transformer`, with one embedding table."""

    def __init__(self, weights: list[np.ndarray], sizes: TranslationSizes):
        super().__init__()
        arrays = iter(weights)
        self.embedding = _parameter(next(arrays))
        self.encoder, self.decoder = (
            nn.ModuleList(
                TransformerLayer(arrays, sizes, decoder)
                for _ in range(sizes.num_layers)
            )
            for decoder in (False, True)
        )
        self.dropout = nn.Dropout(sizes.dropout)
        self.width = sizes.width

    def forward(self, inputs):
        return self.hidden_states(inputs) @ self.embedding.T

    def hidden_states(self, inputs):
        source, target = inputs["source_ids"], inputs["target_ids"]
        visible_source = (source != 0)[:, None, None, :]
        time = target.shape[1]
        causal = torch.ones(
            time, time, dtype=torch.bool, device=target.device
        ).tril()
        memory = self._embed(source)
        for layer in self.encoder:
            memory = layer(memory, visible_source)
        x = self._embed(target)
        for layer in self.decoder:
            x = layer(x, causal, memory, visible_source)
        return x

    def _embed(self, ids):
        embedded = F.embedding(ids, self.embedding) * math.sqrt(self.width)
        positions = self._positions(ids.shape[1], ids.device)
        return self.dropout(embedded + positions)

    def _positions(self, time, device):
        # Sines are at even places and cosines at odd ones.
        index = torch.arange(self.width, device=device)
        rates = 10000.0 ** (-2 * (index // 2) / self.width)
        angles = torch.arange(time, device=device)[:, None] * rates
        return torch.where(index % 2 == 0, angles.sin(), angles.cos())


class BertLayer(nn.Module):
    """Attention and feed-forward, with post-normalization."""

    def __init__(
        self, arrays: Arrays, heads: int, rate: float, approximate: str
    ):
        super().__init__()
        self.attention = Attention(arrays, heads, rate)
        self.norm = _norm(arrays, 1e-12)
        self.last_norm = _norm(arrays, 1e-12)
        self.inner, self.outer = _linear(arrays), _linear(arrays)
        self.dropout = nn.Dropout(rate)
        self.gelu = nn.GELU(approximate)

    def forward(self, x, mask):
        x = self.norm(x + self.dropout(self.attention(x, mask=mask)))
        hidden = self.gelu(self.inner(x))
        return self.last_norm(x + self.dropout(self.outer(hidden)))


class BertTwin(nn.Module):
    """BERT with a classifier on its first token.

    Args:
        weights: The weights of the Keras model, in KerasHub's order.
        layers: The number of layers.
        heads: The number of attention heads.
        rate: The rate of all dropout.
        approximate: How GELU is computed. KerasHub's is approximate.
    """

    def __init__(
        self,
        weights: list[np.ndarray],
        layers: int,
        heads: int,
        rate: float,
        approximate: str = "tanh",
    ):
        super().__init__()
        arrays = iter(weights)
        self.tokens = _parameter(next(arrays))
        self.positions = _parameter(next(arrays))
        self.segments = _parameter(next(arrays))
        self.norm = _norm(arrays, 1e-12)
        self.layers = nn.ModuleList(
            BertLayer(arrays, heads, rate, approximate) for _ in range(layers)
        )
        self.pooled, self.logits = _linear(arrays), _linear(arrays)
        self.dropout = nn.Dropout(rate)

    def forward(self, inputs):
        ids = inputs["token_ids"]
        x = F.embedding(ids, self.tokens) + self.positions[: ids.shape[1]]
        x = x + F.embedding(inputs["segment_ids"], self.segments)
        x = self.dropout(self.norm(x))
        mask = inputs["padding_mask"].bool()[:, None, None, :]
        for layer in self.layers:
            x = layer(x, mask)
        return self.logits(self.dropout(torch.tanh(self.pooled(x[:, 0]))))


class ViTLayer(nn.Module):
    """Attention and feed-forward, with pre-normalization."""

    def __init__(self, arrays: Arrays, heads: int, rate: float):
        super().__init__()
        self.norm = _norm(arrays, 1e-6)
        self.attention = Attention(arrays, heads, rate)
        self.last_norm = _norm(arrays, 1e-6)
        self.inner, self.outer = _linear(arrays), _linear(arrays)
        self.dropout = nn.Dropout(rate)

    def forward(self, x):
        x = x + self.dropout(self.attention(self.norm(x)))
        # Keras's "gelu" is exact by default, as here.
        hidden = self.dropout(F.gelu(self.inner(self.last_norm(x))))
        return x + self.dropout(self.outer(hidden))


class ViTTwin(nn.Module):
    """KerasHub's ViT with a classifier on its class token.

    Args:
        weights: The weights of the Keras model, the classifier's last.
        layers: The number of layers.
        heads: The number of attention heads.
        rate: The dropout rate of the layers.
        head_rate: The dropout rate before the classifier.
        frozen: Whether only the classifier is trained, with the rest in
            inference mode.
    """

    def __init__(
        self,
        weights: list[np.ndarray],
        layers: int,
        heads: int,
        rate: float,
        head_rate: float,
        frozen: bool = False,
    ):
        super().__init__()
        arrays = iter(weights)
        self.token = _parameter(next(arrays))
        self.patches = _convolution(arrays, stride=len(weights[1]))
        self.positions = _parameter(next(arrays))
        self.layers = nn.ModuleList(
            ViTLayer(arrays, heads, rate) for _ in range(layers)
        )
        self.norm = _norm(arrays, 1e-6)
        self.dropout = nn.Dropout(rate)
        if frozen:
            self.requires_grad_(False)
        self.frozen = frozen
        self.head_dropout = nn.Dropout(head_rate)
        self.logits = _linear(arrays)

    def train(self, mode: bool = True):
        super().train(mode)
        if self.frozen:
            for module in (self.layers, self.dropout):
                module.eval()
        return self

    def forward(self, images):
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1)
        x = self.dropout(x + self.positions)
        for layer in self.layers:
            x = layer(x)
        return self.logits(self.head_dropout(self.norm(x)[:, 0]))


class CnnTwin(nn.Module):
    """Convolutions, and dropout before the last layer."""

    def __init__(self, weights: list[np.ndarray], widths: int, rate: float):
        super().__init__()
        arrays = iter(weights)
        self.convolutions = nn.ModuleList(
            _convolution(arrays, padding=1) for _ in range(2 * widths)
        )
        self.hidden, self.logits = _linear(arrays), _linear(arrays)
        self.dropout = nn.Dropout(rate)

    def forward(self, x):
        for index, convolution in enumerate(self.convolutions):
            x = F.relu(convolution(x))
            if index % 2:
                x = F.max_pool2d(x, 2)
        x = F.relu(self.hidden(x.mean((2, 3))))
        return self.logits(self.dropout(x))
