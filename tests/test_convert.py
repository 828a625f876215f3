"""`convert_alpha` against every implementation's loss, written as its own code.

The model under test has the outputs of its two passes as its only weights, so
that a gradient is that by both outputs, and nothing is left out of it.
"""

import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from rdrop_keras import RDropModel
from rdrop_keras import convert
from rdrop_keras import convert_alpha

pytestmark = pytest.mark.only(
    "tensorflow",
    reason="pure Python, compared with formulas in TensorFlow and float64",
)
ROOT = pathlib.Path(__file__).resolve().parents[1]
SHAPES = [(1, 2), (3, 5), (8, 2), (16, 11)]
PADDED_SHAPES = [(2, 3, 4), (5, 7, 3)]


@pytest.fixture(autouse=True)
def float64():
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")


class TwoOutputs(RDropModel):
    """Returns its two weights in turn."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs_of_passes = [
            self.add_weight(
                shape=output.shape,
                initializer=lambda shape, dtype, output=output: output,
            )
            for output in outputs
        ]
        self.passes = 0

    def call(self, inputs, training=None):
        self.passes += 1
        return self.outputs_of_passes[(self.passes - 1) % 2] * 1.0


def our_gradient(outputs, y, alpha, loss):
    model = TwoOutputs(outputs)
    model.compile("sgd", loss, rdrop=alpha, run_eagerly=True)
    with tf.GradientTape() as tape:
        value, _ = model.compute_rdrop_loss(np.zeros((len(y), 1)), y)
    return flat(tape.gradient(value, model.trainable_weights))


def their_gradient(loss, outputs, *arguments):
    outputs = [tf.Variable(output) for output in outputs]
    with tf.GradientTape() as tape:
        value = loss(*outputs, *arguments)
    return flat(tape.gradient(value, outputs))


def flat(gradients):
    return np.concatenate([np.ravel(gradient) for gradient in gradients])


def check_parallel(theirs, ours, factor):
    norms = np.linalg.norm(theirs), np.linalg.norm(ours)
    assert norms[1] > 1e-6
    np.testing.assert_allclose(
        theirs @ ours / (norms[0] * norms[1]), 1.0, atol=1e-6
    )
    np.testing.assert_allclose(norms[0] / norms[1], factor, rtol=1e-6)


# PyTorch's functions, as far as the implementations use them.


def cross_entropy(logits, y):
    """The mean over all rows, as `nn.CrossEntropyLoss()`."""
    picked = tf.gather(tf.nn.log_softmax(logits), y, batch_dims=1)
    return -tf.reduce_mean(picked)


def kl_div(log_p, q):
    """`kl_div(input, target, reduction="none")`: not reduced over anything."""
    return q * (tf.math.log(q) - log_p)


def kl_of_logits(p, q):
    """KL(q || p), element by element, the two steps every code begins with."""
    return kl_div(tf.nn.log_softmax(p), tf.nn.softmax(q))


def sum_of_both(p, q):
    return tf.reduce_sum(kl_of_logits(p, q)) + tf.reduce_sum(kl_of_logits(q, p))


def mse(a, b):
    return tf.reduce_mean((a - b) ** 2)


def interleave(*tensors):
    """Rows a1, b1, a2, b2, ..."""
    pairs = tf.stack(tensors, axis=1)
    return tf.reshape(pairs, (-1, *pairs.shape[2:]))


# The implementations, by rows of a batch.


def paper(z1, z2, y, value):
    """Eq. 4: for each example, then the mean, in probabilities."""
    total = 0.0
    for a, b, label in zip(tf.unstack(z1), tf.unstack(z2), y):
        p, q = tf.nn.softmax(a), tf.nn.softmax(b)
        nll = -tf.math.log(p[label]) - tf.math.log(q[label])
        kl_pq = tf.reduce_sum(p * tf.math.log(p / q))
        kl_qp = tf.reduce_sum(q * tf.math.log(q / p))
        total += nll + value / 2 * (kl_pq + kl_qp)
    return total / len(y)


def authors_readme(z1, z2, y, value):
    ce = 0.5 * (cross_entropy(z1, y) + cross_entropy(z2, y))
    return ce + value * sum_of_both(z1, z2) / 2


def authors_bert(z1, z2, y, value):
    loss = cross_entropy(z1, y)
    loss += cross_entropy(z2, y)
    return loss + value * sum_of_both(z1, z2) / 2.0


def authors_roberta(z1, z2, y, value):
    loss = 0.5 * cross_entropy(z1, y)
    return loss + value * sum_of_both(z1, z2) / 2


def authors_vit(z1, z2, y, value):
    loss = cross_entropy(z1, y) + cross_entropy(z2, y)
    return loss + value * sum_of_both(z1, z2)


def bojone(z1, z2, y, value):
    """`iflytek.py`, on softmax outputs: each row twice in turn."""
    y_true, y_pred = np.repeat(y, 2), tf.nn.softmax(interleave(z1, z2))

    def kld(p, q):
        return tf.reduce_sum(p * tf.math.log(p / q), axis=-1)

    picked = tf.gather(y_pred, y_true, batch_dims=1)
    loss1 = tf.reduce_mean(-tf.math.log(picked))
    loss2 = kld(y_pred[::2], y_pred[1::2]) + kld(y_pred[1::2], y_pred[::2])
    return loss1 + tf.reduce_mean(loss2) / 4 * value


def bert4torch(z1, z2, y, value):
    """`rank="updown"`."""
    y_pred, y_true = tf.concat([z1, z2], 0), np.concatenate([y, y])
    half = len(y_true) // 2
    first, second = y_pred[:half], y_pred[half:]
    both = kl_of_logits(first, second) + kl_of_logits(second, first)
    return cross_entropy(y_pred, y_true) + tf.reduce_mean(both) / 4 * value


def paddlenlp_prompt(z1, z2, y, value):
    loss = cross_entropy(z1, y)
    ce = (cross_entropy(z2, y) + loss) * 0.5
    return ce + value * (sum_of_both(z1, z2) / 2)


def paddlenlp_question_matching(z1, z2, y, value):
    return cross_entropy(z1, y) + sum_of_both(z1, z2) / 2 * value


def mindpet(z1, z2, y, value):
    logits, labels = interleave(z1, z2), np.repeat(y, 2)
    both = sum_of_both(logits[0::2], logits[1::2])
    return cross_entropy(logits, labels) + both / 4 * value


ROWS = {
    "paper": (paper, 2.0),
    "authors_readme": (authors_readme, 1.0),
    "authors_bert": (authors_bert, 2.0),
    "authors_vit": (authors_vit, 2.0),
    "bojone": (bojone, 1.0),
    "bert4torch": (bert4torch, 1.0),
    "paddlenlp_prompt": (paddlenlp_prompt, 1.0),
    "mindpet": (mindpet, 1.0),
}


# The implementations, by tokens of which some are padding.


def token_nll(logits, y):
    return -tf.gather(tf.nn.log_softmax(logits), y, batch_dims=2)


def authors_fairseq(z1, z2, y, pad, value):
    """Both halves, summed over the tokens; the trainer divides by those of
    one half."""
    lprobs, target = tf.concat([z1, z2], 0), np.concatenate([y, y])
    pads = np.concatenate([pad, pad])
    loss = tf.reduce_sum(tf.where(pads, 0.0, token_nll(lprobs, target)))
    p, q = tf.split(lprobs, 2)
    p_loss = tf.where(pad[..., None], 0.0, kl_of_logits(p, q))
    q_loss = tf.where(pad[..., None], 0.0, kl_of_logits(q, p))
    kl_loss = (tf.reduce_sum(p_loss) + tf.reduce_sum(q_loss)) / 2
    return (loss + value * kl_loss) / (~pad).sum()


def fairseq(z1, z2, y, pad, value):
    """The same with rows and time in one axis."""
    classes = z1.shape[-1]
    z = tf.reshape(tf.concat([z1, z2], 0), (-1, classes))
    target = np.where(pad, 0, y).ravel()
    mask = pad.ravel()[:, None]
    nll = -tf.gather(
        tf.nn.log_softmax(z), np.tile(target, 2), axis=1, batch_dims=1
    )
    loss = tf.reduce_sum(tf.where(np.tile(mask[:, 0], 2), 0.0, nll))
    p, q = tf.split(tf.nn.log_softmax(z), 2)
    terms = kl_div(p, tf.exp(q)) + kl_div(q, tf.exp(p))
    loss += value * tf.reduce_sum(tf.where(mask, 0.0, terms)) / 2
    sample_size = (~pad).sum()
    return loss / sample_size


def ofa(z1, z2, y, pad, value):
    """Padding is removed first; divided by the tokens of both halves."""
    lprobs = tf.nn.log_softmax(tf.concat([z1, z2], 0))
    keep = ~np.concatenate([pad, pad])
    lprobs = tf.boolean_mask(lprobs, keep)
    target = np.concatenate([y, y])[keep]
    loss = -tf.gather(lprobs, target, batch_dims=1)
    tokens = loss.shape[0]
    p, q = tf.split(lprobs, 2)
    both = kl_div(p, tf.exp(q)) + kl_div(q, tf.exp(p))
    total = tf.reduce_sum(loss) + tf.reduce_sum(both) / 2 * value
    return total / tokens


def authors_roberta_token(z1, z2, y, pad, value):
    def mean_nll(z):
        return tf.reduce_mean(token_nll(z, y)[~pad])

    both = kl_of_logits(z1, z2) + kl_of_logits(z2, z1)
    kl_loss = tf.reduce_sum(tf.where(pad[..., None], 0.0, both))
    return mean_nll(z1) + mean_nll(z2) + value * kl_loss


def bojone_csl(z1, z2, y, pad, value):
    y_pred = tf.nn.softmax(interleave(z1, z2))
    y_true, y_mask = np.repeat(y, 2, 0), 1.0 - np.repeat(pad, 2, 0)
    picked = tf.gather(y_pred, y_true, batch_dims=2)
    loss1 = tf.reduce_sum(-tf.math.log(picked) * y_mask) / y_mask.sum()
    p, q = y_pred[::2], y_pred[1::2]
    loss2 = tf.reduce_sum((p - q) * tf.math.log(p / q), axis=-1)
    loss2 = tf.reduce_sum(loss2 * y_mask[::2]) / y_mask[::2].sum()
    return loss1 + loss2 / 4 * value


TOKENS = {
    "authors_fairseq": (authors_fairseq, 2.0),
    "fairseq": (fairseq, 2.0),
    "ofa": (ofa, 1.0),
    "authors_roberta_token": (authors_roberta_token, 2.0),
    "bojone": (bojone_csl, 1.0),
}


# The implementations for regression.


def authors_bert_regression(o1, o2, y, value):
    return mse(o1, y) + mse(o2, y) + value * mse(o1, o2)


def authors_roberta_regression(o1, o2, y, value):
    return 0.5 * mse(o1, y) + value * mse(o1, o2)


# Those that train on the task loss of the first pass only, and the weight
# that they give it.
ONE_TASK_LOSS = {
    "authors_roberta": (authors_roberta, 0.5),
    "paddlenlp_question_matching": (paddlenlp_question_matching, 1.0),
    "authors_roberta_regression": (authors_roberta_regression, 0.5),
}


def outputs_for(rng, shape):
    return [rng.normal(size=shape) * 2, rng.normal(size=shape) * 2]


def sparse(ignore_class=None):
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=ignore_class
    )


def case_for(source, rng, shape):
    """Outputs, targets and our loss, for rows or regression."""
    if "regression" in source:
        outputs = outputs_for(rng, (shape[0], 1))
        return outputs, rng.normal(size=(shape[0], 1)), "mse"
    outputs = outputs_for(rng, shape)
    return outputs, rng.integers(0, shape[1], shape[0]), sparse()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("source", ROWS)
def test_gradient_is_parallel(source, shape, rng):
    theirs, factor = ROWS[source]
    outputs, y, loss = case_for(source, rng, shape)
    for value in (0.3, 5.0):
        alpha = convert_alpha(value, source, *shape)
        check_parallel(
            their_gradient(theirs, outputs, y, value),
            our_gradient(outputs, y, alpha, loss),
            factor,
        )
    assert convert.SOURCES[source].task_weight == factor


@pytest.mark.parametrize("shape", PADDED_SHAPES, ids=str)
@pytest.mark.parametrize("source", TOKENS)
def test_gradient_is_parallel_over_padded_tokens(source, shape, rng):
    theirs, factor = TOKENS[source]
    outputs = outputs_for(rng, shape)
    pad = rng.random(shape[:-1]) < 0.4
    pad[0, 0], pad[-1, -1] = False, True
    y = rng.integers(0, shape[-1], shape[:-1])
    tokens = int((~pad).sum())
    for value in (0.05, 5.0):
        alpha = convert_alpha(value, source, tokens, shape[-1])
        check_parallel(
            their_gradient(theirs, outputs, y, pad, value),
            our_gradient(outputs, np.where(pad, -1, y), alpha, sparse(-1)),
            factor,
        )
    assert convert.SOURCES[source].task_weight == factor


@pytest.mark.parametrize("rows", [1, 7])
def test_gradient_is_parallel_for_regression(rows, rng):
    outputs, y, loss = case_for("authors_bert_regression", rng, (rows, 1))
    theirs = their_gradient(authors_bert_regression, outputs, y, 1.0)
    for source in ("authors_bert_regression", "paper"):
        alpha = convert_alpha(1.0, source)
        ours = our_gradient(outputs, y, alpha, loss)
        check_parallel(theirs, ours, convert.SOURCES[source].task_weight)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("source", ONE_TASK_LOSS)
def test_one_task_loss_keeps_the_ratio_to_the_whole_task_weight(
    source, shape, rng
):
    theirs, weight = ONE_TASK_LOSS[source]
    outputs, y, loss = case_for(source, rng, shape)
    value = 0.7
    alpha = convert_alpha(value, source, *shape)
    ours = our_gradient(outputs, y, alpha, loss)
    # The consistency alone is parallel, and as much larger than ours as the
    # total weight of the task losses is.
    task, our_task = (
        their_gradient(theirs, outputs, y, 0.0),
        our_gradient(outputs, y, 0.0, loss),
    )
    both = their_gradient(theirs, outputs, y, value)
    check_parallel(both - task, ours - our_task, weight)
    # With the passes in either order, so is the whole.
    swapped = their_gradient(theirs, outputs[::-1], y, value)
    swapped = np.concatenate(np.split(swapped, 2)[::-1])
    check_parallel((both + swapped) / 2, ours, weight)
    # In one order it is not: pass 2 has no task loss.
    cosine = both @ ours / np.linalg.norm(both) / np.linalg.norm(ours)
    assert cosine < 1 - 1e-6
    assert not np.split(task, 2)[1].any()
    assert convert.SOURCES[source].task_weight == weight


def test_every_source_is_tested():
    tested = {*ROWS, *TOKENS, *ONE_TASK_LOSS, "authors_bert_regression"}
    assert tested == set(convert.SOURCES)


def test_published_values():
    """As the papers, READMEs and sources give them."""
    assert convert_alpha(5, "authors_fairseq") == 5.0
    assert convert_alpha(0.3, "authors_vit", batch_size=32) == 19.2
    assert convert_alpha(0.5, "authors_bert", 16) == 8.0
    assert convert_alpha(0.7, "authors_roberta", 16) == pytest.approx(44.8)
    assert convert_alpha(4, "bojone", batch_size=None) == 4.0
    assert type(convert_alpha(np.float32(1), "paper")) is float
    assert convert_alpha(0, "paper") == 0.0


@pytest.mark.parametrize("source", convert.WITHOUT_EQUIVALENT)
def test_sources_without_equivalent_say_why(source):
    with pytest.raises(ValueError, match="no alpha|no divergence"):
        convert_alpha(1.0, source, batch_size=2, num_classes=2)


def test_needed_sizes_are_asked_for():
    for source, entry in convert.SOURCES.items():
        if entry.summed:
            with pytest.raises(ValueError, match=f"batch_size.*'{source}'"):
                convert_alpha(1.0, source, num_classes=3)
        elif entry.over_classes:
            with pytest.raises(ValueError, match=f"num_classes.*'{source}'"):
                convert_alpha(1.0, source, batch_size=3)
        else:
            convert_alpha(1.0, source)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ((1.0, "drop-r"), ValueError, "one of .*'paper'.*'mindpet'"),
        ((1.0, None), ValueError, "Received: source=None"),
        ((1.0, ["paper"]), ValueError, "Received: source="),
        ((-1.0, "paper"), ValueError, "finite and >= 0"),
        ((float("nan"), "paper"), ValueError, "finite and >= 0"),
        ((True, "paper"), TypeError, "`value` to be a number"),
        (("5", "paper"), TypeError, "`value` to be a number"),
        ((1.0, "authors_vit", 0), ValueError, "`batch_size` to be at least 1"),
        ((1.0, "authors_vit", 2.5), TypeError, "`batch_size` to be a whole"),
        ((1.0, "authors_vit", True), TypeError, "to be a whole number"),
        ((1.0, "bert4torch", None, 1), ValueError, "`num_classes` to be at"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        convert_alpha(*arguments)


def test_the_page_agrees_with_the_code():
    page = (ROOT / "docs" / "coming_from.md").read_text()
    rows = re.findall(
        r'^\| `"(\w+)"` \| ([^|]*) \| `([^`|]+)` \| `([^`|]+)` \| ([^|]+) \|$',
        page,
        re.MULTILINE,
    )
    assert [row[0] for row in rows] == list(convert.SOURCES)
    for source, where, formula, alpha, weight in rows:
        entry = convert.SOURCES[source]
        assert (where, formula) == (entry.where, entry.formula)
        for value, batch_size, classes in [(0.5, 8, 3), (3.0, 5, 7)]:
            names = {"value": value, "B": batch_size, "C": classes}
            expected = convert_alpha(value, source, batch_size, classes)
            assert eval(alpha, names) == pytest.approx(expected)
        assert float(weight) == entry.task_weight
    for source in convert.WITHOUT_EQUIVALENT:
        assert f'`"{source}"`' in page
