"""KerasHub tasks keep everything: raw inputs, saving, `generate()`."""

import keras
import numpy as np
import pytest

keras_hub = pytest.importorskip("keras_hub")
pytest.importorskip("tensorflow_text")

from rdrop_keras import RDropMixin  # noqa: E402
from rdrop_keras import RDropModel  # noqa: E402

# `fit` of a KerasHub task makes a dataset of what it is given.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed"),
    # Of plain tasks, which KerasHub compiles when they are made and Keras
    # cannot compile as they were; ours are restored without a warning.
    pytest.mark.filterwarnings("ignore:Skipping variable loading:UserWarning"),
    pytest.mark.filterwarnings("ignore:A total of 1 objects could not"),
    pytest.mark.filterwarnings("ignore:`compile.*` was not called as part"),
]

models = keras_hub.models
TEXTS = ["the cat sat", "a dog ran far", "the dog sat", "a cat ran"]


@keras.saving.register_keras_serializable("tests")
class RDropBert(RDropMixin, models.BertTextClassifier):
    pass


@keras.saving.register_keras_serializable("tests")
class RDropGPT2(RDropMixin, models.GPT2CausalLM):
    pass


@keras.saving.register_keras_serializable("tests")
class RDropViT(RDropMixin, models.ViTImageClassifier):
    pass


@keras.saving.register_keras_serializable("tests")
class RDropBart(RDropMixin, models.BartSeq2SeqLM):
    pass


def bert(cls):
    words = sorted({word for text in TEXTS for word in text.split()})
    tokenizer = models.BertTokenizer(
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    )
    backbone = models.BertBackbone(
        vocabulary_size=tokenizer.vocabulary_size(),
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=8,
        dropout=0.2,
    )
    preprocessor = models.BertTextClassifierPreprocessor(
        tokenizer, sequence_length=8
    )
    return cls(backbone, num_classes=3, preprocessor=preprocessor)


# Byte-pair vocabulary of single letters; "Ġ" is the space before a word.
LETTERS = ["Ġ", *"abcdefghijklmnopqrstuvwxyz", "th"]
MERGES = ["t h"]


def gpt2(cls):
    vocabulary = {
        token: i for i, token in enumerate([*LETTERS, "<|endoftext|>"])
    }
    tokenizer = models.GPT2Tokenizer(vocabulary, merges=MERGES)
    backbone = models.GPT2Backbone(
        vocabulary_size=tokenizer.vocabulary_size(),
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=24,
        dropout=0.2,
    )
    preprocessor = models.GPT2CausalLMPreprocessor(
        tokenizer, sequence_length=24
    )
    return cls(backbone=backbone, preprocessor=preprocessor)


def bart(cls):
    special = ["<s>", "<pad>", "</s>", "<mask>"]
    vocabulary = {token: i for i, token in enumerate([*special, *LETTERS])}
    tokenizer = models.BartTokenizer(vocabulary, merges=MERGES)
    backbone = models.BartBackbone(
        vocabulary_size=tokenizer.vocabulary_size(),
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=1024,
        dropout=0.2,
    )
    preprocessor = models.BartSeq2SeqLMPreprocessor(
        tokenizer, encoder_sequence_length=8, decoder_sequence_length=8
    )
    return cls(backbone=backbone, preprocessor=preprocessor)


def vit(cls, dropout_rate=0.2):
    backbone = models.ViTBackbone(
        image_shape=(8, 8, 3),
        patch_size=4,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        mlp_dim=16,
        dropout_rate=dropout_rate,
    )
    return cls(backbone=backbone, num_classes=3, preprocessor=None)


LABELS = np.array([0, 1, 2, 1])
IMAGES = np.random.default_rng(0).random((4, 8, 8, 3)).astype("float32")
PAIRS = {"encoder_text": TEXTS, "decoder_text": TEXTS[::-1]}
TASKS = {
    "bert": (bert, RDropBert, models.BertTextClassifier, (TEXTS, LABELS)),
    "gpt2": (gpt2, RDropGPT2, models.GPT2CausalLM, (TEXTS,)),
    "vit": (vit, RDropViT, models.ViTImageClassifier, (IMAGES, LABELS)),
    "bart": (bart, RDropBart, models.BartSeq2SeqLM, (PAIRS,)),
}


OUR_LOGS = ["consistency_loss", "task_loss"]
KERAS_LOGS = {
    "bert": ["loss", "sparse_categorical_accuracy"],
    "gpt2": ["loss", "sparse_categorical_accuracy"],
    "vit": ["loss", "sparse_categorical_accuracy"],
    "bart": ["loss", "sparse_categorical_accuracy"],
}


def compile_task(task, **kwargs):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    task.compile(keras.optimizers.Adam(1e-3), loss, **kwargs)


WAYS = [(name, "mixin") for name in TASKS]
WAYS += [("bert", "from_model"), ("gpt2", "from_model")]


@pytest.mark.parametrize("name, way", WAYS)
def test_raw_inputs_save_reload_generate(name, way, tmp_path):
    build, mixed, plain, data = TASKS[name]
    if way == "mixin":
        task = trainer = build(mixed)
        # KerasHub compiles in the constructor, with alpha 1.
        assert task.compiled
        assert task.rdrop.alpha == 1.0
    else:
        task = build(plain)
        # KerasHub compiles in the constructor.
        with pytest.warns(UserWarning, match="compiled already"):
            trainer = RDropModel.from_model(task)
    compile_task(trainer, rdrop=2.0)
    history = trainer.fit(*data, batch_size=2, verbose=0).history
    assert sorted(history) == sorted({*OUR_LOGS, *KERAS_LOGS[name]})
    assert history["consistency_loss"][0] > 0
    np.testing.assert_allclose(
        history["loss"],
        np.add(
            history["task_loss"], np.multiply(history["consistency_loss"], 1.0)
        ),
        rtol=1e-4,
    )
    assert type(task) is (mixed if way == "mixin" else plain)
    inputs = data[0]
    logs = task.evaluate(*data, verbose=0, return_dict=True)
    assert sorted(logs) == sorted(KERAS_LOGS[name])
    path = tmp_path / "task.keras"
    trainer.save(path)
    again = keras.saving.load_model(path)
    assert type(again) is type(task)
    if name in ("bert", "vit"):
        np.testing.assert_array_equal(
            again.predict(inputs, verbose=0), task.predict(inputs, verbose=0)
        )
    if name in ("gpt2", "bart"):
        prompt = TEXTS[:2]
        for model in (task, again):
            # In eager mode, because a graph takes longer to trace than to run.
            model.compile(sampler="greedy", run_eagerly=True)
        generated = task.generate(prompt, max_length=8)
        assert len(generated) == 2
        assert generated == again.generate(prompt, max_length=8)
    if way == "mixin" and name != "bart":
        compile_task(again, rdrop=2.0, run_eagerly=True)
        history = again.fit(*data, batch_size=2, verbose=0).history
        assert "consistency_loss" in history


def test_reloaded_task_keeps_alpha(tmp_path):
    task = bert(RDropBert)
    compile_task(task, rdrop=2.5)
    task.fit(TEXTS, LABELS, batch_size=2, verbose=0)
    task.save(tmp_path / "task.keras")
    again = keras.saving.load_model(tmp_path / "task.keras")
    assert again.rdrop.alpha == 2.5
    assert again.fit(TEXTS, LABELS, verbose=0).history["consistency_loss"]


def test_default_dropout_of_vit_is_an_error():
    task = vit(RDropViT, dropout_rate=0.0)
    compile_task(task)
    with pytest.raises(ValueError, match="KerasHub's Gemma and ViT"):
        task.fit(IMAGES, LABELS, verbose=0)


def test_padding_of_a_causal_model_does_not_count():
    """KerasHub marks padding by sample weights of zero; the consistency is
    that of the real tokens, whatever stands in the rest."""
    task = gpt2(RDropGPT2)
    compile_task(task, rdrop=2.0)
    x, y, weights = task.preprocessor(TEXTS)
    garbled = np.where(np.array(weights), y, 5)
    results = []
    for targets in (y, garbled):
        # Dropout draws from a global generator on PyTorch.
        keras.utils.set_random_seed(5)
        for layer in task._flatten_layers():
            seed = getattr(layer, "seed_generator", None)
            if seed is not None:
                seed.state.assign([3, 0])
        loss, _ = task.compute_rdrop_loss(x, targets, weights)
        results.append(float(keras.ops.convert_to_numpy(loss)))
    assert results[0] == results[1]
