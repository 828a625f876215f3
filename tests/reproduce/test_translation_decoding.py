"""Beam search against searches written another way, and translation with it."""

import itertools

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf

from benchmarks.decoding import uncached_step
from reproduce.data.special_ids import BOS
from reproduce.data.special_ids import EOS
from reproduce.data.special_ids import PAD
from reproduce.decoding import translator as decoding
from reproduce.export import export_functions
from reproduce.models.translation import Transformer

ops = keras.ops
VOCABULARY, STATES = 6, 7
WORDS = (3, 4, 5)
PENALTIES = [0.0, 0.6, 1.0, 2.0, -0.5]


class Table:
    """Log-probabilities that depend on the sentence and the whole prefix."""

    def __init__(self, rng, batch_size, time, sharpness=2.0):
        shape = (batch_size, time + 1, STATES, VOCABULARY, VOCABULARY)
        logits = sharpness * rng.normal(size=shape)
        self.values = np.log(reference.softmax(logits)).astype("float32")
        self.calls = 0

    @staticmethod
    def _next_state(state, token):
        return (3 * state + token) % STATES

    def step(self, ids, index, state):
        self.calls += 1
        state = self._next_state(state, ids)
        batch, time = self.values.shape[:2]
        sentence = ops.reshape(ops.arange(batch), (-1, 1))
        row = ((sentence * time + index) * STATES + state) * VOCABULARY + ids
        rows = ops.reshape(self.values, (-1, VOCABULARY))
        return ops.take(ops.convert_to_tensor(rows), row, axis=0), state

    def search(self, limits, beam_size, **settings):
        return decoding.beam_search(
            self.step,
            ops.zeros((len(limits), beam_size), "int32"),
            ops.convert_to_tensor(limits, "int32"),
            self.values.shape[1] - 1,
            beam_size,
            **settings,
        )

    def of_next(self, sentence, prefix):
        state, last = 0, BOS
        for last in (BOS, *prefix):
            state = self._next_state(state, last)
        return self.values[sentence, len(prefix), state, last]

    def total(self, sentence, ids):
        return sum(
            float(self.of_next(sentence, ids[:i])[token])
            for i, token in enumerate(ids)
        )


def assert_hypotheses(found, sentence, expected):
    """`expected`: pairs of score and ids, best first."""
    scores = ops.convert_to_numpy(found.scores)[sentence]
    lengths = ops.convert_to_numpy(found.lengths)[sentence]
    for place, ids in enumerate(ops.convert_to_numpy(found.ids)[sentence]):
        if place >= len(expected):
            assert scores[place] == -np.inf
            assert lengths[place] == 0
            assert (ids == PAD).all()
            continue
        score, sequence = expected[place]
        assert tuple(ids[: lengths[place]]) == tuple(sequence)
        assert (ids[lengths[place] :] == PAD).all()
        np.testing.assert_allclose(scores[place], score, rtol=1e-5)


@pytest.mark.parametrize(
    "length_penalty, min_length", [*((p, 0) for p in PENALTIES), (1.0, 2)]
)
def test_a_wide_beam_finds_what_exhaustive_search_does(
    length_penalty, min_length, rng
):
    limits = [4, 3, 1, 0]
    table = Table(rng, len(limits), max(limits))
    # No step has more continuations than fit into the beam.
    found = table.search(
        limits, 128, length_penalty=length_penalty, min_length=min_length
    )
    for sentence, limit in enumerate(limits):
        everything = []
        for length in range(min(min_length, limit), limit + 1):
            for words in itertools.product(WORDS, repeat=length):
                ids = (*words, EOS)
                total = table.total(sentence, ids)
                everything.append((total / len(ids) ** length_penalty, ids))
        assert len(everything) <= 128
        assert_hypotheses(found, sentence, sorted(everything, reverse=True))


def plain_beam_search(
    table, sentence, limit, beam_size, penalty, min_length, early_stopping
):
    """One sentence, Python lists, and never an early end but fairseq's."""
    alive, finished = [(0.0, ())], []
    for index in range(limit + 1):
        candidates = []
        for total, ids in alive:
            log_probabilities = table.of_next(sentence, ids)
            for token in (EOS, *WORDS):
                if token == EOS and index < min(min_length, limit):
                    continue
                if token != EOS and index == limit:
                    continue
                candidates.append(
                    (total + float(log_probabilities[token]), (*ids, token))
                )
        candidates.sort(reverse=True)
        for total, ids in candidates[:beam_size]:
            if ids[-1] == EOS:
                finished.append((total / len(ids) ** penalty, ids))
        alive = [c for c in candidates if c[1][-1] != EOS][:beam_size]
        if early_stopping and len(finished) >= beam_size:
            break
    return sorted(finished, reverse=True)[:beam_size]


@pytest.mark.parametrize(
    "length_penalty, early_stopping",
    [*((p, False) for p in PENALTIES), (0.6, True), (1.0, True)],
)
@pytest.mark.parametrize("beam_size", [1, 3])
def test_narrow_beams_against_a_plain_search(
    beam_size, length_penalty, early_stopping, rng
):
    limits = [9, 9, 9, 8, 7, 5, 2, 9] * 3
    for sharpness, min_length in [(1.0, 0), (4.0, 3)]:
        table = Table(rng, len(limits), 9, sharpness)
        found = table.search(
            limits,
            beam_size,
            length_penalty=length_penalty,
            min_length=min_length,
            early_stopping=early_stopping,
        )
        for sentence, limit in enumerate(limits):
            expected = plain_beam_search(
                table,
                sentence,
                limit,
                beam_size,
                length_penalty,
                min_length,
                early_stopping or beam_size == 1,
            )
            assert_hypotheses(found, sentence, expected)


@pytest.mark.parametrize("length_penalty, most", [(0.0, 4), (1.0, 14)])
def test_stops_once_nothing_can_get_better(length_penalty, most, rng):
    table = Table(rng, 2, 20, sharpness=0.1)
    logits = np.float64(table.values)
    logits[..., EOS] += 6.0
    table.values = np.log(reference.softmax(logits)).astype("float32")
    table.search([20, 20], 2, length_penalty=length_penalty)
    assert 2 <= table.calls <= most


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"beam_size": 0}, "`beam_size` to be at least 1"),
        ({"beam_size": 2, "min_length": -1}, "`min_length` to be at least 0"),
    ],
)
def test_search_refuses(arguments, message, rng):
    with pytest.raises(ValueError, match=message):
        Table(rng, 1, 2).search([2], **arguments)


class Biased(Transformer):
    """A `Transformer` that prefers some ids."""

    bias = np.zeros(VOCABULARY, "float32")

    def call(self, inputs, training=None):
        return super().call(inputs, training=training) + self.bias

    def logits(self, hidden):
        return super().logits(hidden) + self.bias


def random_model(rng, model_class=Transformer, num_layers=1):
    model = model_class(
        vocabulary_size=VOCABULARY,
        num_layers=num_layers,
        width=8,
        feed_forward=12,
        num_heads=2,
        dropout=0.3,
        attention_dropout=0.3,
        activation_dropout=0.3,
    )
    for weight in model.trainable_variables:
        weight.assign(weight + 0.4 * rng.normal(size=weight.shape))
    return model


def biased_model(rng, **biases):
    model = random_model(rng, Biased)
    ids = {"pad": PAD, "bos": BOS, "eos": EOS}
    model.bias = np.zeros(VOCABULARY, "float32")
    for name, bias in biases.items():
        model.bias[ids[name]] = bias
    return model


@pytest.fixture
def model(rng):
    return random_model(rng)


SOURCE = np.array(
    [[3, 4, 5, 5, 3, 2], [5, 4, 2, 0, 0, 0], [2, 0, 0, 0, 0, 0]], "int32"
)


def log_probabilities(model, source_ids, target_ids):
    """Teacher-forced, of the words after each of `target_ids`."""
    logits = model({"source_ids": source_ids, "target_ids": target_ids})
    return np.log(reference.softmax(np.float64(logits)))


def greedy(model, source, limit):
    ids = [BOS]
    while len(ids) <= limit:
        following = log_probabilities(model, source[None], np.array([ids]))
        following[..., [PAD, BOS]] = -np.inf
        if len(ids) == 1:
            following[..., EOS] = -np.inf
        ids.append(int(following[0, -1].argmax()))
        if ids[-1] == EOS:
            return ids[1:]
    return [*ids[1:], EOS]


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_one_beam_is_greedy_search(length_penalty, rng):
    model = biased_model(rng, eos=1.0)
    found = decoding.translate(
        model,
        SOURCE,
        1,
        length_penalty=length_penalty,
        max_length_factor=1.0,
        max_length_offset=4,
    )
    lengths = np.array(found.lengths)[:, 0]
    for sentence, source in enumerate(SOURCE):
        limit = np.count_nonzero(source) + 4
        expected = greedy(model, source, limit)
        assert lengths[sentence] == len(expected)
        ids = np.array(found.ids)[sentence, 0, : len(expected)]
        np.testing.assert_array_equal(ids, expected)
    # Both ways to end are there.
    limits = np.count_nonzero(SOURCE, axis=1) + 5
    assert (lengths < limits).any()


@pytest.mark.parametrize("prefix_only", [False, True])
def test_steps_agree_with_teacher_forcing(prefix_only, rng):
    model = random_model(rng, num_layers=2)
    beam_size, time = 3, 5
    source = ops.convert_to_tensor(SOURCE)
    cached, cache = decoding.cached_step(model, source, beam_size, time)
    uncached, past = uncached_step(model, source, beam_size, time, prefix_only)
    ids = rng.integers(3, VOCABULARY, (len(SOURCE), beam_size, time))
    ids[:, :, 0] = BOS
    forced = [log_probabilities(model, SOURCE, ids[:, i]) for i in range(3)]
    for index in range(time):
        now = ops.convert_to_tensor(ids[:, :, index], "int32")
        ours, cache = cached(now, ops.convert_to_tensor(index), cache)
        theirs, past = uncached(now, ops.convert_to_tensor(index), past)
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
        expected = np.stack([f[:, index] for f in forced], axis=1)
        np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize(
    "length_penalty, make_step",
    [(0.0, None), (1.5, None), (0.6, uncached_step)],
)
def test_scores_are_those_of_teacher_forcing(length_penalty, make_step, model):
    found = decoding.translate(
        model,
        SOURCE,
        4,
        length_penalty,
        max_length_offset=3,
        make_step=make_step,
    )
    ids, scores, lengths = (np.array(part) for part in found)
    assert (np.diff(scores) <= 0).all()
    assert np.isfinite(scores).all()
    for place in range(4):
        mine = ids[:, place]
        shifted = np.pad(mine, ((0, 0), (1, 0)), constant_values=BOS)[:, :-1]
        forced = log_probabilities(model, SOURCE, shifted)
        of_ids = np.take_along_axis(forced, mine[..., None], -1)[..., 0]
        for sentence, length in enumerate(lengths[:, place]):
            assert mine[sentence, length - 1] == EOS
            assert (mine[sentence, : length - 1] > EOS).all()
            assert (mine[sentence, length:] == PAD).all()
            np.testing.assert_allclose(
                scores[sentence, place],
                of_ids[sentence, :length].sum() / length**length_penalty,
                atol=1e-5,
            )


@pytest.mark.parametrize("early_stopping", [False, True])
def test_padding_changes_nothing(early_stopping, model):
    settings = {
        "beam_size": 3,
        "early_stopping": early_stopping,
        "max_length_offset": 3,
    }
    together = decoding.translate(model, SOURCE, **settings)
    wider = decoding.translate(
        model, np.pad(SOURCE, ((0, 0), (0, 3))), **settings
    )
    for sentence, source in enumerate(SOURCE):
        alone = decoding.translate(
            model, source[None, : np.count_nonzero(source)], **settings
        )
        time = alone.ids.shape[-1]
        for other in (together, wider):
            np.testing.assert_array_equal(
                other.ids[sentence, :, :time], alone.ids[0]
            )
            assert not np.any(other.ids[sentence, :, time:])
            np.testing.assert_allclose(
                other.scores[sentence], alone.scores[0], atol=1e-5
            )
            np.testing.assert_array_equal(
                other.lengths[sentence], alone.lengths[0]
            )


def test_graphs_xla_and_saved_model_agree(model, tmp_path):
    def translate(source_ids):
        return decoding.translate(model, source_ids, 3)._asdict()

    expected = translate(SOURCE)
    signature = [tf.TensorSpec([None, None], tf.int32, "source_ids")]
    compiled = tf.function(translate, signature, jit_compile=True)
    export_functions(
        tmp_path / "saved", {"serve": (translate, signature)}, [model]
    )
    saved = tf.saved_model.load(str(tmp_path / "saved"))
    for way in (compiled, saved.serve):
        found = way(tf.constant(SOURCE))
        np.testing.assert_array_equal(found["ids"], expected["ids"])
        np.testing.assert_array_equal(found["lengths"], expected["lengths"])
        np.testing.assert_allclose(
            found["scores"], expected["scores"], atol=1e-5
        )


@pytest.mark.parametrize(
    "beam_size, factor, offset, expected",
    [
        (1, 1.2, 3, [10, 6, 4]),
        (2, 0.0, 3, [3, 3, 3]),
        # 7, though 0.7 is a little less than that in binary.
        (2, 0.7, 2.8, [7, 4, 3]),
        (3, 0.5, 0, [3, 1, 0]),
    ],
)
def test_maximum_lengths(beam_size, factor, offset, expected, rng):
    model = biased_model(rng, eos=-30.0)
    found = decoding.translate(
        model,
        SOURCE,
        beam_size,
        max_length_factor=factor,
        max_length_offset=offset,
    )
    np.testing.assert_array_equal(
        np.array(found.lengths)[:, 0], np.array(expected) + 1
    )
    assert found.ids.shape == (3, beam_size, max(expected) + 1)
    # Only the empty translation.
    if min(expected) == 0:
        np.testing.assert_array_equal(
            np.array(found.lengths)[2], [1] + [0] * (beam_size - 1)
        )


@pytest.mark.parametrize("min_length", [0, 4, 30])
def test_minimum_length(min_length, rng):
    model = biased_model(rng, eos=30.0)
    found = decoding.translate(
        model,
        SOURCE,
        2,
        max_length_factor=0,
        max_length_offset=6,
        min_length=min_length,
    )
    lengths = np.array(found.lengths)
    np.testing.assert_array_equal(lengths[:, 0], min(min_length, 6) + 1)
    assert (lengths > min(min_length, 6)).all()


def test_generates_neither_padding_nor_a_beginning(rng):
    model = biased_model(rng, pad=30.0, bos=29.0)
    found = decoding.translate(model, SOURCE, 3, max_length_offset=3)
    for ids, length in zip(
        np.reshape(found.ids, (9, -1)), np.reshape(found.lengths, 9)
    ):
        assert length > 0
        assert (ids[:length] > BOS).all()


@pytest.mark.parametrize("name", ["max_length_factor", "max_length_offset"])
def test_translate_refuses(name, model):
    with pytest.raises(ValueError, match=f"`{name}` to be at least 0"):
        decoding.translate(model, SOURCE, **{name: -1})
