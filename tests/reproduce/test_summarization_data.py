"""What the summarization example reads: files, stories, docstrings, ids."""

import hashlib
import importlib.metadata
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf
from bart import bart_tokenizer

from reproduce.common.errors import InputError
from reproduce.data import docstrings
from reproduce.data.bart_tokenizers import BytePairs
from reproduce.data.bart_tokenizers import encode
from reproduce.data.bart_tokenizers import load_tokenizer
from reproduce.data.bart_tokenizers import save_tokenizer
from reproduce.data.bart_tokenizers import train_tokenizer
from reproduce.data.corpora import load_files
from reproduce.data.corpora import load_line_files
from reproduce.data.docstrings import load_docstrings
from reproduce.data.parallel_text import ParallelText
from reproduce.data.summaries import is_stories
from reproduce.data.summaries import load_stories
from reproduce.data.summaries import load_tfds
from reproduce.export.tokenizers import generated_texts
from reproduce.export.tokenizers import graph_of
from reproduce.export.tokenizers import text_ids

# --- line files --------------------------------------------------------------


def write_lines(directory, **files):
    for name, lines in files.items():
        part, side = name.split("_")
        (directory / f"{part}.{side}").write_bytes(lines)


def test_line_files_are_read_and_what_is_broken_named(tmp_path):
    write_lines(
        tmp_path,
        train_source=b"\xef\xbb\xbfOne long article.\r\n\nbad \xff\nFour.\n \n",
        train_target=b"One.\nTwo.\nThree.\n\nFive.\n",
        val_source="Ein Käse.\u2028Noch einer.\n".encode(),
        val_target=b"Cheese.\n",
    )
    corpus = load_line_files(tmp_path)
    assert corpus.train.sources == ("One long article.",)
    assert corpus.train.targets == ("One.",)
    assert corpus.valid.sources == ("Ein Käse.\u2028Noch einer.",)
    assert corpus.test is None
    report = corpus.reports["train"]
    assert report.counts == {"empty": 3, "not UTF-8": 1}
    assert report.first == tuple(
        f"{tmp_path / name}: {problem}"
        for name, problem in [
            ("train.source:2", "empty"),
            ("train.source:3", "not UTF-8"),
            ("train.target:4", "empty"),
            ("train.source:5", "empty"),
        ]
    )
    assert corpus.facts() == {
        "name": tmp_path.name,
        "train": 1,
        "valid": 1,
        "test": 0,
        "skipped": {"train": 4},
    }


def test_files_that_do_not_fit_are_refused(tmp_path):
    write_lines(
        tmp_path,
        train_source=b"a\nb\n",
        train_target=b"a\n",
        val_source=b"a\n",
        val_target=b"a\n",
    )
    with pytest.raises(InputError, match=r"source has 2 lines, .*target has 1"):
        load_line_files(tmp_path)
    (tmp_path / "train.target").write_bytes(b"\n\n")
    with pytest.raises(InputError, match="no pairs in it: 2 malformed"):
        load_line_files(tmp_path)
    (tmp_path / "val.target").unlink()
    with pytest.raises(InputError, match=r"no val\.target in it\. Expected"):
        load_line_files(tmp_path)
    (tmp_path / "test.source").write_bytes(b"a\n")
    with pytest.raises(InputError, match=r"no val\.target, test\.target in"):
        load_line_files(tmp_path)
    files = [tmp_path / "val.source"] * 5
    with pytest.raises(InputError, match="two test files come together"):
        load_files(*files)


# --- CNN/DailyMail -----------------------------------------------------------

STORY = (
    "LONDON (CNN) -- A cat sat down\n\nIt was tired.\n\n@highlight\n\n"
    "A cat sat\n\n@highlight\n\nIt slept.\n\n"
)


def story_name(address):
    return hashlib.sha1(address.encode()).hexdigest() + ".story"


@pytest.fixture
def stories(tmp_path):
    """One good story a part, and for training one of each bad kind."""
    contents = {
        "http://www.cnn.com/a.html": STORY.encode(),
        "http://www.dailymail.co.uk/b.html": STORY.replace("cat", "dog")
        .replace("\n", "\r\n")
        .encode(),
        "http://www.cnn.com/c.html": STORY.replace("cat", "Käse").encode(),
        "http://www.cnn.com/empty.html": b"\n\n",
        "http://www.cnn.com/no-article.html": b"\n@highlight\n\nA cat sat\n",
        "http://www.cnn.com/no-highlights.html": b"A cat sat\n\n@highlight\n",
        "http://www.cnn.com/latin-1.html": b"A K\xe4se\n\n@highlight\n\nA\n",
    }
    for address, content in contents.items():
        publisher = "cnn" if "cnn" in address else "dailymail"
        folder = tmp_path / publisher / "stories"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / story_name(address)).write_bytes(content)
    good, bad = list(contents)[:3], list(contents)[3:]
    lists = tmp_path / "url_lists"
    lists.mkdir()
    for name, addresses in {
        "train": [good[0], *bad, "http://www.cnn.com/gone.html"],
        "val": [good[1]],
        "test": [good[2]],
    }.items():
        text = "".join(f"{address}\n" for address in addresses)
        (lists / f"all_{name}.txt").write_text(text)
    return tmp_path


def test_stories_are_read_as_the_lists_divide_them(stories):
    assert is_stories(stories)
    corpus = load_stories(stories)
    assert corpus.train.sources == (
        # As BART's authors had it: cased, full stops where there are none.
        "LONDON (CNN) -- A cat sat down. It was tired.",
    )
    assert corpus.train.targets == ("A cat sat. It slept.",)
    assert corpus.valid.targets == ("A dog sat. It slept.",)
    assert corpus.test.targets == ("A Käse sat. It slept.",)
    assert corpus.reports["train"].counts == {
        "empty": 1,
        "no article": 1,
        "no highlights": 1,
        "not UTF-8": 1,
        "no such story": 1,
    }
    gone = story_name("http://www.cnn.com/gone.html")
    assert (
        corpus.reports["train"]
        .first[-1]
        .endswith(f"all_train.txt:6: {gone}: no such story")
    )
    assert corpus.facts()["skipped"] == {"train": 5}
    # The lists beside the stories do too.
    for path in (stories / "url_lists").iterdir():
        path.rename(stories / path.name)
    assert load_stories(stories).train == corpus.train


def test_broken_story_folders_are_refused(stories):
    lists = stories / "url_lists"
    train = (lists / "all_train.txt").read_text()
    (lists / "all_test.txt").write_text(train.splitlines()[0])
    with pytest.raises(InputError, match="1 stories are in the lists more"):
        load_stories(stories)
    (lists / "all_test.txt").write_text("http://www.cnn.com/gone2.html\n")
    with pytest.raises(InputError, match=r"all_test.txt: no pairs in it: 1"):
        load_stories(stories)
    (lists / "all_test.txt").unlink()
    with pytest.raises(InputError, match=r"no all_test.txt in it or in"):
        load_stories(stories)
    (lists / "all_test.txt").write_text("")
    for path in stories.rglob("*.story"):
        path.unlink()
    with pytest.raises(InputError, match=r"no \*.story files in it"):
        load_stories(stories)


# --- tensorflow-datasets -----------------------------------------------------


@pytest.fixture
def fake_tfds(monkeypatch):
    """A package that has one data set prepared, with these examples."""
    examples = {
        "train": [(b"An  article.", b"Its\nhighlights."), (b" ", b"None.")],
        "validation": [("Käse.".encode(), b"Cheese.")],
    }

    def builder(name, data_dir):
        if name.startswith("unknown"):
            raise ValueError("unknown data set\nand more")
        keys = ("document", "summary")
        if name.startswith("cnn_dailymail"):
            keys = ("article", "highlights")
        splits = examples if data_dir == "there" else {}
        if name == "xsum":
            splits = {"train": splits["train"]}

        def as_dataset(split):
            rows = splits[split]
            columns = [tf.constant(column) for column in zip(*rows)]
            return tf.data.Dataset.from_tensor_slices(dict(zip(keys, columns)))

        info = types.SimpleNamespace(
            splits=splits, features=dict.fromkeys(keys)
        )
        return types.SimpleNamespace(info=info, as_dataset=as_dataset)

    package = types.SimpleNamespace(builder=builder)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", package)


def test_prepared_datasets_are_read(fake_tfds):
    corpus = load_tfds("cnn_dailymail:3.*.*", "there")
    assert corpus.train.sources == ("An article.",)
    assert corpus.train.targets == ("Its highlights.",)
    assert corpus.valid.sources == ("Käse.",)
    assert corpus.test is None
    assert corpus.reports["train"].counts == {"empty": 1}
    with pytest.raises(InputError, match="got ValueError: unknown data set$"):
        load_tfds("unknown", "there")
    with pytest.raises(InputError, match="expected it prepared in elsewhere"):
        load_tfds("cnn_dailymail", "elsewhere")
    with pytest.raises(InputError, match="features article and highlights, g"):
        load_tfds("multi_news", "there")
    with pytest.raises(InputError, match="a training and a validation part"):
        load_tfds("xsum", "there")


def test_tfds_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(InputError, match="pip install tensorflow-datasets"):
        load_tfds("cnn_dailymail", "there")


# --- docstrings --------------------------------------------------------------


def test_docstrings_become_articles_and_summaries(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        '''
class BigHTTPCat(object):
    """A cat that sleeps
    all day.

    It  wakes at night, eats, and then goes to bed once more.
    """

    async def __meow_now2(self, times, /, loud=False, *, until):
        """Says what it wants.

        Args:
            times: How often, until somebody gets up and opens the door.
        """

        if times:
            def inner(*args):
                """Short one.\\n\\ntoo few words"""

def no_body():
    """Has a summary alone."""
'''
    )
    assert list(docstrings._docstrings_of(path)) == [
        (
            "class Big HTTP Cat: It wakes at night, eats, and then goes to bed "
            "once more.",
            "A cat that sleeps all day.",
        ),
        (
            "meow now2 (times, loud, until): Args: times: How often, until "
            "somebody gets up and opens the door.",
            "Says what it wants.",
        ),
    ]
    path.write_text('def broken(:\n    """A.\n\n    """')
    assert list(docstrings._docstrings_of(path)) == []


@pytest.fixture(scope="module")
def corpus():
    return load_docstrings()


def test_docstrings_are_distinct_and_nothing_leaks(corpus):
    assert [len(corpus.train), len(corpus.valid), len(corpus.test)] == [
        4000,
        200,
        400,
    ]
    parts = [corpus.train, corpus.valid, corpus.test]
    summaries = [docstrings._key(s) for part in parts for s in part.targets]
    assert len(set(summaries)) == len(summaries)
    bodies = [
        docstrings._key(s.partition(": ")[2])
        for part in parts
        for s in part.sources
    ]
    assert len(set(bodies)) == len(bodies)

    def runs(part):
        found = set()
        for text in part.sources + part.targets:
            words = text.lower().split()
            found |= {tuple(words[i : i + 12]) for i in range(len(words) - 11)}
        return found

    train, valid, test = map(runs, parts)
    assert len(train) > 10_000
    assert not train & valid and not train & test and not valid & test
    # Of the four, all are trained on, and three or more tested on.
    assert any("ndarray" in text for text in corpus.train.sources)
    assert any("KerasTensor" in text for text in corpus.train.sources)


def test_packages_are_in_one_part_each(monkeypatch):
    made = [
        docstrings.Docstring(f"p.{package}", f"f{n}: {package} {n}", f"S {n}.")
        for package in range(30)
        for n in range(package * 20, package * 20 + 20)
    ]
    monkeypatch.setattr(docstrings, "read_docstrings", lambda: iter(made))
    corpus = load_docstrings(100, 20, 40)
    packages = [
        {text.split()[1] for text in part.sources}
        for part in (corpus.train, corpus.valid, corpus.test)
    ]
    for index, part in enumerate(packages):
        assert part
        for other in packages[:index]:
            assert not part & other
    # Fewer pairs are some of the more.
    few = load_docstrings(50, 20, 40)
    assert few.train.sources == corpus.train.sources[:50]
    assert few.test == corpus.test
    with pytest.raises(InputError, match="Expected 9000 docstrings .* train"):
        load_docstrings(9000, 20, 40)


def test_docstrings_are_the_same_in_another_process(monkeypatch):
    # One package: reading all takes seconds.
    code = (
        "import hashlib\n"
        "from reproduce.data import docstrings\n"
        "roots = docstrings._roots()\n"
        "docstrings._roots = lambda: {'numpy': roots['numpy']}\n"
        "c = docstrings.load_docstrings(100, 20, 20)\n"
        "print(hashlib.sha256(repr(c).encode()).hexdigest())\n"
    )
    roots = docstrings._roots()
    monkeypatch.setattr(docstrings, "_roots", lambda: {"numpy": roots["numpy"]})
    corpus = load_docstrings(100, 20, 20)
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": "77", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert found == hashlib.sha256(repr(corpus).encode()).hexdigest()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(docstrings, "PACKAGES", ("no_such_package",))
    with pytest.raises(InputError, match="Expected the package no_such_pack"):
        list(docstrings.read_docstrings())


# --- ids ---------------------------------------------------------------------

TEXTS = [
    "a cat sat on the mat",
    "",
    "the cat said </s> and <pad>, 12345 times: don't!",
    "naïve Käse 日本",
    "  two  spaces ",
]


@pytest.fixture
def byte_pairs():
    return BytePairs(bart_tokenizer())


@pytest.fixture
def subwords():
    texts = ("Returns the shape of a tensor.", "Adds two arrays.", *TEXTS)
    return train_tokenizer(ParallelText(texts, texts), 80)


@pytest.mark.since("0.26", package="keras_hub", reason="other byte pairs")
def test_byte_pairs_round_trip_and_hold_no_special_ids(byte_pairs, tmp_path):
    assert (byte_pairs.bos, *byte_pairs.special) == (0, 1, 2, 2)
    encoded, cut = encode(byte_pairs, TEXTS, 100)
    assert cut == 0
    for ids in encoded:
        assert ids[0] == 0 and not np.isin(ids[1:], [0, 1, 2]).any()
    tokens = ["<s>", "a", "Ġcat", "Ġ", "s", "at"]
    vocabulary = byte_pairs.tokenizer.vocabulary
    assert encoded[0][:6].tolist() == [vocabulary[token] for token in tokens]
    save_tokenizer(byte_pairs, tmp_path)
    again = load_tokenizer(tmp_path)
    for tokenizer in (byte_pairs, again):
        padded = tf.ragged.constant(
            [[*ids, 2, 9] for ids in encoded], dtype=tf.int32
        ).to_tensor(1)
        texts = generated_texts(
            graph_of(tokenizer), padded, tokenizer.special, tokenizer.bos
        )
        found = [text.decode() for text in texts.numpy()]
        assert found == tokenizer.decode(ids[1:] for ids in encoded)
        assert found == [
            TEXTS[0],
            "",
            # What named them is gone.
            "the cat said  and , 12345 times: don't!",
            TEXTS[3],
            TEXTS[4].strip(),
        ]
    (tmp_path / "tokenizer" / "merges.txt").write_text("not a merge at all")
    with pytest.raises(InputError, match="not BART's tokenizer"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["byte_pairs", "subwords"])
def test_what_is_served_is_what_was_trained_on(name, request):
    tokenizer = request.getfixturevalue(name)
    longest = 12
    encoded, cut = encode(tokenizer, TEXTS, longest)

    pad, _, end = tokenizer.special
    graph = graph_of(tokenizer)

    @tf.function
    def serve(texts):
        whole = graph.tokenize(texts)
        ids = text_ids(graph, texts, (tokenizer.bos,), longest, end)
        return ids.to_tensor(pad), whole.row_lengths()

    served, lengths = serve(tf.constant(TEXTS))
    for row, ids in zip(served.numpy(), encoded, strict=True):
        assert row[row != pad].tolist() == [*ids, end]
        assert len(ids) <= longest - 1
    assert cut == sum(length > longest - 2 for length in lengths.numpy()) > 0


def test_subwords_round_trip(subwords, tmp_path):
    texts = ["Returns the shape of a tensor.", "Adds two arrays."]
    encoded, _ = encode(subwords, texts, 100)
    save_tokenizer(subwords, tmp_path)
    for tokenizer in (subwords, load_tokenizer(tmp_path)):
        assert tokenizer.special == (0, 2, 2)
        assert tokenizer.decode(ids[1:] for ids in encoded) == texts


def test_rouge_score_is_pinned():
    # Another version may come to other scores.
    assert importlib.metadata.version("rouge-score") == "0.1.2"
