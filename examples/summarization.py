"""
Title: Abstractive summarization with BART and R-Drop
Description: Train KerasHub's BART on docstrings, plain and with R-Drop.
Runtime: about four minutes on two CPU cores; no download.
"""

"""
## Introduction

[R-Drop](https://arxiv.org/abs/2106.14448) runs every training batch through the
network twice. Dropout makes the two predictions differ, and the loss gets one
more term: the KL divergence between them. Inference does not change.

The paper fine-tunes BART for summarization with `alpha=0.7`. This example adds
R-Drop to KerasHub's BART and trains a small one from scratch. From 2,000 pairs
it learns how a summary sounds, and little else.
"""

import ast
import importlib.util
import os
import pathlib
import random

import keras
import keras_hub
import matplotlib.pyplot as plt
import tensorflow as tf
from rouge_score.rouge_scorer import RougeScorer

from rdrop_keras import RDropMixin

EPOCHS = int(os.environ.get("EPOCHS", 5))
OUTPUT = pathlib.Path(os.environ.get("OUTPUT", "runs/summarization"))

"""
## The data

The docstrings of Keras, NumPy and scikit-learn. The first line is the summary;
the name and the rest are the text. We read sources and import nothing. Whole
files are held out, and no summary occurs twice.
"""


def read_docstrings(package):
    root = pathlib.Path(importlib.util.find_spec(package).origin).parent
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                docstring = ast.get_docstring(node) or ""
                summary, _, body = docstring.partition("\n\n")
                summary, body = " ".join(summary.split()), body.split()
                if 20 <= len(summary) <= 100 and len(body) >= 8:
                    name = node.name.replace("_", " ").strip()
                    yield path, f"{name}: {' '.join(body[:60])}", summary


packages = ("keras", "numpy", "sklearn")
rows = [row for package in packages for row in read_docstrings(package)]
rows = list({row[2]: row for row in rows}.values())  # each summary once
files = sorted({path for path, _, _ in rows})
held_out = set(random.Random(0).sample(files, len(files) // 4))
random.Random(0).shuffle(rows)
train = [row[1:] for row in rows if row[0] not in held_out][:2000]
other = [row[1:] for row in rows if row[0] in held_out]
valid, test = other[:200], other[200:500]


def make_dataset(pairs):
    texts, summaries = zip(*pairs)
    return tf.data.Dataset.from_tensor_slices(
        {"encoder_text": list(texts), "decoder_text": list(summaries)}
    )


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


WIDTH, HEADS, LAYERS, DROPOUT = 96, 4, 2, 0.1
VOCABULARY, TEXT_LENGTH, SUMMARY_LENGTH = 1500, 48, 20

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
    return RDropBart(backbone=backbone, preprocessor=preprocessor)


"""
## Training

`compile` takes one more argument than the task's own: `rdrop`, the paper's
alpha, or None for plain Keras training. `fit` takes strings; the preprocessor
weights padding with 0, for both terms of the loss.
"""


def train_bart(rdrop):
    keras.utils.set_random_seed(1)
    model = build_bart()
    model.compile(
        optimizer=keras.optimizers.Adam(2e-3, clipnorm=0.1),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        sampler="greedy",
        rdrop=rdrop,
        jit_compile=False,  # XLA would take longer to compile than to train
    )
    stop = keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    history = model.fit(
        make_dataset(train).shuffle(2000, seed=1).batch(32),
        validation_data=make_dataset(valid).batch(100),
        epochs=EPOCHS,
        callbacks=[stop],
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
    preprocessor = model.preprocessor
    tokenizer = preprocessor.tokenizer

    def summarize(texts):
        inputs = preprocessor.generate_preprocess(texts)
        outputs = model.generate_step(inputs, [tokenizer.end_token_id])
        ids, mask = (
            outputs["decoder_token_ids"],
            outputs["decoder_padding_mask"],
        )
        return tokenizer.detokenize(tf.where(mask, ids, tokenizer.pad_token_id))

    archive = keras.export.ExportArchive()
    strings = tf.TensorSpec([None], tf.string)
    archive.add_endpoint("summarize", summarize, [strings])
    archive.track(preprocessor)
    archive.write_out(path, verbose=False)
    return tf.saved_model.load(path)


"""
## Results

We score what is served, by ROUGE-L against the docstring's own summary.
"""

texts, references = zip(*test)
scorer = RougeScorer(["rougeL"], use_stemmer=True)
figure, axis = plt.subplots(figsize=(5, 3), layout="constrained")
rows = [f"{'':8}{'best val_loss':>16}{'test ROUGE-L':>16}"]
for name, rdrop in (("plain", None), ("R-Drop", 0.7)):
    model, losses = train_bart(rdrop)
    served = export(model, OUTPUT / name)
    found = [text.decode() for text in served.summarize(list(texts)).numpy()]
    scores = [scorer.score(*pair)["rougeL"] for pair in zip(references, found)]
    rouge = 100 * sum(score.fmeasure for score in scores) / len(scores)
    rows.append(f"{name:8}{min(losses):16.3f}{rouge:16.1f}")
    axis.plot(range(1, len(losses) + 1), losses, label=name)
axis.set(xlabel="epoch", title="validation loss")
axis.legend()
figure.savefig(OUTPUT / "curves.png", dpi=80)

print(*rows, f"reference: {references[0]}", f"summary: {found[0]}", sep="\n")
