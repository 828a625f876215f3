"""Batches by token count: what is in them, how many, in which order."""

from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf

from reproduce.common.arms import batches_of
from reproduce.common.epochs import EpochNumber
from reproduce.common.errors import InputError
from reproduce.data.batching import Batching
from reproduce.data.batching import EncodedPairs
from reproduce.data.parallel_text import ParallelText
from reproduce.data.special_ids import BOS
from reproduce.data.special_ids import EOS
from reproduce.data.special_ids import PAD
from reproduce.data.subwords import Subwords
from reproduce.data.subwords import encode_pairs
from reproduce.data.subwords import train_subwords
from reproduce.export.tokenizers import graph_of
from reproduce.export.tokenizers import text_ids

# For 39 subwords and EOS at most.
BATCHING = Batching((8, 16, 24, 40), max_tokens=96)


def _pairs(count=200, seed=0, longest=39):
    generator = np.random.default_rng(seed)

    def side(lengths):
        return tuple(
            generator.integers(4, 1000, length).astype("int32")
            for length in lengths
        )

    lengths = generator.integers(1, longest + 1, (2, count))
    return EncodedPairs(side(lengths[0]), side(lengths[1]))


def _batches(dataset):
    return [dataset[index] for index in range(len(dataset))]


def _epoch(pairs, batching=BATCHING, seed=1, epoch=0):
    return _batches(batching.training_batches(pairs, seed, lambda: epoch))


def _in(batches):
    """The pairs of batches, without padding, BOS and EOS, in order."""
    pairs = []
    for inputs, labels in batches:
        for source, row in zip(inputs["source_ids"], labels):
            source, row = source[source != PAD], row[row != PAD]
            assert source[-1] == row[-1] == EOS
            pairs.append((tuple(source[:-1]), tuple(row[:-1])))
    return pairs


def _all(pairs):
    return [
        (tuple(source), tuple(target))
        for source, target in zip(pairs.sources, pairs.targets)
    ]


def _same(ours, theirs):
    return len(ours) == len(theirs) and all(
        np.array_equal(a, b)
        for a, b in zip(tf.nest.flatten(ours), tf.nest.flatten(theirs))
    )


def test_an_epoch_has_every_pair_once():
    pairs = _pairs()
    for epoch in range(3):
        batches = _epoch(pairs, epoch=epoch)
        assert Counter(_in(batches)) == Counter(_all(pairs))
        assert len(batches) == BATCHING.steps_per_epoch(pairs)
    assert Counter(_in(_batches(BATCHING.evaluation_batches(pairs)))) == (
        Counter(_all(pairs))
    )


def test_batches_are_what_the_model_takes():
    pairs = EncodedPairs(
        (np.array([7, 8, 9]), np.array([5])), (np.array([6]), np.array([4, 3]))
    )
    batching = Batching((4,), 8)
    ((inputs, labels),) = _batches(batching.evaluation_batches(pairs))
    assert sorted(inputs) == ["source_ids", "target_ids"]
    for found, expected in (
        (inputs["source_ids"], [[7, 8, 9, EOS], [5, EOS, PAD, PAD]]),
        (inputs["target_ids"], [[BOS, 6, PAD, PAD], [BOS, 4, 3, PAD]]),
        (labels, [[6, EOS, PAD, PAD], [4, 3, EOS, PAD]]),
    ):
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, expected)


def test_labels_are_the_targets_one_step_on():
    for inputs, labels in _epoch(_pairs()):
        targets = inputs["target_ids"]
        assert (targets[:, 0] == BOS).all()
        # Where a target goes on, what follows is what was to be predicted.
        goes_on = targets[:, 1:] != PAD
        np.testing.assert_array_equal(
            labels[:, :-1][goes_on], targets[:, 1:][goes_on]
        )
        np.testing.assert_array_equal(targets != PAD, labels != PAD)
        assert ((labels == EOS).sum(1) == 1).all()


def test_no_batch_has_more_tokens_than_allowed():
    shapes = Counter()
    for inputs, labels in _epoch(_pairs(1000)):
        rows, length = labels.shape
        assert inputs["source_ids"].shape == inputs["target_ids"].shape
        assert inputs["source_ids"].shape == (rows, length)
        assert length in BATCHING.boundaries
        assert rows * length <= 96
        shapes[rows, length] += 1
    # Full batches of each bucket, and at most one each that is not.
    full = {(12, 8), (6, 16), (4, 24), (2, 40)}
    assert full <= set(shapes)
    rest = {shape: n for shape, n in shapes.items() if shape not in full}
    assert set(rest.values()) <= {1}
    assert len({length for _, length in rest}) == len(rest)


def test_a_pair_goes_into_the_least_bucket_that_holds_it():
    for inputs, labels in _epoch(_pairs()):
        longer = np.maximum(
            (inputs["source_ids"] != PAD).sum(1), (labels != PAD).sum(1)
        )
        index = BATCHING.boundaries.index(labels.shape[1])
        lower = BATCHING.boundaries[index - 1] if index else 0
        assert (longer > lower).all() and (longer <= labels.shape[1]).all()


def test_a_pair_with_too_many_tokens_is_alone():
    pairs = _pairs()
    batching = Batching((8, 40), 16)
    assert batching.batch_sizes == (2, 1)
    assert {labels.shape for _, labels in _epoch(pairs, batching)} <= {
        (2, 8),
        (1, 8),
        (1, 40),
    }
    assert Batching((8, 40), 160, max_pairs=5).batch_sizes == (5, 4)
    assert Batching((8, 40), 4, max_pairs=5).batch_sizes == (1, 1)
    few = Batching((8, 16, 24, 40), 96, max_pairs=3)
    assert max(len(labels) for _, labels in _epoch(pairs, few)) == 3
    assert len(_epoch(pairs, few)) == few.steps_per_epoch(pairs)


def test_order_depends_on_seed_and_epoch_alone():
    pairs = _pairs()
    first = _epoch(pairs, seed=1, epoch=4)
    tf.random.set_seed(99)
    np.random.seed(99)
    assert _same(first, _epoch(pairs, seed=1, epoch=4))
    for seed, epoch in ((1, 5), (2, 4), (4, 1)):
        other = _epoch(pairs, seed=seed, epoch=epoch)
        assert not _same(first, other)
        # Other pairs meet, not only the same batches in another order.
        assert {frozenset(_in([batch])) for batch in first} != {
            frozenset(_in([batch])) for batch in other
        }


def test_resumed_run_goes_on_in_the_same_order():
    pairs = _pairs()
    now = {"epoch": 0}
    whole = BATCHING.training_batches(pairs, 1, lambda: now["epoch"])
    undisturbed = []
    for epoch in range(3):
        now["epoch"] = epoch
        undisturbed.append(_batches(whole))
    now["epoch"] = 2
    resumed = BATCHING.training_batches(pairs, 1, lambda: now["epoch"])
    assert _same(_batches(resumed), undisturbed[2])
    assert not _same(undisturbed[0], undisturbed[1])


def test_batches_of_all_lengths_are_mixed():
    pairs = _pairs(2000)
    lengths = [labels.shape[1] for _, labels in _epoch(pairs)]
    changes = np.count_nonzero(np.diff(lengths))
    assert changes > len(lengths) / 5
    partial = [
        index
        for index, (_, labels) in enumerate(_epoch(pairs))
        if labels.size < 0.5 * 96
    ]
    assert all(index < len(lengths) - 4 for index in partial)


def test_evaluation_batches_are_always_the_same():
    pairs = _pairs()
    batches = _batches(BATCHING.evaluation_batches(pairs))
    assert _same(batches, _batches(BATCHING.evaluation_batches(pairs)))
    lengths = [labels.shape[1] for _, labels in batches]
    assert lengths == sorted(lengths)
    shortest = [pair for pair in _all(pairs) if max(map(len, pair)) < 8]
    assert _in(batches)[: len(shortest)] == shortest


@pytest.mark.parametrize("short_targets", [False, True])
def test_keras_sees_that_lengths_vary(short_targets):
    # Keras looks at two batches; each length may be that of both.
    pairs = _pairs(2000)
    batching = Batching((8, 16, 40), 96, short_targets=short_targets)
    for epoch in range(20):
        batches = batching.training_batches(pairs, 1, lambda e=epoch: e)
        assert len(batches) == batching.steps_per_epoch(pairs)
        (first, second), labels = zip(batches[0], batches[1])
        assert first["source_ids"].shape[1] != second["source_ids"].shape[1]
        if len({len(rows[0]) for _, rows in _batches(batches)}) > 1:
            assert labels[0].shape[1] != labels[1].shape[1]


@pytest.mark.since("3.13", reason="no model may leave an input unused")
def test_fit_goes_through_batches_in_the_order_of_each_epoch():
    pairs = _pairs(100)
    epoch = EpochNumber()
    batches = BATCHING.training_batches(pairs, 1, epoch)
    ids = keras.Input((None,), dtype="int32", name="source_ids")
    others = keras.Input((None,), dtype="int32", name="target_ids")
    outputs = keras.layers.Dense(1)(others[..., None])
    model = keras.Model({"source_ids": ids, "target_ids": others}, outputs)
    seen = []

    def record(y_true, y_pred):
        seen.append(np.array(y_true))
        return keras.ops.mean(y_pred)

    model.compile(loss=record, run_eagerly=True)
    # As the runner does: Keras would shuffle the batches once more.
    options = {"shuffle": False, "verbose": 0, "callbacks": [epoch]}
    model.fit(batches, epochs=4, initial_epoch=2, **options)
    expected = [y for e in (2, 3) for _, y in _epoch(pairs, epoch=e)]
    assert all(map(np.array_equal, seen, expected))
    assert len(seen) == len(expected)


def test_doubled_arm_has_every_row_twice():
    pairs = _pairs()
    plain = BATCHING.training_batches(pairs, 1, lambda: 0)
    doubled = _batches(batches_of("doubled", plain))
    for once, twice in zip(_batches(plain), doubled, strict=True):
        assert _in([twice]) == 2 * _in([once])


def test_too_long_pairs_are_counted_not_dropped_unseen():
    pairs = _pairs(longest=50)
    longer = sum(max(map(len, pair)) + 1 > 40 for pair in _all(pairs))
    assert longer > 0
    message = f"at most 40 subwords .* {longer} longer ones, of 51 at most"
    with pytest.raises(ValueError, match=message):
        BATCHING.training_batches(pairs, 1, lambda: 0)
    with pytest.raises(ValueError, match=message):
        BATCHING.evaluation_batches(pairs)


def test_boundaries_follow_the_lengths():
    # Side by side, 1 to 64 subwords and EOS.
    pairs = EncodedPairs(
        tuple(np.full(n, 9) for n in range(1, 65)),
        tuple(np.full(1, 9) for _ in range(64)),
    )
    batching = Batching.of(pairs, 512, 20)
    assert batching.boundaries == (16, 24, 32, 40, 48, 56, 64, 72)
    assert (batching.max_tokens, batching.max_pairs) == (512, 20)
    assert pairs.lengths.max() <= batching.boundaries[-1]
    assert Batching.of(pairs.at([0, 1, 2]), 512).boundaries == (8,)
    assert Batching.of(pairs.at([6]), 512).boundaries == (8,)
    assert Batching.of(pairs.at([7]), 512).boundaries == (16,)
    with pytest.raises(InputError, match="got none"):
        Batching.of(pairs.at([]), 512)


def test_batching_reaches_longer_pairs():
    assert BATCHING.reaching(40) is BATCHING
    longer = BATCHING.reaching(41)
    assert longer == Batching((8, 16, 24, 40, 48), 96)
    pairs = _pairs(longest=47)
    assert Counter(_in(_batches(longer.evaluation_batches(pairs)))) == Counter(
        _all(pairs)
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((), 8), "ascending lengths"),
        (((8, 8), 8), "ascending lengths"),
        (((16, 8), 8), "ascending lengths"),
        (((0, 8), 8), "ascending lengths"),
        (((8,), 0), "max_tokens.*Received: 0"),
        (((8,), 8, 0), "max_pairs.*Received: 0"),
    ],
)
def test_settings_that_make_no_batches_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Batching(*arguments)


def test_texts_are_encoded_as_the_model_is_served():
    text = ParallelText(("one two", "", "three"), ("eins", "zwei", "drei vier"))
    subwords = Subwords(train_subwords(text.sources + text.targets, 30))
    pairs = encode_pairs(text, subwords, subwords)
    for ids, expected in (
        (pairs.sources, subwords.encode(text.sources)),
        (pairs.targets, subwords.encode(text.targets)),
    ):
        assert [row.tolist() for row in ids] == [r.tolist() for r in expected]
    ((inputs, _),) = _batches(Batching((24,), 200).evaluation_batches(pairs))
    graph = graph_of(subwords)
    served = tf.function(lambda texts: text_ids(graph, texts, (), None, EOS))(
        tf.constant(text.sources)
    )
    served = served.to_tensor(PAD).numpy()
    assert served.shape[1] == 1 + max(len(ids) for ids in pairs.sources)
    np.testing.assert_array_equal(
        inputs["source_ids"][:, : served.shape[1]], served
    )
    assert not inputs["source_ids"][:, served.shape[1] :].any()
