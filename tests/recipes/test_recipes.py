"""The recipes against the paper's tables, typed here once more.

Schedules are compared with the formulas of fairseq and HF Transformers in
Python's own floats.
"""

import ast
import dataclasses
import json
import math
import pathlib
import re

import keras
import numpy as np
import pytest

import rdrop_keras
from rdrop_keras import RDrop
from rdrop_keras import RDropModel
from rdrop_keras import convert_alpha
from rdrop_keras import recipes
from rdrop_keras.recipes import InverseSquareRoot
from rdrop_keras.recipes import LinearWarmup
from rdrop_keras.recipes import PerUpdate

ROOT = pathlib.Path(__file__).resolve().parents[2]
ALL = recipes.names()

# The paper's tables, row by row.

TABLE_1 = """
            En-De De-En En-Fr Fr-En En-Zh Zh-En En-Es Es-En Avg
Transformer 28.57 34.64 35.9  36.1  26.3  18.4  39.0  40.6  32.44
+RD         30.72 37.25 38.0  38.9  28.1  19.5  41.8  43.2  34.68
"""
YEARS = {"De": 14, "Es": 14, "Fr": 17, "Zh": 17}
TABLE_2 = {"wmt14_en_de": (29.12, 30.91), "wmt14_en_fr": (42.69, 43.95)}
SACREBLEU = {"wmt14_en_de": 29.5, "wmt14_en_fr": 41.8}
TABLE_3 = """
              MNLI MRPC QNLI QQP  RTE  SST2 STSB CoLA Avg
bert_base     83.8 85.3 90.8 91.0 68.2 92.4 89.3 62.3 82.85
+RD           85.5 87.3 92.0 91.4 71.1 93.0 89.6 62.6 84.06
roberta_large 90.2 90.9 94.7 92.2 86.6 96.4 92.4 68.0 88.93
+RD           90.9 91.4 95.2 92.5 88.4 96.9 92.5 70.0 89.73
"""
TABLE_4 = {
    "ROUGE-1": (44.16, 44.51),
    "ROUGE-2": (21.28, 21.58),
    "ROUGE-L": (40.90, 41.24),
}
TABLE_5 = {
    ("wikitext103_transformer", "valid"): (25.76, 23.97),
    ("wikitext103_transformer", "test"): (26.62, 24.94),
    ("wikitext103_adaptive", "valid"): (18.94, 18.18),
    ("wikitext103_adaptive", "test"): (18.87, 18.07),
}
TABLE_6 = {
    "cifar100_vit_b_16": (92.64, 93.29),
    "imagenet_vit_b_16": (83.97, 84.38),
    "cifar100_vit_l_16": (93.44, 93.85),
    "imagenet_vit_l_16": (85.15, 85.57),
}
TABLE_8 = """
        CoLA MRPC RTE  SST2  MNLI   QNLI  QQP    STSB
updates 5336 2296 3120 20935 123873 33112 113272 3598
batch   16   16   8    32    32     32    32     16
alpha   0.5  1.0  1.0  1.0   0.5    1.0   0.5    1.0
warmup  320  137  122  1256  7432   1986  28318  214
"""
GLUE_METRICS = {"stsb": "Pearson correlation", "cola": "Matthews correlation"}
DATASETS = {
    "IWSLT14 En-De",
    "IWSLT14 En-Es",
    "IWSLT17 En-Fr",
    "IWSLT17 En-Zh",
    "WMT14 En-De",
    "WMT14 En-Fr",
    "CNN/DailyMail",
    "GLUE MNLI",
    "GLUE MRPC",
    "GLUE QNLI",
    "GLUE QQP",
    "GLUE RTE",
    "GLUE SST-2",
    "GLUE STS-B",
    "GLUE CoLA",
    "WikiText-103",
    "CIFAR-100",
    "ImageNet",
}

# By model: layers of encoder and decoder, width, feed-forward width, heads.
SIZES = {
    "iwslt": (6, 6, 512, 1024, 4),
    "wmt": (6, 6, 1024, 4096, 16),
    "cnn": (12, 12, 1024, 4096, 16),
    "wikitext103_transformer": (None, 12, 768, 3072, 12),
    "wikitext103_adaptive": (None, 16, 1024, 4096, 16),
    "bert_base": (12, None, 768, 3072, 12),
    "roberta_large": (24, None, 1024, 4096, 16),
    "vit_b_16": (12, None, 768, 3072, 12),
    "vit_l_16": (24, None, 1024, 4096, 16),
}
# Alpha; dropout, of attention, of activations; label smoothing.
REGULARIZATION = {
    "iwslt": (5.0, 0.3, None, None, 0.1),
    "wmt": (5.0, 0.1, 0.1, 0.1, 0.1),
    "cnn": (0.7, 0.1, 0.1, None, 0.1),
    "wikitext103_transformer": (1.0, 0.1, 0.1, None, None),
    "wikitext103_adaptive": (1.0, 0.3, 0.1, 0.1, None),
    "glue": (None, 0.1, 0.1, None, None),
    "vit": (0.6, 0.1, 0.0, None, None),
}
# Name, betas or momentum, epsilon, weight decay, clipping norm.
OPTIMIZERS = {
    "iwslt": ("adam", (0.9, 0.98), 1e-9, 1e-4, None),
    "wmt14_en_de": ("adam", (0.9, 0.98), 1e-9, 0.0, None),
    "wmt14_en_fr": ("adam", (0.9, 0.98), 1e-9, None, None),
    "cnn": ("adam", (0.9, 0.999), 1e-8, 0.01, 0.1),
    "wikitext103_transformer": ("adam", (0.9, 0.98), 1e-8, 0.01, None),
    "wikitext103_adaptive": ("nesterov", 0.99, None, 0.0, 0.1),
    "glue": ("adam", (0.9, 0.98), 1e-6, 0.01, 1.0),
    "vit": ("sgd", 0.9, None, 0.0, 1.0),
}
# Kind, highest learning rate, warm-up, updates, first rate, last rate.
SCHEDULES = {
    "iwslt": ("inverse", 5e-4, 4000, 300000, 1e-7, None),
    "wmt14_en_de": ("inverse", 5e-4, 4000, 300000, 1e-7, None),
    "wmt14_en_fr": ("inverse", 5e-4, 4000, None, None, None),
    "cnn": ("polynomial", 3e-5, 500, 20000, 0.0, 0.0),
    "wikitext103_transformer": ("inverse", 5e-4, 4000, 50000, 1e-7, None),
    "wikitext103_adaptive": ("cosine", 1.0, 16000, 286000, 1e-7, 1e-4),
    "glue": ("polynomial", 1e-5, None, None, 0.0, 1e-7),
    "cifar100": ("cosine", 0.01, 500, 10000, 0.0, 0.0),
    "imagenet": ("cosine", 0.01, 500, 20000, 0.0, 0.0),
}
# Examples or tokens, accumulated batches, devices, and all of them together.
BATCHES = {
    "iwslt": (4096, 1, 1, 4096),
    "wmt14_en_de": (4096, 16, 8, 524288),
    "wmt14_en_fr": (None, None, None, None),
    "cnn": (1024, 16, 4, 65536),
    "wikitext103_transformer": (2000, 16, 8, 256000),
    "wikitext103_adaptive": (3072, 3, 8, 73728),
    "vit": (32, 16, 1, 512),
}
# What the authors' code amounts to, by the docs of `convert_alpha`.
AUTHORS = {
    "iwslt": (5.0, 5.0),
    "wmt": (5.0, 5.0),
    "cnn": (0.7, 0.7),
    "wikitext103_transformer": (1.0, 1.0),
    "vit": (0.3, 19.2),
}


def read(table):
    """A table as {row: {column: value}}, rows `+RD` after their baseline."""
    header, *lines = table.strip("\n").splitlines()
    rows, last = {}, None
    for line in lines:
        label, *values = line.split()
        label = f"{last}+RD" if label == "+RD" else label
        last = label
        rows[label] = dict(zip(header.split(), map(float, values)))
        assert len(values) == len(header.split())
    return rows


def of(table, name):
    """The value for a recipe, whose name holds the key."""
    found = [value for key, value in table.items() if key in name]
    assert len(found) == 1, (name, found)
    return found[0]


def scores(name):
    return [(r.baseline, r.rdrop) for r in recipes.get(name).results]


def check_average(values, printed, slack=0.0):
    mean = sum(values) / len(values)
    # Half of the last printed digit, and that the mean may lie just on it.
    assert abs(mean - printed) <= 0.005 + 1e-9 + slack


def test_table_1_iwslt():
    rows = read(TABLE_1)
    found = {"Transformer": [], "+RD": []}
    for pair in list(rows["Transformer"])[:-1]:
        source, target = pair.split("-")
        year = YEARS[target if source == "En" else source]
        name = f"iwslt{year}_{source}_{target}".lower()
        baseline, rdrop = (
            rows["Transformer"][pair],
            rows["Transformer+RD"][pair],
        )
        assert scores(name) == [(baseline, rdrop)]
        result = recipes.get(name).results[0]
        german = "De" in pair
        assert result.metric.startswith("tokenized" if german else "sacreBLEU")
        assert (result.source, result.split) == ("Table 1", "test")
        found["Transformer"].append(result.baseline)
        found["+RD"].append(result.rdrop)
    assert len(found["+RD"]) == 8
    check_average(found["Transformer"], rows["Transformer"]["Avg"])
    check_average(found["+RD"], rows["Transformer+RD"]["Avg"])


@pytest.mark.parametrize("name", TABLE_2)
def test_table_2_wmt(name):
    main, sacrebleu = recipes.get(name).results
    assert (main.baseline, main.rdrop) == TABLE_2[name]
    assert (main.source, sacrebleu.source) == ("Table 2", "appendix A.1")
    assert sacrebleu.metric == "sacreBLEU"
    assert (sacrebleu.baseline, sacrebleu.rdrop) == (None, SACREBLEU[name])


@pytest.mark.parametrize("model", ["bert_base", "roberta_large"])
def test_table_3_glue(model):
    rows = read(TABLE_3)
    found = {"": [], "+RD": []}
    for task in list(rows[model])[:-1]:
        name = f"glue_{task.lower()}_{model}"
        expected = (rows[model][task], rows[f"{model}+RD"][task])
        assert scores(name) == [expected]
        result = recipes.get(name).results[0]
        assert result.metric == GLUE_METRICS.get(task.lower(), "accuracy")
        assert (result.source, result.split) == ("Table 3", "dev")
        found[""].append(result.baseline)
        found["+RD"].append(result.rdrop)
    # The printed average of BERT-base is 82.85, that of the printed scores
    # 82.8875: averaged before each was rounded to 0.1, it seems.
    slack = 0.0375 if model == "bert_base" else 0.0
    check_average(found[""], rows[model]["Avg"], slack)
    check_average(found["+RD"], rows[f"{model}+RD"]["Avg"])


def test_table_4_summarization():
    results = recipes.get("cnn_dailymail_bart_large").results
    assert {r.metric: (r.baseline, r.rdrop) for r in results} == TABLE_4
    assert {r.source for r in results} == {"Table 4"}


def test_table_5_language_modeling():
    found = {
        (name, r.split): (r.baseline, r.rdrop)
        for name in recipes.names("language_modeling")
        for r in recipes.get(name).results
    }
    assert found == TABLE_5


def test_table_6_images():
    found = {
        name: scores(name)[0] for name in recipes.names("image_classification")
    }
    assert found == TABLE_6


@pytest.mark.parametrize("model", ["bert_base", "roberta_large"])
def test_table_8_glue_settings(model):
    rows = read(TABLE_8)
    for task in rows["batch"]:
        recipe = recipes.get(f"glue_{task.lower()}_{model}")
        assert recipe.schedule.total_updates == rows["updates"][task]
        assert recipe.schedule.warmup_updates == rows["warmup"][task]
        assert recipe.batch.examples == rows["batch"][task]
        assert recipe.batch.per_update == rows["batch"][task]
        assert recipe.alpha == rows["alpha"][task]
        regression = task == "STSB"
        assert recipe.divergence == (
            "squared_error" if regression else "categorical"
        )


@pytest.mark.parametrize("name", ALL)
def test_settings(name):
    recipe = recipes.get(name)
    assert recipe.name == name
    model = recipe.model
    assert of(SIZES, name) == (
        model.encoder_layers,
        model.decoder_layers,
        model.hidden_size,
        model.feed_forward_size,
        model.attention_heads,
    )
    alpha, *rest = of(REGULARIZATION, name)
    assert alpha in (None, recipe.alpha)
    dropout = recipe.dropout
    assert rest == [
        dropout.rate,
        dropout.attention,
        dropout.activation,
        recipe.label_smoothing,
    ]
    optimizer = recipe.optimizer_settings
    momentum = optimizer.betas or optimizer.momentum
    assert of(OPTIMIZERS, name) == (
        optimizer.name,
        momentum,
        optimizer.epsilon,
        optimizer.weight_decay,
        optimizer.global_clipnorm,
    )
    schedule = recipe.schedule
    kind, rate, warmup, total, first, last = of(SCHEDULES, name)
    assert schedule.kind.startswith(kind)
    assert (schedule.learning_rate, schedule.initial_learning_rate) == (
        rate,
        first,
    )
    assert schedule.end_learning_rate == last
    if "glue" not in name:
        assert schedule.warmup_updates == warmup
        assert schedule.total_updates == total
        batch = recipe.batch
        assert of(BATCHES, name) == (
            batch.tokens or batch.examples,
            batch.gradient_accumulation_steps,
            batch.devices,
            batch.per_update,
        )
        assert recipe.divergence == "categorical"


def test_decoding_and_vocabulary():
    def decoding(name):
        group = dataclasses.asdict(recipes.get(name).decoding)
        return [v for k, v in group.items() if v is not None and k != "source"]

    for name in recipes.names("translation")[:8]:
        vocabulary = recipes.get(name).vocabulary
        assert decoding(name) == [5, 1.0]
        assert vocabulary.size == 10_000
        assert vocabulary.joint is ("zh" not in name)
    assert decoding("wmt14_en_de") == [4, 0.6]
    assert decoding("wmt14_en_fr") == []
    assert recipes.get("wmt14_en_fr").vocabulary.size == 32_000
    assert decoding("cnn_dailymail_bart_large") == [4, 2.0, 55, 140, 3]
    adaptive = recipes.get("wikitext103_adaptive")
    assert adaptive.dropout.adaptive_softmax == 0.2
    assert adaptive.vocabulary.adaptive_cutoffs == (20_000, 60_000)
    assert adaptive.batch.sequence_length == 3072
    assert recipes.get("wikitext103_transformer").batch.sequence_length == 512
    assert decoding("wikitext103_adaptive") == [400]
    assert recipes.get("imagenet_vit_l_16").model.image_size == 384


def test_eighteen_datasets():
    found = [recipes.get(name) for name in ALL]
    assert {recipe.dataset for recipe in found} == DATASETS
    assert len(DATASETS) == 18
    # 8 + 2 directions, 8 tasks by 2 models, 1, 2 models, 2 by 2 models.
    assert len(ALL) == len(set(ALL)) == 10 + 16 + 1 + 2 + 4
    by_task = {}
    for recipe in found:
        by_task.setdefault(recipe.task, []).append(recipe.name)
    assert {task: len(group) for task, group in by_task.items()} == {
        "translation": 10,
        "language_understanding": 16,
        "summarization": 1,
        "language_modeling": 2,
        "image_classification": 4,
    }
    for task, group in by_task.items():
        assert recipes.names(task) == tuple(group)


@pytest.mark.parametrize("name", ALL)
def test_rdrop_is_better_everywhere(name):
    for result in recipes.get(name).results:
        lower = result.metric == "perplexity"
        assert result.higher_is_better is not lower
        if result.baseline is not None:
            assert (result.rdrop < result.baseline) is lower


@pytest.mark.parametrize("name", ALL)
def test_what_the_authors_code_amounts_to(name):
    recipe = recipes.get(name)
    theirs = recipe.authors_alpha
    if name == "wikitext103_adaptive":
        assert theirs is None
        return
    assert theirs.alpha == pytest.approx(
        convert_alpha(
            theirs.value, theirs.convert_from, batch_size=theirs.batch_size
        )
    )
    if "glue" not in name:
        assert (theirs.value, theirs.alpha) == of(AUTHORS, name)
    elif "stsb" in name:
        by_hand = {"bert": 1.0, "roberta": 0.8 * 4}
        assert theirs.alpha == pytest.approx(of_model(by_hand, name))
    else:
        # 0.5 of the sum beside two task losses; 0.7 beside half of one.
        by_hand = {"bert": 0.5, "roberta": 0.7 * 4}
        batch = recipe.batch.examples
        assert theirs.batch_size == batch
        assert theirs.alpha == pytest.approx(of_model(by_hand, name) * batch)
    # Where the two differ, the discrepancies say so.
    if theirs.alpha != recipe.alpha:
        said = " ".join(recipe.discrepancies)
        assert f"alpha {theirs.alpha:g} here" in said
        assert f"{theirs.value:g}" in said


def of_model(table, name):
    return table[name.split("_")[2]]


def test_searched_values_hold_the_chosen_one():
    count = 0
    for name in ALL:
        recipe = recipes.get(name)
        for searched in recipe.searched:
            value = recipe
            for part in searched.setting.split("."):
                value = getattr(value, part)
            assert value in searched.values
            count += 1
    assert count == 1 + 3 * 16 + 4
    mrpc = recipes.get("glue_mrpc_bert_base")
    assert {s.setting: s.values for s in mrpc.searched} == {
        "alpha": (0.1, 0.5, 1.0),
        "schedule.learning_rate": (5e-6, 1e-5),
        "batch.examples": (8, 16, 32),
    }


DIFFERENCES = {
    "iwslt14_de_en": ["34.78", "1e-8"],
    "iwslt17_en_fr": ["IWSLT14 De-En only"],
    "wmt14_en_de": ["1e-3 after 6,000", "29.5 sacreBLEU"],
    "wmt14_en_fr": ["1e-3 after 6,000"],
    "cnn_dailymail_bart_large": ["8 devices", "script has 4"],
    "wikitext103_transformer": ["cannot run"],
    "wikitext103_adaptive": ["320,000", "has 8", "cannot run"],
    "glue_rte_roberta_large": ["2,036", "first pass only"],
    "glue_stsb_bert_base": ["norms"],
    "glue_mnli_bert_base": ["84.48", "seed"],
    "cifar100_vit_b_16": ["0.3", "200,000", "8e-3", "one update ahead"],
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_known_discrepancies_are_told(name):
    said = " ".join(recipes.get(name).discrepancies)
    for phrase in DIFFERENCES[name]:
        assert phrase in said


# Schedules.


def inverse_sqrt(step, rate, warmup, first=0.0):
    """`step_update` of fairseq's `inverse_sqrt`."""
    if step < warmup:
        return first + step * (rate - first) / warmup
    return rate * warmup**0.5 * step**-0.5


def polynomial_decay(step, rate, warmup, total, first=0.0, end=0.0, power=1.0):
    """`step_update` of fairseq's `polynomial_decay`; HF's is the same."""
    if warmup > 0 and step <= warmup:
        return first + step / float(warmup) * (rate - first)
    if step >= total:
        return end
    remaining = 1 - (step - warmup) / (total - warmup)
    return (rate - end) * remaining**power + end


def cosine(step, rate, warmup, total, first=0.0, end=0.0):
    """`step_update` of fairseq's `cosine`, in its first period."""
    if step < warmup:
        return first + step * (rate - first) / warmup
    done = min(step - warmup, total - warmup) / (total - warmup)
    return end + 0.5 * (rate - end) * (1 + math.cos(math.pi * done))


def expected_rate(name, step):
    kind, rate, warmup, total, first, last = of(SCHEDULES, name)
    if "glue" in name:
        task = name.split("_")[1].upper().replace("COLA", "CoLA")
        table = read(TABLE_8)
        warmup, total = table["warmup"][task], table["updates"][task]
    if kind == "inverse":
        return inverse_sqrt(step, rate, warmup, first or 0.0)
    function = cosine if kind == "cosine" else polynomial_decay
    return function(step, rate, warmup, total, first, last)


def steps_of(recipe):
    warmup = recipe.schedule.warmup_updates
    total = recipe.schedule.total_updates or 300_000
    return sorted(
        {0, 1, 2, warmup // 2, warmup - 1, warmup, warmup + 1}
        | {(warmup + total) // 2, total - 1, total, total + 1000}
    )


@pytest.mark.parametrize("name", ALL)
def test_learning_rate_is_fairseqs(name):
    recipe = recipes.get(name)
    schedule = recipe.learning_rate()
    highest = recipe.schedule.learning_rate
    for step in steps_of(recipe):
        expected = expected_rate(name, step)
        # In float32, near zero after a difference.
        assert float(schedule(step)) == pytest.approx(
            expected, rel=2e-6, abs=2e-7 * highest
        ), step


def test_last_rate_of_a_cosine():
    recipe = recipes.get("wikitext103_adaptive").replace(
        schedule={"learning_rate": 0.5, "end_learning_rate": 0.1}
    )
    schedule = recipe.learning_rate()
    for step in (16_000, 151_000, 285_999, 286_000, 300_000):
        assert float(schedule(step)) == pytest.approx(
            cosine(step, 0.5, 16_000, 286_000, 1e-7, 0.1), rel=1e-5
        )


@pytest.mark.parametrize("first", [0.0, 1e-7, 1e-3])
def test_inverse_square_root(first):
    schedule = InverseSquareRoot(5e-4, 4000, first)
    for step in [0, 1, 2, 3999, 4000, 4001, 16_000, 300_000]:
        assert float(schedule(step)) == pytest.approx(
            inverse_sqrt(step, 5e-4, 4000, first), rel=1e-6
        )
    assert float(InverseSquareRoot(1.0, 1)(0)) == 0.0
    assert float(InverseSquareRoot(1.0, 1)(4)) == 0.5


@pytest.mark.parametrize("power, end", [(1.0, 0.0), (2.0, 1e-6), (0.5, 0.0)])
@pytest.mark.parametrize("warmup", [0, 1, 500])
def test_linear_warmup_before_polynomial_decay(warmup, power, end):
    decay = keras.optimizers.schedules.PolynomialDecay(
        3e-5, 2000 - warmup, end, power
    )
    schedule = LinearWarmup(decay, warmup)
    for step in [0, 1, 2, 499, 500, 501, 1000, 1999, 2000, 5000]:
        assert float(schedule(step)) == pytest.approx(
            polynomial_decay(step, 3e-5, warmup, 2000, 0.0, end, power),
            rel=1e-5,
            abs=1e-10,
        )


def test_linear_warmup_before_a_number():
    schedule = LinearWarmup(0.2, 4, initial_learning_rate=0.1)
    rates = [float(schedule(step)) for step in range(6)]
    assert rates == pytest.approx([0.1, 0.125, 0.15, 0.175, 0.2, 0.2])


def test_per_update_counts_updates():
    schedule = PerUpdate(InverseSquareRoot(1.0, 4), 3)
    rates = [float(schedule(batch)) for batch in range(15)]
    assert rates == pytest.approx(np.repeat([0, 0.25, 0.5, 0.75, 1], 3))


def test_rates_do_not_overflow_in_half_precision():
    keras.config.set_floatx("float16")
    try:
        rate = float(InverseSquareRoot(5e-4, 4000, 1e-7)(300_000))
    finally:
        keras.config.set_floatx("float32")
    assert rate == pytest.approx(inverse_sqrt(300_000, 5e-4, 4000))


SERIALIZED = {
    "inverse": lambda: InverseSquareRoot(5e-4, 4000, 1e-7),
    "constant": lambda: LinearWarmup(0.5, 10),
    "polynomial": lambda: recipes.get("glue_rte_bert_base").learning_rate(),
    "nested": lambda: PerUpdate(
        LinearWarmup(keras.optimizers.schedules.CosineDecay(1.0, 90), 10), 4
    ),
}


@pytest.mark.parametrize("kind", SERIALIZED)
def test_schedules_are_saved_with_the_optimizer(kind):
    schedule = SERIALIZED[kind]()
    config = keras.optimizers.serialize(keras.optimizers.Adam(schedule))
    restored = keras.optimizers.deserialize(json.loads(json.dumps(config)))
    restored = restored._learning_rate
    assert type(restored) is type(schedule)
    assert restored.get_config() == schedule.get_config()
    for step in (0, 3, 50, 5000):
        assert float(restored(step)) == float(schedule(step))


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: InverseSquareRoot("5e-4", 10), TypeError, "`learning_rate`"),
        (lambda: InverseSquareRoot(-1.0, 10), ValueError, "finite and >= 0"),
        (lambda: InverseSquareRoot(1.0, 0), ValueError, "at least 1"),
        (lambda: InverseSquareRoot(1.0, 2.5), TypeError, "whole number"),
        (lambda: InverseSquareRoot(1.0, True), TypeError, "whole number"),
        (
            lambda: InverseSquareRoot(1.0, 10, float("nan")),
            ValueError,
            "`initial_learning_rate` to be finite",
        ),
        (lambda: LinearWarmup(None, 10), TypeError, "`decay`"),
        (lambda: LinearWarmup(1.0, -1), ValueError, "at least 0"),
        (lambda: PerUpdate(0.1, 2), TypeError, "`schedule`"),
        (
            lambda: PerUpdate(InverseSquareRoot(1.0, 1), 0),
            ValueError,
            "at least 1",
        ),
    ],
)
def test_bad_schedules(make, error, message):
    with pytest.raises(error, match=message):
        make()


# Keras objects.


def small_model(recipe):
    """A model with the recipe's kind of output, and its loss and data."""
    regression = recipe.divergence == "squared_error"
    inputs = keras.Input((4,))
    hidden = keras.layers.Dropout(recipe.dropout.rate)(
        keras.layers.Dense(8)(inputs)
    )
    model = RDropModel(
        inputs, keras.layers.Dense(1 if regression else 3)(hidden)
    )
    loss = (
        "mse"
        if regression
        else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return model, loss


def record_rates(optimizer):
    """Records the learning rate of every update that is made."""
    rates, original = [], optimizer.update_step

    def update_step(gradient, variable, learning_rate):
        rates.append(float(learning_rate))
        return original(gradient, variable, learning_rate)

    optimizer.update_step = update_step
    return rates


@pytest.mark.parametrize("name", ALL)
def test_two_updates_have_the_right_learning_rate(name, rng):
    recipe = recipes.get(name)
    # Sixteen batches an update show no more than two, and take longer.
    steps = min(2, recipe.batch.gradient_accumulation_steps or 1)
    recipe = recipe.replace(batch={"gradient_accumulation_steps": steps})
    model, loss = small_model(recipe)
    optimizer = recipe.optimizer()
    rates = record_rates(optimizer)
    model.compile(optimizer, loss, rdrop=recipe.rdrop(), run_eagerly=True)
    batches = 2 * steps
    x = rng.normal(size=(2 * batches, 4)).astype("float32")
    y = rng.integers(0, 3, 2 * batches)
    model.fit(x, y, batch_size=2, verbose=0)
    assert int(optimizer.iterations) == 2
    # Two layers of a kernel and a bias.
    expected = np.repeat([expected_rate(name, step) for step in (0, 1)], 4)
    assert rates == pytest.approx(expected, rel=1e-5, abs=1e-12)


def test_weights_after_updates_with_accumulation(rng):
    """Compiled, with warm-up, clipping and accumulation, against NumPy."""
    recipe = recipes.get("cifar100_vit_b_16").replace(
        schedule={"warmup_updates": 2, "total_updates": 6},
        batch={"gradient_accumulation_steps": 3},
        optimizer_settings={"global_clipnorm": 0.5},
    )
    model = keras.Sequential([keras.layers.Dense(1, use_bias=False)])
    model.build((None, 2))
    weight = np.array(model.layers[0].kernel, "float64")
    model.compile(recipe.optimizer(), "mse")
    x, y = rng.normal(size=(12, 2)), rng.normal(size=(12, 1))
    model.fit(x, y, batch_size=1, shuffle=False, verbose=0)
    velocity = 0.0
    for update in range(4):
        rows = slice(3 * update, 3 * update + 3)
        error = x[rows] @ weight - y[rows]
        gradient = 2 * x[rows].T @ error / 3
        gradient *= min(1.0, 0.5 / np.linalg.norm(gradient))
        rate = cosine(update, 0.01, 2, 6)
        velocity = 0.9 * velocity - rate * gradient
        weight = weight + velocity
    np.testing.assert_allclose(model.layers[0].kernel, weight, rtol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_objects_have_the_settings(name):
    recipe = recipes.get(name)
    rdrop = recipe.rdrop()
    assert rdrop == RDrop(recipe.alpha, divergence=recipe.divergence)
    optimizer, settings = recipe.optimizer(), recipe.optimizer_settings
    config = optimizer.get_config()
    assert config["global_clipnorm"] == settings.global_clipnorm
    assert config["clipnorm"] is config["clipvalue"] is None
    assert (config["weight_decay"] or None) == (settings.weight_decay or None)
    steps = recipe.batch.gradient_accumulation_steps or 1
    assert config["gradient_accumulation_steps"] == (
        None if steps == 1 else steps
    )
    if settings.name == "adam":
        assert type(optimizer) is keras.optimizers.Adam
        assert (config["beta_1"], config["beta_2"]) == settings.betas
        assert config["epsilon"] == settings.epsilon
    else:
        assert type(optimizer) is keras.optimizers.SGD
        assert config["momentum"] == settings.momentum
        assert config["nesterov"] is (settings.name == "nesterov")
    assert recipe.optimizer() is not optimizer


def test_decay_spares_biases_and_layer_normalization():
    recipe = recipes.get("glue_rte_bert_base").replace(
        optimizer_settings={"weight_decay": 0.5},
        schedule={"initial_learning_rate": 0.5, "learning_rate": 0.5},
    )
    model = keras.Sequential(
        [keras.layers.Dense(3), keras.layers.LayerNormalization()]
    )
    model.build((None, 2))
    for variable in model.variables:
        variable.assign(np.ones(variable.shape))
    optimizer = recipe.optimizer()
    zeros = [np.zeros(v.shape, "float32") for v in model.trainable_variables]
    optimizer.apply(zeros, model.trainable_variables)
    values = {v.path.split("/")[-1]: np.array(v) for v in model.variables}
    assert set(values) == {"kernel", "bias", "gamma", "beta"}
    for name, value in values.items():
        expected = 0.75 if name == "kernel" else 1.0
        np.testing.assert_allclose(value, expected)


@pytest.mark.parametrize(
    "name",
    ["iwslt14_de_en", "cnn_dailymail_bart_large", "glue_rte_bert_base"]
    + ["wikitext103_adaptive", "imagenet_vit_b_16"],
)
def test_summed_loss_gives_the_updates_of_the_papers_loss(name, rng):
    """Ours with a gradient as theirs with twice that gradient."""
    recipe = recipes.get(name).replace(
        batch={"gradient_accumulation_steps": 1},
        schedule={"initial_learning_rate": 0.01, "warmup_updates": 100},
        optimizer_settings={"weight_decay": 0.1},
    )
    start = rng.normal(size=(4, 3))
    ours, theirs, plain = (keras.Variable(start, name="kernel") for _ in "123")
    optimizers = [
        recipe.optimizer(summed_loss=True),
        recipe.optimizer(),
        recipe.optimizer(),
    ]
    # Below and above every clipping norm, and of the size of epsilon.
    for scale in (1e-8, 1e-2, 1.0, 100.0):
        gradient = (rng.normal(size=start.shape) * scale).astype("float32")
        optimizers[0].apply([gradient], [ours])
        optimizers[1].apply([2 * gradient], [theirs])
        optimizers[2].apply([gradient], [plain])
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert np.abs(np.array(plain) - np.array(theirs)).max() > 1e-6


def test_without_total_updates_only_inverse_square_root():
    recipe = recipes.get("cnn_dailymail_bart_large")
    for total in (None, 500):
        broken = recipe.replace(schedule={"total_updates": total})
        with pytest.raises(ValueError, match="more than the 500 updates"):
            broken.optimizer()
    float(recipes.get("wmt14_en_fr").learning_rate()(5))
    with pytest.raises(ValueError, match="kind='step'"):
        recipe.replace(schedule={"kind": "step"}).learning_rate()
    with pytest.raises(ValueError, match="name='lamb'"):
        recipe.replace(optimizer_settings={"name": "lamb"}).optimizer()


# The data as data.


def test_replace_leaves_the_recipe():
    recipe = recipes.get("glue_mrpc_bert_base")
    other = recipe.replace(alpha=3.0, schedule={"total_updates": 1000})
    assert other.rdrop().alpha == 3.0
    assert other.schedule.total_updates == 1000
    assert other.schedule.warmup_updates == recipe.schedule.warmup_updates
    assert recipe.alpha == 1.0
    assert recipe.schedule.total_updates == 2296
    assert recipe is recipes.get("glue_mrpc_bert_base")
    assert other.replace(schedule=recipe.schedule, alpha=1.0) == recipe
    for changes in ({"alfa": 1.0}, {"schedule": {"updates": 1}}):
        with pytest.raises(TypeError, match="alfa|updates"):
            recipe.replace(**changes)


def parts(value):
    yield value
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from parts(getattr(value, field.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from parts(item)


@pytest.mark.parametrize("name", ALL)
def test_recipes_are_frozen_json(name):
    recipe = recipes.get(name)
    for part in parts(recipe):
        # Nothing that can be changed in place.
        assert (
            dataclasses.is_dataclass(part)
            or part is None
            or isinstance(part, (tuple, str, int, float))
        ), part
        if dataclasses.is_dataclass(part):
            first = dataclasses.fields(part)[0].name
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(part, first, None)
            if hasattr(part, "source"):
                assert part.source
    as_json = json.loads(json.dumps(dataclasses.asdict(recipe)))
    assert as_json["alpha"] == recipe.alpha
    assert as_json["results"][0]["rdrop"] == recipe.results[0].rdrop
    assert hash(recipe) == hash(recipes.get(name))


@pytest.mark.parametrize("name", ALL)
def test_summary(name):
    recipe = recipes.get(name)
    text = str(recipe)
    assert text == recipe.summary()
    lines = text.splitlines()
    assert lines[0] == f"{name}: {recipe.dataset}, {recipe.task}"
    assert all(len(line) <= 80 for line in lines)
    assert f"alpha {recipe.alpha:g}" in text
    assert f"{scores(name)[0][0]} -> {scores(name)[0][1]}" in text
    assert "None" not in text
    flat = " ".join(text.split())
    assert all(sentence in flat for sentence in recipe.discrepancies)


def test_unknown_names():
    with pytest.raises(ValueError, match="Close to it: glue_mrpc_bert_base"):
        recipes.get("glue_mrcp_bert_base")
    with pytest.raises(ValueError, match="Close to it:.*iwslt14_de_en"):
        recipes.get("iwslt_de_en")
    with pytest.raises(ValueError, match="name='zzzzzz'.$"):
        recipes.get("zzzzzz")
    with pytest.raises(ValueError, match="name=None"):
        recipes.get(None)
    with pytest.raises(ValueError, match="one of \\['translation'"):
        recipes.names("vision")


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_dependencies_point_one_way():
    package = pathlib.Path(rdrop_keras.__file__).parent
    inside = package / "recipes"
    for path in package.rglob("*.py"):
        for module in imports_of(path):
            if path.is_relative_to(inside):
                if module.startswith("rdrop_keras"):
                    assert module.startswith(
                        (
                            "rdrop_keras.recipes",
                            "rdrop_keras.rdrop.",
                            "rdrop_keras.arguments.",
                        )
                    ), (path, module)
            elif path != package / "__init__.py":
                assert "rdrop_keras.recipes" not in module, path


# The page.


def row(name):
    """A recipe as the row of docs/recipes.md."""
    recipe = recipes.get(name)
    result, theirs, batch = (
        recipe.results[0],
        recipe.authors_alpha,
        recipe.batch,
    )
    updates, size = recipe.schedule.total_updates, batch.per_update
    unit = "tokens" if batch.tokens else "examples"
    cells = [
        f"`{name}`",
        f"{recipe.alpha:g}",
        "none" if theirs is None else f"{theirs.alpha:g}",
        f"{recipe.dropout.rate:g}",
        "not stated" if updates is None else f"{updates:,}",
        "not stated" if size is None else f"{size:,} {unit}",
        f"{result.baseline} → {result.rdrop}",
    ]
    return f"| {' | '.join(cells)} |"


def test_the_page_has_the_table():
    page = (ROOT / "docs" / "recipes.md").read_text()
    rows = re.findall(r"^\| `\w+` \|.*\|$", page, re.MULTILINE)
    assert rows == [row(name) for name in ALL]


def test_the_dataset_page_has_all_datasets():
    page = (ROOT / "docs" / "datasets.md").read_text()
    for name in ALL:
        dataset = recipes.get(name).dataset
        assert f"| {dataset} |" in page, dataset
