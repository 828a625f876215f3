"""Beam search under rules, and BART's cached decoding."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from reproduce.data.special_ids import SpecialIds
from reproduce.decoding import summarizer
from reproduce.decoding.beam_search import beam_search
from reproduce.decoding.repetition import no_repeated_ngrams
from reproduce.decoding.summarizer import Decoding
from reproduce.decoding.summarizer import constraint
from reproduce.decoding.summarizer import summarize
from reproduce.models.bart import Configuration
from reproduce.models.bart import bart_inputs
from reproduce.models.bart import small_bart

ops = keras.ops

PAD, BOS, END = 0, 1, 2
SPECIAL = SpecialIds(PAD, END, END)
VOCABULARY = 12
GENERATIONS = 1000


def random_generations(rng, beam_size, size, **options):
    """Ids without the end, of models that say anything after anything."""
    tables = rng.normal(size=(GENERATIONS, VOCABULARY, VOCABULARY))
    # A few bigrams are so likely that without a rule all would be loops.
    tables = tf.constant(tables * 2, tf.float32)

    def step(ids, index, state):
        logits = tf.gather(state, ids, batch_dims=2)
        return ops.log_softmax(logits), state

    # Tables follow the beams, as a cache does.
    state = ops.repeat(tables[:, None], beam_size, axis=1)
    found = tf.function(
        lambda state: beam_search(
            step,
            state,
            ops.full((GENERATIONS,), 20, "int32"),
            20,
            beam_size,
            special=SPECIAL,
            constrain=constraint(BOS, size),
            **options,
        )
    )(state)
    ids, lengths = found.ids.numpy()[:, 0], found.lengths.numpy()[:, 0]
    generations = []
    for row, length in zip(ids, lengths):
        assert row[length - 1] == END
        assert (row[length:] == PAD).all()
        generations.append(row[: length - 1].tolist())
    return generations


def repeats(ids, size):
    runs = [tuple(ids[i : i + size]) for i in range(len(ids) - size + 1)]
    return len(runs) - len(set(runs))


@pytest.mark.parametrize(("beam_size", "size"), [(1, 2), (3, 3)])
def test_a_thousand_random_generations_keep_the_rules(beam_size, size, rng):
    options = {"min_length": 6, "length_penalty": 1.0, "early_stopping": True}
    found = random_generations(rng, beam_size, size, **options)
    assert len(found) == GENERATIONS
    for ids in found:
        assert 6 <= len(ids) <= 20
        assert ids[0] == BOS and BOS not in ids[1:]
        assert PAD not in ids and END not in ids
        assert repeats(ids, size) == 0
    lengths = [len(ids) for ids in found]
    assert min(lengths) == 6 and len(set(lengths)) > 5
    # The rules are what keeps them: without, they are broken.
    free = random_generations(rng, beam_size, 0, **options)
    assert sum(repeats(ids, size) > 0 for ids in free) > GENERATIONS / 2
    short = random_generations(
        rng, beam_size, size, **options | {"min_length": 0}
    )
    assert sum(len(ids) < 6 for ids in short) > GENERATIONS / 10


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_forbidden_is_what_would_repeat(size, rng):
    time, vocabulary = 9, 5
    ids = rng.integers(1, vocabulary, (40, 2, time)).astype("int32")
    constrain = no_repeated_ngrams(size)
    for index in range(time):
        # What follows is not generated yet.
        so_far = np.where(np.arange(time) < index, ids, PAD)
        found = constrain(
            ops.zeros((40, 2, vocabulary)),
            ops.convert_to_tensor(so_far),
            ops.convert_to_tensor(index),
        )
        for row in range(40):
            for beam in range(2):
                past = so_far[row, beam, :index].tolist()
                expected = [
                    bool(repeats([*past, token], size) - repeats(past, size))
                    for token in range(vocabulary)
                ]
                assert np.isneginf(found[row, beam]).tolist() == expected, past


def test_the_end_is_forced_whatever_a_constraint_says():
    found = beam_search(
        lambda ids, index, state: (ops.zeros((2, 1, 4)) - 1.4, state),
        ops.zeros((2, 1, 1)),
        ops.convert_to_tensor([3, 2]),
        3,
        1,
        special=SPECIAL,
        # Only the id 3.
        constrain=lambda x, ids, index: ops.where(
            ops.arange(4) == 3, x, -np.inf
        ),
    )
    assert found.ids.numpy().tolist() == [[[3, 3, 3, END]], [[3, 3, END, PAD]]]


# --- BART --------------------------------------------------------------------

CONFIGURATION = Configuration(
    num_layers=2, width=16, feed_forward=32, num_heads=2, dropout=0.1
)
SOURCE = np.array(
    [[BOS, 4, 5, 6, 7, 8, END], [BOS, 9, 4, END, 0, 0, 0], [BOS, END] + [0] * 5]
)
DECODING = Decoding(beam_size=3, length_penalty=1.0, min_length=4, max_length=9)


def random_bart(rng, dtype="float32"):
    model = small_bart(CONFIGURATION, 20, 16, dtype)
    for weight in model.trainable_variables:
        noise = rng.normal(size=weight.shape) * 0.4
        weight.assign(weight + noise.astype("float32"))
    return model


def uncached_step(model, source_ids, pad, beam_size, time):
    """A step that runs the whole model on all ids so far, as in training."""
    source_ids = ops.repeat(source_ids, beam_size, axis=0)
    visible = ops.cast(source_ids != pad, "int32")

    def step(ids, index, past):
        past = ops.where(ops.arange(time) == index, ids[:, :, None], past)
        flat = ops.reshape(past, (-1, time))
        logits = model(
            {
                "encoder_token_ids": source_ids,
                "encoder_padding_mask": visible,
                "decoder_token_ids": flat,
                # Padding is on the right, and attention is causal.
                "decoder_padding_mask": ops.ones_like(flat),
            },
            training=False,
        )
        logits = ops.take(logits, index, axis=1)
        logits = ops.reshape(logits, (-1, beam_size, logits.shape[-1]))
        return ops.log_softmax(ops.cast(logits, "float32")), past

    shape = (ops.shape(source_ids)[0] // beam_size, beam_size, time)
    return step, ops.full(shape, pad, "int32")


@pytest.mark.parametrize("beam_size", [1, 3])
def test_cached_decoding_equals_uncached(beam_size, rng, monkeypatch):
    model = random_bart(rng)
    decoding = dataclasses.replace(DECODING, beam_size=beam_size)
    cached = summarize(model, SOURCE, BOS, SPECIAL, decoding)
    monkeypatch.setattr(summarizer, "cached_step", uncached_step)
    uncached = summarize(model, SOURCE, BOS, SPECIAL, decoding)
    np.testing.assert_array_equal(cached.ids, uncached.ids)
    np.testing.assert_allclose(cached.scores, uncached.scores, atol=1e-4)
    # Not all alike, and not of one id.
    assert len({tuple(row) for row in cached.ids[:, 0].numpy()}) > 1


def test_scores_are_those_of_teacher_forcing(rng):
    model = random_bart(rng)
    found = summarize(model, SOURCE, BOS, SPECIAL, DECODING)
    for row, source in enumerate(SOURCE):
        length = int(found.lengths[row, 0])
        ids = found.ids.numpy()[row, 0, :length]
        inputs = {
            "source_ids": tf.constant(source[None, source != PAD], tf.int32),
            "target_ids": tf.constant([[END, *ids[:-1]]], tf.int32),
        }
        logits = model(bart_inputs(inputs, PAD), training=False)
        steps = ops.log_softmax(logits).numpy()[0, np.arange(length), ids]
        np.testing.assert_allclose(
            found.scores[row, 0], steps.sum() / length, atol=1e-4
        )


def test_padding_of_articles_changes_no_summary(rng):
    model = random_bart(rng)
    together = summarize(model, SOURCE, BOS, SPECIAL, DECODING)
    for row, source in enumerate(SOURCE):
        alone = summarize(
            model, source[None, source != PAD], BOS, SPECIAL, DECODING
        )
        np.testing.assert_array_equal(together.ids[row], alone.ids[0])
        np.testing.assert_allclose(
            together.scores[row], alone.scores[0], atol=1e-4
        )


def test_half_precision_decodes_by_single_precision_scores(rng):
    model = random_bart(rng, "mixed_bfloat16")
    found = summarize(model, SOURCE, BOS, SPECIAL, DECODING)
    assert found.scores.dtype == tf.float32
    assert (found.lengths.numpy()[:, 0] >= 5).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beam_size": 0}, "`beam_size` to be at least 1"),
        ({"max_length": 0}, "`max_length` to be at least 1"),
        ({"min_length": -1}, "`min_length` to be at least 0"),
        ({"no_repeat_ngram_size": -1}, "`no_repeat_ngram_size` to be at least"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message, rng):
    decoding = dataclasses.replace(DECODING, **changes)
    with pytest.raises(ValueError, match=message):
        summarize(random_bart(rng), SOURCE, BOS, SPECIAL, decoding)
