"""What image classifiers are measured by, trained on and scheduled with."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf

from reproduce.common.errors import InputError
from reproduce.data.augment import AUGMENTATIONS
from reproduce.data.augment import SHIFT
from reproduce.data.augment import _crop
from reproduce.data.augment import cropped
from reproduce.data.augment import shifted_and_mirrored
from reproduce.data.batches import Rows
from reproduce.data.batches import batches_of_rows
from reproduce.data.image_files import resized
from reproduce.data.images import Part
from reproduce.data.images import load_digits
from reproduce.data.images import split
from reproduce.image_reports import chosen_images
from reproduce.image_reports import measure
from reproduce.image_reports import probabilities_of
from reproduce.image_reports import reliability
from reproduce.schedules import ProportionalAlpha
from reproduce.schedules import learning_rate
from reproduce.tasks.image_runs import alpha_of
from reproduce.tasks.image_runs import optimizer_of
from reproduce.tasks.image_settings import Settings

# --- measures ----------------------------------------------------------------


def _calibration_error(probabilities, labels, bins):
    """By definition: (lower, upper] bins, one after the other."""
    total = 0.0
    for index in range(bins):
        lower, upper = index / bins, (index + 1) / bins
        inside = [
            (max(row), int(np.argmax(row) == label))
            for row, label in zip(probabilities.tolist(), labels)
            if lower < max(row) <= upper
        ]
        if inside:
            confidence = sum(c for c, _ in inside) / len(inside)
            accuracy = sum(right for _, right in inside) / len(inside)
            total += len(inside) * abs(accuracy - confidence)
    return total / len(labels)


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_calibration_error_is_that_of_a_loop(rng, bins):
    probabilities = rng.dirichlet(np.full(5, 0.4), 300)
    labels = rng.integers(0, 5, 300)
    found = reliability(probabilities, labels, bins)
    expected = _calibration_error(probabilities, labels, bins)
    assert expected > 0.05
    np.testing.assert_allclose(found.error, expected, rtol=1e-12)
    assert found.counts.sum() == 300


def test_calibration_error_by_hand():
    # Two in the bin (0.6, 0.8], one right: |0.5 - 0.7|. One sure and wrong.
    probabilities = np.array([[0.65, 0.35], [0.25, 0.75], [1.0, 0.0]])
    found = reliability(probabilities, np.array([0, 0, 1]), bins=5)
    assert found.counts.tolist() == [0, 0, 0, 2, 1]
    np.testing.assert_allclose(found.accuracy[3:], [0.5, 0.0])
    np.testing.assert_allclose(found.confidence[3:], [0.7, 1.0])
    np.testing.assert_allclose(found.error, (2 * 0.2 + 1 * 1.0) / 3)


def test_a_confidence_on_an_edge_is_in_the_bin_below():
    probabilities = np.array([[0.5, 0.5], [1.0, 0.0]])
    found = reliability(probabilities, np.array([0, 0]), bins=2)
    assert found.counts.tolist() == [1, 1]


def test_calibration_needs_labels():
    with pytest.raises(ValueError, match="2 rows, 1 labels"):
        reliability(np.eye(2), np.array([0]))


def test_measures_are_those_of_scikit_learn(rng):
    logits = rng.normal(0, 3, (200, 4)).astype("float32")
    labels = rng.integers(0, 4, 200)
    found = measure(logits, labels)
    exponentials = np.exp(logits.astype("float64"))
    probabilities = exponentials / exponentials.sum(-1, keepdims=True)
    np.testing.assert_allclose(probabilities_of(logits), probabilities)
    np.testing.assert_allclose(
        found["accuracy"],
        sklearn.metrics.accuracy_score(labels, probabilities.argmax(-1)),
    )
    np.testing.assert_allclose(
        found["loss"], sklearn.metrics.log_loss(labels, probabilities)
    )
    np.testing.assert_allclose(
        found["calibration_error"],
        _calibration_error(probabilities, labels, 15),
    )


def test_loss_of_a_sure_and_wrong_prediction_is_finite():
    found = measure(np.array([[500.0, 0.0]], "float32"), np.array([1]))
    assert found["loss"] == 500.0


# --- data --------------------------------------------------------------------


def test_digits_are_split_by_class():
    dataset = load_digits()
    sizes = [len(p) for p in (dataset.train, dataset.valid, dataset.test)]
    assert sizes == [200, 200, 1397]
    for part in (dataset.train, dataset.valid):
        counts = np.bincount(part.labels, minlength=10)
        assert counts.sum() == 200 and counts.min() >= 18
        assert counts.max() <= 22
    assert dataset.image_shape == (8, 8, 1)
    assert dataset.train.images.dtype == np.uint8
    assert dataset.train.images.max() == 255


def test_parts_share_no_digit_and_more_training_keeps_validation():
    few, many = load_digits(50), load_digits(1000)
    np.testing.assert_array_equal(few.valid.images, many.valid.images)
    indices = np.arange(100)[:, None, None, None] * np.ones((1, 1, 1, 1))
    everything = Part(indices, np.arange(100) % 3)
    parts = split(everything, (20, 30))
    seen = [set(part.images.ravel()) for part in parts]
    assert [len(one) for one in seen] == [20, 30, 50]
    assert len(set.union(*seen)) == 100
    again = split(everything, (20, 30))
    for part, same in zip(parts, again):
        np.testing.assert_array_equal(part.images, same.images)


def test_classes_keep_their_share():
    labels = np.repeat([0, 1, 2], [70, 20, 10])
    part, rest = split(Part(np.zeros((100, 1, 1, 1)), labels), (50,))
    for counts in (np.bincount(part.labels), np.bincount(rest.labels)):
        assert np.abs(counts - [35, 10, 5]).max() <= 1


def test_split_needs_enough_images():
    part = Part(np.zeros((3, 1, 1, 1)), np.arange(3))
    with pytest.raises(InputError, match="at least 4 images .* got 3"):
        split(part, (2, 2))


def _numbered(count):
    images = np.arange(count, dtype="uint8").reshape(-1, 1, 1, 1)
    return Rows(images, np.arange(count, dtype="int32"))


def test_every_epoch_has_all_images_in_an_order_of_its_own():
    def order(seed, epoch):
        batches = batches_of_rows(_numbered(10), 4, seed, lambda: epoch)
        pairs = [(x.ravel(), y) for x, y in map(batches.__getitem__, range(3))]
        assert [len(y) for _, y in pairs] == [4, 4, 2]
        for x, y in pairs:
            np.testing.assert_array_equal(x, y)
        return np.concatenate([y for _, y in pairs]).tolist()

    orders = [order(1, 0), order(1, 1), order(2, 0)]
    assert all(sorted(one) == list(range(10)) for one in orders)
    assert len({tuple(one) for one in orders}) == 3
    assert order(1, 1) == orders[1]


def test_measuring_keeps_the_order():
    batches = batches_of_rows(_numbered(10), 4)
    assert len(batches) == 3
    labels = np.concatenate([batches[index][1] for index in range(3)])
    np.testing.assert_array_equal(labels, np.arange(10))


def test_augmented_images_are_windows_of_padded_ones(rng):
    images = rng.integers(1, 255, (40, 6, 5, 2), dtype="uint8")
    changed = shifted_and_mirrored(images, np.random.default_rng(0))
    assert changed.shape == images.shape
    seen = set()
    for image, new in zip(images, changed):
        padded = np.zeros((6 + 2 * SHIFT, 5 + 2 * SHIFT, 2), "uint8")
        padded[SHIFT : SHIFT + 6, SHIFT : SHIFT + 5] = image
        found = [
            (top, left, mirrored)
            for top in range(2 * SHIFT + 1)
            for left in range(2 * SHIFT + 1)
            for mirrored in (False, True)
            if np.array_equal(
                padded[top : top + 6, left : left + 5][
                    :, :: -1 if mirrored else 1
                ],
                new,
            )
        ]
        assert found
        seen.add(found[0])
    assert len(seen) > 20
    assert {mirrored for _, _, mirrored in seen} == {False, True}


def test_crops_are_parts_resized_to_the_whole():
    # Every pixel says where it is, along both sides.
    rows, columns = np.mgrid[:36, :36]
    image = np.stack([7 * rows, 5 * columns, 0 * rows], -1).astype("uint8")
    images = np.repeat(image[None], 200, 0)
    changed = cropped(images, np.random.default_rng(0))
    assert changed.shape == images.shape and changed.dtype == np.uint8
    again = cropped(images, np.random.default_rng(0))
    np.testing.assert_array_equal(changed, again)
    shares, ratios = [], []
    for new in changed.astype("float64"):
        # From one pixel to the next, in the middle, in those of the whole.
        down = (new[24, 18, 0] - new[12, 18, 0]) / 7 / 12
        right = (new[18, 24, 1] - new[18, 12, 1]) / 5 / 12
        shares.append(down * right)
        ratios.append(right / down)
        # Not mirrored, and no pixel of elsewhere.
        assert (np.diff(new[..., 0], axis=0) >= 0).all()
        assert (np.diff(new[..., 1], axis=1) >= 0).all()
    assert 0.03 < min(shares) < 0.12 and 0.85 < max(shares) < 1.1
    assert 0.4 < np.mean(shares) < 0.6
    inside = (np.array(ratios) > 0.65) & (np.array(ratios) < 1.55)
    assert inside.mean() > 0.9


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(32, 32), (7, 20), (50, 9)])
def test_crops_are_resized_as_by_tensorflow(shape, channels, rng):
    image = rng.integers(0, 256, (*shape, channels)).astype("uint8")
    expected = tf.image.resize(image, (24, 30), antialias=True)
    found = resized(image, 24, 30)
    assert found.dtype == np.uint8
    # Pillow rounds after each of the two directions.
    np.testing.assert_allclose(found, expected, atol=1.1)


def test_crops_are_inside_of_images_of_any_shape():
    generator = np.random.default_rng(0)
    found = np.array([_crop(12, 40, generator) for _ in range(500)])
    top, left, rows, columns = found.T
    assert (found[:, :2] >= 0).all() and (found[:, 2:] >= 1).all()
    assert (top + rows).max() == 12 and (left + columns).max() == 40
    # Nothing that is nearly square has more than half of this image.
    whole = (rows == 12) & (columns == 40)
    assert (columns[~whole] <= 1.4 * 12).all()


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_batch_is_augmented_by_a_generator_of_its_own(name):
    images = np.arange(8 * 64).astype("uint8").reshape(8, 8, 8, 1)
    change = AUGMENTATIONS[name]
    batches = batches_of_rows(
        Rows(images, np.arange(8)), 4, 1, lambda: 2, change=change
    )
    order = np.random.default_rng((1, 2)).permutation(8)
    for index in (1, 0):
        chosen = order[4 * index : 4 * index + 4]
        generator = np.random.default_rng((1, 2, index))
        expected = change(images[chosen], generator)
        assert (expected != images[chosen]).any()
        found, labels = batches[index]
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(labels, chosen)


# --- schedules ---------------------------------------------------------------

SETTINGS = Settings(
    arm="rdrop",
    alpha=2.0,
    dropout=0.1,
    seed=0,
    epochs=1,
    batch_size=8,
    learning_rate=0.4,
    warm_up=4,
)


def _values(schedule, steps):
    return [float(schedule(step)) for step in steps]


def test_cosine_rises_and_falls_to_zero():
    schedule = learning_rate("cosine", 0.4, 24, 4)
    cosine = [0.2 * (1 + np.cos(np.pi * t / 20)) for t in (0, 5, 10, 20)]
    np.testing.assert_allclose(
        _values(schedule, (0, 1, 2, 4, 9, 14, 24)),
        [0.0, 0.1, 0.2, *cosine],
        atol=1e-7,
    )


def test_steps_divide_by_ten_at_half_and_three_quarters():
    schedule = learning_rate("steps", 0.4, 100, 4)
    np.testing.assert_allclose(
        _values(schedule, (2, 4, 49, 50, 74, 75, 99)),
        [0.2, 0.4, 0.4, 0.04, 0.04, 0.004, 0.004],
        rtol=1e-6,
    )
    with pytest.raises(ValueError, match="Received: constant"):
        learning_rate("constant", 0.4, 100, 4)


@pytest.mark.parametrize("kind", ["cosine", "steps"])
def test_alpha_is_proportional_to_the_learning_rate(kind):
    rate = learning_rate(kind, 0.4, 24, 4)
    alpha = ProportionalAlpha(2.0, rate, 0.4)
    steps = (0, 2, 4, 9, 13, 20, 24)
    expected = [2.0 * value / 0.4 for value in _values(rate, steps)]
    np.testing.assert_allclose(_values(alpha, steps), expected, rtol=1e-6)
    assert _values(alpha, [4]) == [2.0]
    restored = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(alpha)
    )
    assert _values(restored, steps) == _values(alpha, steps)


def test_alpha_of_settings_follows_updates_and_not_batches():
    assert alpha_of(SETTINGS, 24) == 2.0
    decayed = replace(SETTINGS, decay_alpha=True, accumulate=3)
    alpha = alpha_of(decayed, 24)
    optimizer = optimizer_of(replace(decayed, summed_loss=True), 24)
    # R-Drop is told the number of updates, the learning rate that of batches.
    for update, expected in ((0, 0.0), (2, 1.0), (4, 2.0), (14, 1.0)):
        np.testing.assert_allclose(float(alpha(update)), expected, atol=1e-6)
        rate = float(optimizer._learning_rate(3 * update))
        # Twice the learning rate is the paper's loss, not another alpha.
        np.testing.assert_allclose(rate, 0.4 * expected, atol=1e-6)


def test_summed_loss_doubles_sgd_and_halves_clipping_where_two_passes_are():
    for arm, times in (("rdrop", 2), ("two_pass", 2), ("plain", 1)):
        settings = replace(
            SETTINGS, arm=arm, summed_loss=True, weight_decay=0.01
        )
        optimizer = optimizer_of(settings, 24)
        assert optimizer.momentum == 0.9
        assert optimizer.global_clipnorm == 1.0 / times
        assert optimizer.weight_decay == 0.01 / times
        rate = float(optimizer._learning_rate(4))
        np.testing.assert_allclose(rate, 0.4 * times, rtol=1e-6)
    adam = optimizer_of(
        replace(SETTINGS, optimizer="adamw", summed_loss=True), 24
    )
    np.testing.assert_allclose(float(adam._learning_rate(4)), 0.4, rtol=1e-6)


# --- pictures ----------------------------------------------------------------


def test_pictures_show_as_many_wrong_images_as_right_ones():
    labels = np.zeros(60, int)
    right = np.tile([[0.9, 0.1]], (60, 1))
    wrong_at_first = right.copy()
    wrong_at_first[:30] = [0.1, 0.9]
    chosen = chosen_images(
        [("plain", right), ("rdrop", wrong_at_first)], labels
    )
    assert chosen.tolist() == [*range(12), *range(30, 42)]
    few = chosen_images([("plain", right)], labels)
    assert few.tolist() == list(range(24))
    none_right = chosen_images([("plain", 1 - right)], labels)
    assert none_right.tolist() == list(range(24))
