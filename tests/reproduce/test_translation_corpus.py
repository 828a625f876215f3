"""What the translation example reads: files, CLDR phrases, subwords."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import tensorflow as tf

from reproduce.common.errors import InputError
from reproduce.data import cldr
from reproduce.data.cldr import languages
from reproduce.data.cldr import load_cldr
from reproduce.data.cldr import phrases
from reproduce.data.corpora import filter_pairs
from reproduce.data.corpora import load_files
from reproduce.data.corpora import load_iwslt14
from reproduce.data.corpora import load_tsv
from reproduce.data.parallel_text import ParallelText
from reproduce.data.parallel_text import Report
from reproduce.data.parallel_text import read_parallel
from reproduce.data.parallel_text import read_sentences
from reproduce.data.parallel_text import read_tsv
from reproduce.data.special_ids import BOS
from reproduce.data.special_ids import EOS
from reproduce.data.special_ids import SPECIAL_IDS
from reproduce.data.special_ids import UNK
from reproduce.data.subwords import Subwords
from reproduce.data.subwords import subwords_of
from reproduce.data.subwords import train_subwords
from reproduce.decoding.translator import Decoding
from reproduce.decoding.translator import Translator
from reproduce.export.tokenizers import generated_texts
from reproduce.export.tokenizers import graph_of

REPOSITORY = Path(__file__).resolve().parents[2]


def _write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        content if isinstance(content, bytes) else content.encode("utf-8")
    )
    return path


# --- files -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "sentences"),
    [
        ("ein Haus\nzwei\n", ("ein Haus", "zwei")),
        ("ein Haus\r\nzwei", ("ein Haus", "zwei")),
        (b"\xef\xbb\xbfein Haus\nzwei\n", ("ein Haus", "zwei")),
        (" ein\u00a0Haus \nzwei\t\n", ("ein\u00a0Haus", "zwei")),
        # `str.splitlines` would see four lines or more in each of these.
        ("a\u2028b\u2029c\nd\x0be\x0cf\n", ("a\u2028b\u2029c", "d\x0be\x0cf")),
        ("a\x85b\x1cc\nd\re\n", ("a\x85b\x1cc", "d\re")),
    ],
)
def test_parallel_files_are_read_line_by_line(tmp_path, content, sentences):
    source = _write(tmp_path / "a.de", content)
    target = _write(tmp_path / "a.en", "a house\ntwo\n")
    for pair, expected in (
        ((source, target), (sentences, ("a house", "two"))),
        ((target, source), (("a house", "two"), sentences)),
    ):
        text, report = read_parallel(*pair)
        assert (text.sources, text.targets) == expected
        assert len(text) == 2
        assert report == Report()


def test_tsv_is_read(tmp_path):
    path = _write(tmp_path / "a.tsv", '"a\tb\r\n c, d\t"e"" \n')
    text, report = read_tsv(path)
    assert text == ParallelText(('"a', "c, d"), ("b", '"e""'))
    assert str(report) == "no malformed pairs"


BAD_SOURCE = b"one\n\nthree\ncaf\xe9\nf\0ive\n \t\nseven\neight\n"
BAD_TARGET = b"eins\nzwei\n\xc2\xa0\nvier\nfuenf\n\nsieben\nacht\xff\n"


def test_malformed_training_pairs_are_skipped_and_named(tmp_path):
    source = _write(tmp_path / "a.en", BAD_SOURCE)
    target = _write(tmp_path / "a.de", BAD_TARGET)
    text, report = read_parallel(source, target, skip=True)
    assert text == ParallelText(("one", "seven"), ("eins", "sieben"))
    assert report.counts == {"empty": 3, "not UTF-8": 2, "holds a NUL byte": 1}
    assert report.skipped == 6
    assert report.first == (
        f"{source}:2: empty",
        f"{target}:3: empty",
        f"{source}:4: not UTF-8",
        f"{source}:5: holds a NUL byte",
        f"{source}:6: empty",
    )
    assert str(report).endswith(f"{source}:6: empty; ...")
    assert "(3: empty, 2: not UTF-8, 1: holds a NUL byte)" in str(report)


def test_malformed_tsv_rows_are_skipped_and_named(tmp_path):
    content = b"a\tb\nc\n\nd\te\tf\n\tg\nh\t \ni\tj\n\xff\tk\n"
    path = _write(tmp_path / "a.tsv", content)
    text, report = read_tsv(path, skip=True)
    assert text == ParallelText(("a", "i"), ("b", "j"))
    assert report.counts == {
        "1 columns, not 2": 2,
        "3 columns, not 2": 1,
        "empty": 2,
        "not UTF-8": 1,
    }
    assert report.first[3] == f"{path}:5, column 1: empty"
    assert report.first[4] == f"{path}:6, column 2: empty"


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("a\n\n", "b\nc\n", r"a.en:2: empty. Expected a source"),
        ("a\nb\n", "b\n \n", r"a.de:2: empty"),
        (b"a\xe9\n", "b\n", r"a.en:1: not UTF-8"),
        ("a\n", "b\0\n", r"a.de:1: holds a NUL"),
        ("a\nb\nc\n", "b\n", r"a.en has 3 lines, .*a.de has 1\. Expected"),
        ("a\n\n", "b\n", r"a.en has 2 lines, .*a.de has 1\. Expected"),
        ("", "", r"a.en: no pairs in it\."),
    ],
)
def test_malformed_files_are_refused_with_their_line(
    tmp_path, source, target, message
):
    paths = (
        _write(tmp_path / "a.en", source),
        _write(tmp_path / "a.de", target),
    )
    with pytest.raises(InputError, match=message):
        read_parallel(*paths)


def test_files_that_are_none_are_refused(tmp_path):
    good = _write(tmp_path / "good", "a\n")
    for pair, message in (
        ((tmp_path / "gone", good), "gone: No such file"),
        ((good, tmp_path), "Is a directory"),
    ):
        with pytest.raises(InputError, match=message):
            read_parallel(*pair)
    with pytest.raises(InputError, match="gone: No such file"):
        read_tsv(tmp_path / "gone")
    wide = _write(tmp_path / "wide", "a\n".encode("utf-16"))
    with pytest.raises(InputError, match="no pairs in it: 2 malfor"):
        read_parallel(wide, wide, skip=True)


def test_sentences_to_translate_keep_their_lines(tmp_path):
    path = _write(tmp_path / "a", "\ufeffa\n\nb\u2028c \r\n")
    assert read_sentences(path) == ["a", "", "b\u2028c "]
    assert read_sentences(_write(path, "")) == []
    with pytest.raises(InputError, match=":2: not UTF-8. Save the file"):
        read_sentences(_write(path, b"a\n\xff\n"))


def test_corpus_skips_in_training_and_refuses_elsewhere(tmp_path):
    good = [_write(tmp_path / name, "x\ny\n") for name in ("a.en", "a.de")]
    bad = [_write(tmp_path / "bad.en", "x\n\n"), good[1]]
    corpus = load_files(
        *(*bad, *good, *good),
        strict=True,
        source_language="en",
        target_language="de",
    )
    assert corpus.facts() == {
        "name": "bad.en",
        "source_language": "en",
        "target_language": "de",
        "train": 1,
        "valid": 2,
        "test": 2,
        "skipped": {"train": 1},
    }
    assert load_files(*good, *good).facts()["test"] == 0
    for files in ((*good, *bad, *good), (*good, *good, *bad)):
        with pytest.raises(InputError, match="bad.en:2: empty"):
            load_files(*files, strict=True)
    with pytest.raises(InputError, match="come together: only .*a.en"):
        load_files(*good, *good, test_source=good[0])


def test_tsv_corpus_skips_in_training_and_refuses_elsewhere(tmp_path):
    good = _write(tmp_path / "good.tsv", "x\ty\n")
    bad = _write(tmp_path / "bad.tsv", "x\ty\nz\n")
    corpus = load_tsv(bad, good, good)
    assert corpus.reports["train"].skipped == 1
    assert len(corpus.train) == len(corpus.test) == 1
    assert load_tsv(good, good).test is None
    for files in ((good, bad, good), (good, good, bad)):
        with pytest.raises(InputError, match="bad.tsv:2: 1 columns"):
            load_tsv(*files)


def _iwslt(directory, pieces):
    for part in ("train", "valid", "test"):
        _write(directory / f"{part}.de", f"das {part} {pieces}\n")
        _write(directory / f"{part}.en", f"the {part} house\n")


def test_iwslt_is_read_whole_or_joined(tmp_path):
    _iwslt(tmp_path, "Ha@@ us@@")
    joined = load_iwslt14(tmp_path)
    assert joined.train.sources == ("das train Haus",)
    _iwslt(tmp_path / "tmp", "Hütte")
    corpus = load_iwslt14(tmp_path)
    assert corpus.name == "iwslt14"
    assert corpus.train.sources == ("das train Hütte",)
    assert corpus.valid.sources == ("das valid Hütte",)
    assert corpus.test.targets == ("the test house",)
    assert load_iwslt14(tmp_path / "tmp") == corpus
    turned = load_iwslt14(tmp_path, "en", "de")
    assert turned.test.targets == ("das test Hütte",)
    assert turned.target_language == "de"
    (tmp_path / "tmp" / "test.de").unlink()
    assert load_iwslt14(tmp_path) == joined


def test_iwslt_says_which_files_it_misses(tmp_path):
    _iwslt(tmp_path, "Haus")
    (tmp_path / "valid.en").unlink()
    with pytest.raises(InputError, match="no valid.en in it"):
        load_iwslt14(tmp_path)
    with pytest.raises(InputError, match="no train.fr, valid.fr, test.fr in"):
        load_iwslt14(tmp_path, "de", "fr")
    with pytest.raises(InputError, match="gone: not a directory"):
        load_iwslt14(tmp_path / "gone")


def test_filter_goes_by_length_and_ratio():
    lengths = [(3, 3), (0, 2), (2, 0), (5, 2), (2, 5), (6, 5), (5, 6), (4, 2)]
    sides = [[0] * a for a, _ in lengths], [[0] * b for _, b in lengths]
    kept, counts = filter_pairs(*sides, 5, 2.0)
    assert kept == [0, 7]
    assert counts == {"empty": 2, "too_long": 2, "too_uneven": 2}
    assert filter_pairs(*sides, 6)[0] == [0, 3, 4, 5, 6, 7]


# --- CLDR --------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus():
    return load_cldr()


def _parts(corpus):
    return corpus.train, corpus.valid, corpus.test


def test_cldr_has_so_many_pairs_and_no_source_twice(corpus):
    assert corpus.facts() == {
        "name": "cldr",
        "source_language": "en",
        "target_language": "de",
        "train": 2500,
        "valid": 300,
        "test": 500,
        "skipped": {},
    }
    sources = [source for part in _parts(corpus) for source in part.sources]
    assert len(sources) == len(set(sources))


def test_cldr_holds_out_combinations_but_no_words(corpus):
    of = {phrase.source: phrase for phrase in phrases()}
    said = [[of[source] for source in p.sources] for p in _parts(corpus)]
    combinations = [{phrase.combination for phrase in part} for part in said]
    assert not combinations[0] & combinations[1]
    assert not combinations[0] & combinations[2]
    assert not combinations[1] & combinations[2]
    known = frozenset().union(*(phrase.words for phrase in said[0]))
    for part in said[1:]:
        assert all(phrase.words <= known for phrase in part)
    # A name alone cannot be held out; everything else is.
    kinds = [{phrase.kind for phrase in part} for part in said]
    assert kinds[0] - kinds[2] == {"name"}
    assert kinds[1] == kinds[2]
    assert len(kinds[0]) == 14


def test_cldr_dates_are_held_out_in_all_formats():
    by_part = {}
    for phrase in phrases():
        if phrase.kind in ("date", "moment"):
            part = cldr._part_of(phrase)
            by_part.setdefault(phrase.combination, set()).add(part)
    assert all(len(parts) == 1 for parts in by_part.values())
    dated = Counter(p.combination for p in phrases() if p.kind == "date")
    assert max(dated.values()) > 1


def test_cldr_says_the_same_in_both_languages():
    translations = {phrase.source: phrase.target for phrase in phrases()}
    # Written by hand.
    expected = {
        "3 kilometers": "3 Kilometer",
        "in 3 hours": "in 3 Stunden",
        "2 months ago": "vor 2 Monaten",
        "2nd quarter 2019": "2. Quartal 2019",
        "December 12, 2012": "12. Dezember 2012",
        "Sun 7:36 in the evening": "So. 7:36 abends",
        "Germany": "Deutschland",
        "German (Austria)": "Deutsch (Österreich)",
        "Kenya, Mauritania, and Comoros": "Kenia, Mauretanien und Komoren",
        "33.4 drams": "33,4 Dram",
        "Jun 9 \u2013 Jul 5, 2004": "9. Juni \u2013 5. Juli 2004",
    }
    assert {source: translations.get(source) for source in expected} == expected
    for source, target in translations.items():
        assert source.casefold() != target.casefold()
        assert source == " ".join(source.split())
        assert target == " ".join(target.split())


def test_cldr_drops_what_has_two_translations(monkeypatch):
    texts = {"en": ["I", "I", "you", "you"], "de": ["ich", "mir", "du", "du"]}
    drafts = [
        (
            "name",
            f"word/{index}",
            [],
            lambda locale, index=index: texts[locale.language][index],
        )
        for index in range(4)
    ]
    monkeypatch.setattr(cldr, "drafts", lambda: drafts)
    found = phrases()
    assert [(p.source, p.target, p.combination) for p in found] == [
        ("you", "du", "word/2")
    ]


@pytest.mark.parametrize("target", ["fr", "ja", "pt_BR"])
def test_cldr_translates_into_other_languages(target):
    corpus = load_cldr(target)
    assert [len(part) for part in _parts(corpus)] == [2500, 300, 500]
    assert corpus.target_language == target
    # Where Babel has no name it writes the code: "duration-second".
    every = [text for part in _parts(corpus) for text in part.targets]
    units = ("duration-", "length-", "volume-", "mass-")
    assert not [text for text in every if any(unit in text for unit in units)]


def test_cldr_translates_from_other_languages():
    pairs = dict(zip(*_text_of(load_cldr("en", "de", 50, 5, 5).train)))
    turned = {p.target: p.source for p in phrases("en", "de")}
    assert turned["Germany"] == "Deutschland"
    assert len(pairs) == 50


def _text_of(text):
    return text.sources, text.targets


def test_cldr_knows_its_languages():
    known = languages()
    assert {"de", "en", "fr", "ja", "ru"} <= set(known)
    assert "tlh" not in known and "de_AT" not in known
    for bad in ("xx", "not a language", ""):
        with pytest.raises(InputError, match="no language .* such as de"):
            load_cldr(bad)
    with pytest.raises(InputError, match="says too little in 'cho'"):
        load_cldr("cho")
    with pytest.raises(InputError, match="two different languages"):
        load_cldr("en_GB")


def test_cldr_is_the_same_in_every_process(corpus):
    code = (
        "import hashlib\n"
        "from reproduce.data.cldr import load_cldr\n"
        "print(hashlib.sha256(repr(load_cldr()).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=REPOSITORY,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_cldr_fewer_pairs_are_the_first_of_more(corpus):
    few = load_cldr("de", "en", 60, 10, 12)
    assert [len(part) for part in _parts(few)] == [60, 10, 12]
    assert few.train.sources == corpus.train.sources[:60]
    with pytest.raises(ValueError, match="valid_pairs=0"):
        load_cldr(valid_pairs=0)


# --- subwords ----------------------------------------------------------------


# Not of the module: what clears the Keras session frees its model.
@pytest.fixture
def subwords(corpus):
    joint, again = subwords_of(corpus.train, 500)
    assert joint is again
    return joint


def _strings(tensor):
    return [text.decode("utf-8") for text in tensor.numpy()]


def test_subwords_are_those_of_sentencepiece(corpus, subwords):
    texts = [*corpus.test.sources, *corpus.test.targets]
    reference = sentencepiece.SentencePieceProcessor(model_proto=subwords.proto)
    encoded = subwords.encode(texts)
    assert [ids.tolist() for ids in encoded] == reference.encode(texts)
    assert {ids.dtype for ids in encoded} == {np.dtype("int32")}
    assert subwords.vocabulary_size == reference.get_piece_size() == 500
    assert subwords.encode([]) == []
    assert [ids.tolist() for ids in subwords.encode(["", ""])] == [[], []]
    specials = [reference.id_to_piece(index) for index in range(4)]
    assert specials == ["<pad>", "<s>", "</s>", "<unk>"]


def test_subwords_give_the_text_back(corpus, subwords):
    for part in _parts(corpus):
        for texts in (part.sources, part.targets):
            assert subwords.decode(subwords.encode(texts)) == list(texts)


def test_subwords_do_not_normalize():
    texts = ["5 km²", "ﬁne … ½", "x\u00a0y"]
    subwords = Subwords(train_subwords(texts, 25))
    ids = subwords.encode(["  ½   5 km² ", "x\u00a0y"])
    assert subwords.decode(ids) == ["½ 5 km²", "x\u00a0y"]


def test_unknown_characters_are_unknown(subwords):
    (ids,) = subwords.encode(["3 日本 km"])
    assert ids.tolist().count(UNK) == 1
    (text,) = subwords.decode([ids])
    assert "⁇" in text and text.startswith("3") and text.endswith("km")


def test_generated_texts_stop_at_eos_and_drop_padding(subwords):
    three, four = (subwords.encode([t])[0].tolist() for t in ("three", "four"))
    rows = [[1, *three, EOS, *four], [*four, 0, 0], [EOS, *three], []]
    ids = tf.ragged.constant(rows, dtype=tf.int32).to_tensor(0)
    expected = ["three", "four", "", ""]
    for rows, texts in ((ids, expected), (ids[:2, :0], ["", ""])):
        found = generated_texts(graph_of(subwords), rows, SPECIAL_IDS, BOS)
        assert _strings(found) == texts
        translator = Translator(None, subwords, subwords, Decoding())
        assert translator._texts_of(rows.numpy()) == texts


def test_subwords_run_in_a_saved_model(subwords, tmp_path):
    module = tf.Module()
    module.graph = graph = graph_of(subwords)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def there_and_back(texts):
        ids = graph.tokenize(texts)
        return {"ids": ids.to_tensor(0), "texts": graph.detokenize(ids)}

    module.there_and_back = there_and_back
    tf.saved_model.save(module, str(tmp_path))
    texts = ["3 kilometers", "in 5 Tagen"]
    loaded = tf.saved_model.load(str(tmp_path)).there_and_back(texts)
    assert _strings(loaded["texts"]) == texts
    for row, expected in zip(loaded["ids"].numpy(), subwords.encode(texts)):
        np.testing.assert_array_equal(row[row != 0], expected)


def test_subwords_are_trained_the_same_every_time(corpus):
    texts = corpus.train.sources
    assert train_subwords(texts, 300) == train_subwords(texts, 300)
    assert train_subwords(texts, 300) != train_subwords(texts, 301)


def test_sides_may_have_subwords_of_their_own(corpus):
    source, target = subwords_of(corpus.train, 400, joint=False)
    assert source.vocabulary_size == target.vocabulary_size == 400
    assert len(target.encode(["Kilometer"])[0]) < len(
        source.encode(["Kilometer"])[0]
    )


def test_every_character_and_long_sentences_are_learned():
    # Longer than SentencePiece looks by default.
    texts = ["ab " * 3000 + "ß", "ü"]
    subwords = Subwords(train_subwords(texts, 10))
    assert UNK not in np.concatenate(subwords.encode(["abß ü"]))


def test_vocabulary_must_fit_the_text():
    texts = ["abc", "cd"]
    with pytest.raises(InputError, match="the 4 characters .* least 9."):
        train_subwords(texts, 8)
    assert Subwords(train_subwords(texts, 9)).vocabulary_size == 9
    with pytest.warns(UserWarning, match="only 1. subwords. Asked for: 500"):
        few = Subwords(train_subwords(texts, 500))
    assert 9 < few.vocabulary_size < 20
    for texts in ([], ["", " "]):
        with pytest.raises(InputError, match="got none"):
            train_subwords(texts, 100)


def test_subwords_are_saved_and_loaded(subwords, tmp_path):
    path = tmp_path / "subwords.model"
    subwords.save(path)
    assert Subwords.load(path).proto == subwords.proto
    for content in (b"", b"no model", subwords.proto[:100]):
        _write(path, content)
        with pytest.raises(InputError, match=f"{path}: not a SentencePiece"):
            Subwords.load(path)
    with pytest.raises(InputError, match="gone: No such file"):
        Subwords.load(tmp_path / "gone")


def test_subwords_of_other_programs_must_have_our_ids(tmp_path):
    prefix = str(tmp_path / "other")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["abc", "bcd"]),
        model_prefix=prefix,
        vocab_size=9,
        minloglevel=2,
        model_type="bpe",
    )
    with pytest.raises(InputError, match=r"Got -1, 1, 2, 0: train"):
        Subwords.load(tmp_path / "other.model")
