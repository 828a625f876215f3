"""Reading text, vocabularies, streams and blocks of language modelling."""

import re

import numpy as np
import pytest
import tensorflow as tf

from reproduce.common.errors import InputError
from reproduce.data import vocabulary as vocabulary_module
from reproduce.data.batches import batches_of_rows
from reproduce.data.blocks import blocks_of
from reproduce.data.language_corpus import LineFile
from reproduce.data.language_corpus import checked
from reproduce.data.language_corpus import load_files
from reproduce.data.language_corpus import load_topics
from reproduce.data.language_corpus import load_wikitext
from reproduce.data.special_ids import EOS
from reproduce.data.special_ids import PAD
from reproduce.data.special_ids import UNK
from reproduce.data.subwords import Subwords
from reproduce.data.vocabulary import encode_lines
from reproduce.data.vocabulary import learn_vocabulary
from reproduce.data.vocabulary import load_vocabulary
from reproduce.data.vocabulary import prompt_ids
from reproduce.data.vocabulary import save_vocabulary
from reproduce.data.vocabulary import text_of
from reproduce.data.words import Words
from reproduce.data.words import learn_words
from reproduce.export import texts
from reproduce.export.tokenizers import graph_of

# As the published files are: a space at both ends, empty lines with one.
WIKI = {
    "train": " \n = Robert <unk> = \n \n Robert @-@ like , the the the actor"
    " . \n",
    "valid": " \n = the <unk> = \n",
    "test": " the actor sang . \n",
}
LINES = ["the cat sat on the mat", "", "the dog  sat", "a mat, a cat"]


@pytest.fixture
def wikitext(tmp_path):
    for part, text in WIKI.items():
        (tmp_path / f"wiki.{part}.tokens").write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="module")
def words():
    return learn_words(LINES)


def subwords():
    return learn_vocabulary(LINES, "subwords", 30)


def test_wikitext_as_published(wikitext):
    corpus = load_wikitext(wikitext)
    # Ends of lines count, as in WikiText's own numbers.
    assert corpus.facts() == {
        "name": wikitext.name,
        "train_words": 17,
        "valid_words": 6,
        "test_words": 5,
    }
    vocabulary = learn_vocabulary(corpus.train, "words", None)
    # By frequency, then in order; `<unk>` is no word.
    assert vocabulary.words == ("the", "=", "Robert", ",", ".", "@-@") + (
        "actor",
        "like",
    )
    the, actor, stop = 4, 10, 8
    found = encode_lines(corpus.test, vocabulary)
    assert found.ids.tolist() == [the, actor, UNK, stop, EOS]
    assert (found.words, found.unknown) == (5, 1)
    found = encode_lines(corpus.valid, vocabulary)
    assert found.ids.tolist() == [EOS, 5, the, UNK, 5, EOS]
    assert len(encode_lines(corpus.train, vocabulary).ids) == 17


def test_line_files(tmp_path):
    path = tmp_path / "text"
    path.write_bytes("\ufeffé a\r\n\nb\u2028c".encode())
    assert list(LineFile(path)) == ["é a", "", "b\u2028c"]
    # Anew each time.
    lines = LineFile(path)
    assert list(lines) == list(lines)
    corpus = load_files(path, path)
    assert (corpus.name, corpus.test) == ("text", None)
    assert corpus.facts()["train_words"] == 7


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "No such file"),
        (b"", "empty"),
        (b" \n\r\n", "empty"),
        (b"good\nb\xe9d\n", r"line 2: expected UTF-8, got byte 0xe9 at 1"),
        (b"good\nbad\0\n", "line 2: a NUL byte"),
    ],
)
def test_broken_files_are_refused(content, message, tmp_path):
    path = tmp_path / "text"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as raised:
        checked(LineFile(path))
    assert str(path) in str(raised.value)


def test_a_missing_split_is_named(wikitext):
    (wikitext / "wiki.valid.tokens").unlink()
    with pytest.raises(InputError, match=r"no wiki\.valid\.tokens"):
        load_wikitext(wikitext)


def test_topics_are_split_without_leaks():
    corpus = load_topics()
    assert corpus.facts() == load_topics().facts()
    parts = {name: set(lines) for name, lines in corpus.parts().items()}
    facts = corpus.facts()
    assert facts["train_words"] > 30_000
    assert facts["valid_words"] > 3_000 and facts["test_words"] > 3_000
    # Prose is a line a paragraph; lines of code may be in several parts.
    for first, second in (("train", "valid"), ("train", "test")):
        shared = {line for line in parts[first] & parts[second]}
        assert max(map(len, shared), default=0) < 80
    assert not any(re.fullmatch(r"[*=-]{4,}", line) for line in corpus.train)


@pytest.mark.parametrize("learn", [subwords, lambda: learn_words(LINES)])
def test_graph_and_python_agree(learn, tmp_path):
    vocabulary = learn()
    lines = ["the cat", "", " a \u00a0mat,\tzebra ", "sat on\u2003the"]
    expected = [ids.tolist() for ids in vocabulary.encode(lines)]
    graph = graph_of(vocabulary)
    if isinstance(vocabulary, Words):
        assert graph.tokenize(tf.constant(lines)).to_list() == expected
        assert UNK in expected[2]
    nested = graph.tokenize(tf.ragged.constant([lines[:1], lines[1:2]]))
    assert nested.to_list() == [[expected[0]], [expected[1]]]
    save_vocabulary(vocabulary, tmp_path)
    loaded = load_vocabulary(tmp_path)
    assert type(loaded) is type(vocabulary)
    assert [ids.tolist() for ids in loaded.encode(lines)] == expected
    assert loaded.vocabulary_size == vocabulary.vocabulary_size
    pieces = graph_of(loaded).pieces(tf.constant(expected[0])).numpy()
    assert b"".join(pieces).replace("▁".encode(), b"") == b"thecat"


def test_sizes_of_vocabularies(words):
    assert words.vocabulary_size == 4 + 8
    assert learn_words(LINES, 6).words == words.words[:2]
    with pytest.raises(InputError, match="none"):
        learn_words(["<unk> <unk>", ""])
    with pytest.raises(InputError, match="--vocabulary-size"):
        learn_vocabulary(LINES, "subwords", None)
    with pytest.raises(InputError, match="none"):
        encode_lines([], words)


def test_streams_do_not_depend_on_chunks(words, monkeypatch):
    expected = []
    for line in LINES:
        expected += [*words.encode([line])[0], EOS]
    for lines in (1, 3, 100):
        monkeypatch.setattr(vocabulary_module, "LINES", lines)
        found = encode_lines(iter(LINES), words)
        assert found.ids.tolist() == expected
        assert found.words == 6 + 0 + 3 + 4 + 4


@pytest.mark.parametrize("learn", [subwords, lambda: learn_words(LINES)])
def test_prompts_are_read_as_in_training(learn):
    vocabulary = learn()
    text = "the cat\n\na mat, a"
    graph = graph_of(vocabulary)
    stream = encode_lines(text.split("\n"), vocabulary).ids
    for limit, expected in (
        # The end of the line before is in front, and the last one is not ended.
        (None, [EOS, *stream[:-1]]),
        (3, stream[-4:-1].tolist()),
    ):
        ids, lengths = prompt_ids([text, ""], vocabulary, limit)
        assert ids[0].tolist() == expected
        assert ids[1].tolist() == [EOS] + [PAD] * (len(expected) - 1)
        assert lengths.tolist() == [len(expected), 1]
        served, counts = texts.prompt_ids(graph, tf.constant([text, ""]), limit)
        np.testing.assert_array_equal(served, ids)
        np.testing.assert_array_equal(counts, lengths)
    # What is generated may begin and end with ends of lines.
    ends = np.array([EOS, *stream[:2], EOS], "int32")
    for row in (stream[:-1], ends):
        back = text_of(row, vocabulary)
        (served,) = texts.text_of(graph, tf.constant(row)[None]).numpy()
        assert served.decode() == back
    assert back.startswith("\nthe") and back.endswith("\n")
    assert text_of(stream[:-1], vocabulary) == text


def test_subwords_of_unseen_characters_are_counted():
    vocabulary = subwords()
    assert isinstance(vocabulary, Subwords)
    assert encode_lines(["a Ω"], vocabulary).unknown == 1


@pytest.mark.parametrize("tokens", [1, 5, 6, 7, 12])
def test_blocks_cover_the_stream_exactly_once(tokens):
    ids = np.arange(10, 10 + tokens, dtype="int32")
    blocks = blocks_of(ids, 6)
    flat = blocks.labels.reshape(-1)
    np.testing.assert_array_equal(flat[:tokens], ids)
    assert (flat[tokens:] == PAD).all() and len(flat) - tokens < 6
    inputs = blocks.inputs.reshape(-1)
    np.testing.assert_array_equal(inputs[:tokens], [EOS, *ids[:-1]])
    assert (inputs[tokens:] == PAD).all()


@pytest.mark.parametrize("context", [0, 1, 4, 5])
@pytest.mark.parametrize("tokens", [1, 6, 7, 20])
def test_windows_score_each_token_once(tokens, context):
    ids = np.arange(10, 10 + tokens, dtype="int32")
    blocks = blocks_of(ids, 6, context)
    before = np.concatenate([[EOS], ids[:-1]])
    found = []
    for inputs, labels in zip(*blocks):
        places = np.flatnonzero(labels)
        found += labels[places].tolist()
        length = np.count_nonzero(inputs)
        # As much of the text before as there is and may be.
        first = labels[places[0]] - 10
        assert places[0] == min(first, context)
        np.testing.assert_array_equal(
            inputs[:length], before[first - places[0] :][:length]
        )
        assert places[-1] == length - 1
    assert found == ids.tolist()


def test_a_window_leaves_something_to_predict():
    with pytest.raises(ValueError, match="below `size`"):
        blocks_of(np.arange(3), 4, 4)


def test_batches_hold_each_block_once_an_epoch():
    blocks = blocks_of(np.arange(10, 10 + 50, dtype="int32"), 5)
    epoch = [0]
    data = batches_of_rows(blocks, 4, 3, lambda: epoch[0])
    assert len(data) == 3
    orders = []
    for number in (0, 1, 1):
        epoch[0] = number
        labels = np.concatenate([data[i][1] for i in range(3)])
        orders.append(labels[:, 0].tolist())
        np.testing.assert_array_equal(
            labels[labels[:, 0].argsort()], blocks.labels
        )
    # Another one each epoch, and a resumed run has that of its epoch.
    assert orders[0] != orders[1] == orders[2]
