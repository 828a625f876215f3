"""
Title: Abstractive summarization with BART and R-Drop
Description: Train KerasHub's BART on travel plans, plain and with R-Drop.
Runtime: about five minutes on two CPU cores; no download.
"""

"""
## Introduction

[R-Drop](https://arxiv.org/abs/2106.14448) runs every training batch through the
network twice. Dropout makes the two predictions differ, and the loss gets one
more term: the KL divergence between them. Inference does not change.

The paper fine-tunes BART for summarization with `alpha=0.7`. This example adds
R-Drop to KerasHub's BART and trains a small one from scratch, on texts that are
simple enough for a few minutes.
"""

import datetime
import os
import pathlib
import random

import babel.dates
import babel.lists
import keras
import keras_hub
import matplotlib.pyplot as plt
import tensorflow as tf
from rouge_score.rouge_scorer import RougeScorer

from rdrop_keras import RDropMixin

EPOCHS = int(os.environ.get("EPOCHS", 20))
OUTPUT = pathlib.Path(os.environ.get("OUTPUT", "runs/summarization"))

"""
## The data

Babel carries the Unicode CLDR: how languages write dates, intervals and lists.
A text says where somebody is on each of two to four days. Its summary has the
interval, and each country once.
"""

LOCALE = babel.Locale("en")
PLACES = sorted(p for p in LOCALE.territories.values() if len(p) < 8)[::4]


def write_pair(seed):
    draw = random.Random(seed)
    start = datetime.date.fromordinal(draw.randrange(730_000, 740_000))
    count = draw.choice([2, 3, 4])
    days = [start + datetime.timedelta(n) for n in range(count)]
    stays = [draw.choice(PLACES)]
    for _ in days[1:]:
        stays.append(draw.choice([stays[-1], draw.choice(PLACES)]))
    dates = [babel.dates.format_date(day, "long", LOCALE) for day in days]
    text = "; ".join(map(": ".join, zip(dates, stays)))
    span = babel.dates.format_interval(start, days[-1], "yMMMd", locale=LOCALE)
    places = babel.lists.format_list(list(dict.fromkeys(stays)), locale=LOCALE)
    return text, f"{span.replace(chr(0x2009), ' ')}: {places}"


pairs = [write_pair(seed) for seed in range(1300)]
train, valid, test = pairs[:800], pairs[800:1000], pairs[1000:1300]


def make_dataset(pairs):
    texts, summaries = map(list, zip(*pairs))
    data = {"encoder_text": texts, "decoder_text": summaries}
    return tf.data.Dataset.from_tensor_slices(data)


"""
## The model

`RDropMixin` goes before the class of the task. That is the only change. For the
paper's model, write `RDropBart.from_preset("bart_large_en")`. For a small BART
we train a SentencePiece vocabulary. `LlamaTokenizer` is a SentencePiece
tokenizer of KerasHub with the special tokens that BART needs.
"""


@keras.saving.register_keras_serializable("example")
class RDropBart(RDropMixin, keras_hub.models.BartSeq2SeqLM):
    pass


WIDTH, HEADS, LAYERS, DROPOUT = 64, 4, 2, 0.1
VOCABULARY, TEXT_LENGTH, SUMMARY_LENGTH = 150, 56, 24

proto = keras_hub.tokenizers.compute_sentence_piece_proto(
    tf.data.Dataset.from_tensor_slices(list(sum(train, ()))), VOCABULARY
)


def build_bart():
    backbone = keras_hub.models.BartBackbone(
        vocabulary_size=VOCABULARY,
        num_layers=LAYERS,
        num_heads=HEADS,
        hidden_dim=WIDTH,
        intermediate_dim=2 * WIDTH,
        dropout=DROPOUT,
        max_sequence_length=TEXT_LENGTH,
    )
    preprocessor = keras_hub.models.Seq2SeqLMPreprocessor(
        keras_hub.models.LlamaTokenizer(proto),
        encoder_sequence_length=TEXT_LENGTH,
        decoder_sequence_length=SUMMARY_LENGTH,
    )
    model = RDropBart(backbone=backbone, preprocessor=preprocessor)
    # BART draws its weights for a width of 768. Smaller ones need larger ones.
    for weight in model.trainable_weights:
        if len(weight.shape) > 1 and "embedding" not in weight.path:
            weight.assign(weight * (768 / WIDTH) ** 0.5)
    return model


"""
## Training

`compile` takes one more argument than the task's own: `rdrop`, the paper's
alpha, or None for plain Keras training. `fit` takes strings; the preprocessor
weights padding with 0, for both terms of the loss.
"""


def train_bart(rdrop):
    keras.utils.set_random_seed(1)
    model = build_bart()
    tenth = EPOCHS * len(train) // 32 // 10
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, 9 * tenth, warmup_target=2e-3, warmup_steps=tenth
    )
    model.compile(
        optimizer=keras.optimizers.Adam(rate, global_clipnorm=1.0),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        sampler="greedy",
        rdrop=rdrop,
    )
    history = model.fit(
        make_dataset(train).shuffle(800, seed=1).batch(32),
        validation_data=make_dataset(valid).batch(100),
        epochs=EPOCHS,
        verbose=2,
    )
    return model, history.history["val_loss"]


"""
## Serving

`model.generate("...")` works as in KerasHub. Its steps are TensorFlow
graphs, so they go into a SavedModel that takes and returns strings. It runs
where neither this package nor Keras is installed.
"""


def export(model, path):
    preprocessor, tokenizer = model.preprocessor, model.preprocessor.tokenizer

    def summarize(texts):
        inputs = preprocessor.generate_preprocess(texts)
        outputs = model.generate_step(inputs, [tokenizer.end_token_id])
        ids = outputs["decoder_token_ids"]
        mask = outputs["decoder_padding_mask"]
        return tokenizer.detokenize(tf.where(mask, ids, tokenizer.pad_token_id))

    archive = keras.export.ExportArchive()
    signature = [tf.TensorSpec([None], tf.string)]
    archive.add_endpoint("summarize", summarize, signature)
    archive.track(preprocessor)
    archive.write_out(path, verbose=False)
    return tf.saved_model.load(path)


"""
## Results

We score what is served: by ROUGE-L, and by the share of exact summaries.
"""

texts, references = zip(*test)
scorer = RougeScorer(["rougeL"], use_stemmer=True)
figure, axis = plt.subplots(figsize=(5, 3), layout="constrained")
rows = [f"{'':8}{'best val_loss':>16}{'test ROUGE-L':>16}{'exact, %':>12}"]
for name, rdrop in (("plain", None), ("R-Drop", 0.7)):
    model, losses = train_bart(rdrop)
    served = export(model, OUTPUT / name)
    found = [text.decode() for text in served.summarize(list(texts)).numpy()]
    scores = [scorer.score(*pair)["rougeL"] for pair in zip(references, found)]
    rouge = 100 * sum(score.fmeasure for score in scores) / len(scores)
    exact = 100 * sum(map(str.__eq__, found, references)) / len(references)
    rows.append(f"{name:8}{min(losses):16.3f}{rouge:16.1f}{exact:12.1f}")
    axis.plot(range(1, len(losses) + 1), losses, label=name)
axis.set(xlabel="epoch", title="validation loss", yscale="log")
axis.legend()
figure.savefig(OUTPUT / "curves.png", dpi=80)
print(*rows, f"text: {texts[0]}", f"summary: {found[0]}", sep="\n")
