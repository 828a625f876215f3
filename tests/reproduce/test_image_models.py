"""The networks of the image classification example."""

import shutil
from dataclasses import replace

import keras
import keras_hub
import numpy as np
import pytest

from reproduce.common.errors import InputError
from reproduce.models.resnet import resnet
from reproduce.models.vit import SIZES
from reproduce.models.vit import Size
from reproduce.models.vit import check_side
from reproduce.models.vit import interpolated
from reproduce.models.vit import pretrained_vit
from reproduce.models.vit import vit
from reproduce.models.vit import with_other_settings
from reproduce.tasks.image_classification import TASK
from reproduce.tasks.image_runs import build
from reproduce.tasks.image_runs import compile_classifier
from reproduce.tasks.image_settings import Settings

SMALL = Size(1, 8, 16, 2, None)
SETTINGS = Settings(
    arm="rdrop",
    alpha=2.0,
    dropout=0.3,
    seed=0,
    epochs=1,
    batch_size=4,
    learning_rate=0.1,
)


def _images(count, shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, *shape), dtype="uint8")


# --- ViT ---------------------------------------------------------------------


def test_vit_has_the_parameters_of_the_paper():
    # ViT-B/16 at 224 pixels has 86 million (arXiv 2010.11929, table 1); here
    # by its parts, for a small one.
    model = vit((8, 8, 1), 5, SMALL, 0.1)
    layers, width, feed_forward = SMALL.layers, SMALL.width, SMALL.feed_forward
    patches = 2 * 2 * 1 * width + width
    embeddings = width + (16 + 1) * width
    attention = 4 * (width * width + width)
    mlp = 2 * width * feed_forward + feed_forward + width
    norms = 2 * 2 * width
    head = 2 * width + width * 5 + 5
    expected = patches + embeddings + layers * (attention + mlp + norms) + head
    assert model.count_params() == expected
    base = SIZES["b_16"]
    assert (base.layers, base.width, base.heads) == (12, 768, 12)


def test_vit_takes_raw_images_and_ignores_no_pixel():
    model = vit((8, 8, 1), 5, SMALL, 0.1)
    images = _images(1, (8, 8, 1))
    logits = model.predict(images, verbose=0)
    for row, column in ((0, 0), (3, 5), (7, 7)):
        changed = images.copy()
        changed[0, row, column] ^= 255
        assert np.abs(model.predict(changed, verbose=0) - logits).max() > 1e-6
    # By positions it tells patches apart that change places.
    moved = images[:, ::-1, ::-1]
    assert np.abs(model.predict(moved, verbose=0) - logits).max() > 1e-4


def test_vit_dropout_is_where_the_rates_say():
    model = vit((8, 8, 1), 5, SMALL, 0.25, attention_dropout=0.125)
    rates = [
        layer.rate
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.Dropout)
    ]
    assert set(rates) == {0.125, 0.25}


def test_vit_resizes_and_refuses_what_does_not_fit():
    model = vit((8, 8, 1), 5, SMALL, 0.1, image_size=16)
    assert model.get_layer("vi_t_backbone").image_shape == (16, 16, 1)
    assert model.predict(_images(2, (8, 8, 1)), verbose=0).shape == (2, 5)
    with pytest.raises(InputError, match="multiples of .* 3, got 8x8"):
        vit((8, 8, 1), 5, SMALL._replace(patch_size=3), 0.1)


# --- ResNet ------------------------------------------------------------------


@pytest.mark.parametrize(("blocks", "thousands"), [(3, 270), (5, 460)])
def test_resnet_has_the_parameters_of_the_paper(blocks, thousands):
    # He et al. 2016, table 6: 0.27 and 0.46 million for 20 and 32 layers.
    model = resnet((32, 32, 3), 10, blocks, 0.1)
    trainable = sum(
        int(np.prod(weight.shape)) for weight in model.trainable_weights
    )
    assert round(trainable / 1e4) * 10 == thousands
    weighted = [
        layer
        for layer in model.layers
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense))
    ]
    assert len(weighted) == 6 * blocks + 2
    assert model.name == f"resnet{6 * blocks + 2}"


def test_shortcut_pads_with_zeros_and_takes_every_other_pixel():
    model = resnet((8, 8, 3), 10, 1, 0.1)
    pooling = next(
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.MaxPooling2D)
    )
    padded = pooling._outbound_nodes[0].operation.output
    seen = keras.Model(model.inputs, [pooling.input, padded])
    before, after = seen.predict(_images(2, (8, 8, 3)), verbose=0)
    assert after.shape == (2, 4, 4, 32)
    np.testing.assert_allclose(after[..., :16], before[:, ::2, ::2])
    assert not after[..., 16:].any()


def _moving_means(model):
    return [
        keras.ops.convert_to_numpy(layer.moving_mean)
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]


def _stepped(arm):
    keras.utils.set_random_seed(3)
    settings = replace(SETTINGS, model="resnet", blocks=1, arm=arm)
    model = build((8, 8, 3), 4, settings)
    compile_classifier(model, settings, 2)
    images, labels = _images(6, (8, 8, 3)), np.arange(6) % 4
    logs = model.train_on_batch(images, labels, return_dict=True)
    return model, logs


def test_resnet_remembers_statistics_as_one_plain_pass_does():
    model, logs = _stepped("rdrop")
    assert logs["consistency_loss"] > 0
    assert model.rdrop.moving_statistics == "first_pass"
    assert model.rdrop.passes == "shared_prefix"
    plain, _ = _stepped("plain")
    assert len(_moving_means(model)) == 7
    for ours, theirs in zip(_moving_means(model), _moving_means(plain)):
        assert np.abs(theirs).max() > 0
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


# --- pretrained --------------------------------------------------------------


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    backbone = keras_hub.models.ViTBackbone(
        image_shape=(8, 8, 3),
        patch_size=4,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        mlp_dim=16,
    )
    classifier = keras_hub.models.ViTImageClassifier(
        backbone=backbone,
        num_classes=3,
        preprocessor=keras_hub.models.ViTImageClassifierPreprocessor(
            keras_hub.layers.ViTImageConverter(
                image_size=(8, 8), scale=1 / 255, offset=0.25
            )
        ),
    )
    directory = tmp_path_factory.mktemp("preset")
    classifier.save_to_preset(str(directory))
    images = _images(2, (8, 8, 3)) / 255 + 0.25
    return directory, backbone.predict(images, verbose=0)


def test_preset_gets_dropout_and_keeps_its_weights(preset, capsys):
    directory, features = preset
    assert check_side(directory, None) == 8
    classifier = pretrained_vit(directory, (8, 8, 3), 5, 0.25, 0.125)
    assert "dropout 0 set to 0.25, attention dropout 0 to 0.125" in (
        capsys.readouterr().out
    )
    images = _images(2, (8, 8, 3))
    backbone = classifier.get_layer("vi_t_backbone")
    # The values of pixels are those that the preset's own converter makes.
    assert classifier.predict(images, verbose=0).shape == (2, 5)
    x = images
    for layer in classifier.layers[1:]:
        x = layer(x)
        if layer is backbone:
            break
    np.testing.assert_allclose(x, features, atol=1e-5)
    rates = {
        layer.rate
        for layer in classifier._flatten_layers()
        if isinstance(layer, keras.layers.Dropout)
    }
    assert rates == {0.25, 0.125}
    first, second = (
        keras.ops.convert_to_numpy(classifier(images, training=True))
        for _ in range(2)
    )
    assert np.abs(first - second).max() > 1e-3


def test_preset_at_another_resolution(preset):
    directory, _ = preset
    classifier = pretrained_vit(directory, (8, 8, 3), 5, 0.1, image_size=16)
    backbone = classifier.get_layer("vi_t_backbone")
    assert backbone.image_shape == (16, 16, 3)
    logits = classifier.predict(_images(2, (8, 8, 3)), verbose=0)
    assert logits.shape == (2, 5)
    with pytest.raises(InputError, match="multiple of 4, the patch size"):
        pretrained_vit(directory, (8, 8, 3), 5, 0.1, image_size=10)


def test_weights_but_positions_stay_at_another_resolution(preset):
    small = keras_hub.models.ViTBackbone.from_preset(str(preset[0]))
    large = with_other_settings(small, image_shape=(16, 16, 3))
    pairs = list(zip(small.weights, large.weights))
    assert len(pairs) == len(small.weights) > 15
    for before, after in pairs:
        if "position_embedding" in before.path:
            expected = interpolated(
                keras.ops.convert_to_numpy(before), (2, 2), (4, 4)
            )
            np.testing.assert_array_equal(after, expected)
            assert after.shape == (17, 8)
        else:
            np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_interpolated_embeddings(rng, interpolation):
    embeddings = rng.normal(size=(1 + 6, 4)).astype("float32")

    def to(values, after, **options):
        return interpolated(
            values, (2, 3), after, interpolation=interpolation, **options
        )

    np.testing.assert_array_equal(to(embeddings, (2, 3)), embeddings)
    larger = to(embeddings, (5, 7))
    assert larger.shape == (36, 4)
    # The class token has no place in the image.
    np.testing.assert_array_equal(larger[0], embeddings[0])
    constant = np.broadcast_to(embeddings[:1], (7, 4))
    np.testing.assert_allclose(
        to(constant, (5, 7)),
        np.broadcast_to(embeddings[:1], (36, 4)),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        to(embeddings[1:], (5, 7), class_token=False), larger[1:]
    )
    # What rises from left to right still does, in every row alike.
    ramp = np.tile([[0.0], [1.0], [2.0]], (2, 1)).astype("float32")
    grid = to(ramp, (4, 6), class_token=False).reshape(4, 6)
    assert (np.diff(grid, axis=1) > 0).all()
    np.testing.assert_allclose(grid, np.tile(grid[:1], (4, 1)), atol=1e-6)


def test_bilinear_interpolation_by_hand():
    # Half-pixel centres: at a quarter and three quarters between neighbours.
    values = np.array([[0.0], [4.0]], "float32")
    found = interpolated(values, (1, 2), (1, 4), False, "bilinear")
    np.testing.assert_allclose(found.ravel(), [0, 1, 3, 4])


def test_what_is_no_preset_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"No such file .*: config.json"):
        pretrained_vit(tmp_path, (8, 8, 3), 2, 0.1)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(InputError, match="is not a KerasHub config"):
        check_side(tmp_path, None)
    text = '{"class_name": "BertBackbone", "config": {}}'
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match="a ViTBackbone, got BertBackbone"):
        pretrained_vit(tmp_path, (8, 8, 3), 2, 0.1)


def test_preset_without_weights_is_refused(preset, tmp_path):
    for name in ("config.json", "metadata.json"):
        shutil.copy(preset[0] / name, tmp_path)
    with pytest.raises(InputError, match="expected the weights of its config"):
        pretrained_vit(tmp_path, (8, 8, 3), 2, 0.1)


def test_two_passes_need_dropout():
    settings = replace(SETTINGS, dropout=0.0)
    for arm in ("plain", "doubled"):
        TASK.check(replace(settings, arm=arm))
    for arm in ("two_pass", "rdrop"):
        with pytest.raises(InputError, match=f"more than 0 for {arm}"):
            TASK.check(replace(settings, arm=arm))
    with_attention = replace(settings, attention_dropout=0.1)
    TASK.check(with_attention)
    with pytest.raises(InputError, match="more than 0 for rdrop"):
        TASK.check(replace(with_attention, model="resnet"))


def test_preset_is_for_images_in_colour(preset):
    with pytest.raises(InputError, match="in colour, got 1 channel"):
        TASK.load(replace(SETTINGS, preset=preset[0]))
