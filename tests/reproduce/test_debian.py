"""Debian's package descriptions: files, alignment, split, programs."""

import bz2
import dataclasses
import gzip
import hashlib
import lzma

import pytest

from reproduce.__main__ import main
from reproduce.common.errors import InputError
from reproduce.data import held_out
from reproduce.data.debian import load_debian
from reproduce.data.debian import load_debian_sections
from reproduce.data.debian import load_debian_text
from reproduce.data.descriptions import align
from reproduce.data.descriptions import sentences
from reproduce.data.held_out import Item
from reproduce.data.held_out import part_of
from reproduce.data.held_out import split
from reproduce.decoding import generator
from reproduce.decoding import text_to_text
from reproduce.models.sizes import LANGUAGE_SIZES
from reproduce.models.sizes import TRANSLATION_SIZES
from reproduce.tasks import text_runs

PLACE = "deb.debian.org_debian_dists_bookworm_main"
APT = {
    "en": f"{PLACE}_i18n_Translation-en",
    "it": f"{PLACE}_i18n_Translation-it",
    "Packages": f"{PLACE}_binary-amd64_Packages",
    "Release": "deb.debian.org_debian_dists_bookworm_InRelease",
}
RELEASE = """-----BEGIN PGP SIGNED MESSAGE-----

Suite: oldstable
Version: 12.15
Codename: bookworm
"""
SOURCES = 60
# Two tenths of 60 sources, by the hashes of their names.
TEST, VALID = 2, 3
COMMON = "This package contains the documentation."
COMMON_IT = "Questo pacchetto contiene la documentazione."


def word(number):
    letters = "abcdefghij"
    return "".join(letters[int(digit)] for digit in f"{number:03}") + "us"


def packages():
    """Two packages a source: the tool and its documentation."""
    for number in range(SOURCES):
        name = word(number)
        yield (
            f"tool{number}",
            f"source{number}",
            "games" if number % 2 else "net",
            f"{name} tool\n Reads {name} files. Writes {name} pages.",
            f"arnese {name}\n Legge file {name}. Scrive pagine {name}.",
        )
        yield (
            f"tool{number}-doc",
            f"source{number}",
            "doc",
            f"{name} manual\n {COMMON}",
            f"manuale {name}\n {COMMON_IT}",
        )


def md5(text):
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def translation(language, rows):
    return "\n".join(
        f"Package: {name}\nDescription-md5: {md5(english)}\n"
        f"Description-{language}: {text}\n"
        for name, english, text in rows
    )


def contents(rows):
    rows = list(rows)
    return {
        "en": translation("en", [(n, e, e) for n, _, _, e, _ in rows]),
        "it": translation("it", [(n, e, i) for n, _, _, e, i in rows]),
        "Packages": "\n".join(
            f"Package: {name}\nSource: {source} (1.2-3)\nVersion: 1\n"
            f"Tag: a::b,\n c::d\nSection: {section}\n"
            for name, source, section, _, _ in rows
        ),
        "Release": RELEASE,
    }


def write(directory, rows=None, names=APT):
    directory.mkdir(exist_ok=True)
    for kind, text in contents(packages() if rows is None else rows).items():
        (directory / names[kind]).write_text(text, encoding="utf-8")
    return directory


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return write(tmp_path_factory.mktemp("debian"))


@pytest.fixture(scope="module")
def corpus(release):
    return load_debian(release)


def pairs_of(text):
    return list(zip(text.sources, text.targets))


def expected_part(source, share=0.1):
    place = int(hashlib.sha256(source.encode()).hexdigest(), 16) / 2**256
    if place < share:
        return "test"
    return "valid" if place >= 1 - share else "train"


# --- alignment ---------------------------------------------------------------

ENGLISH = """GNU Bourne Again Shell
 Bash is a shell. It reads commands, e.g. ALIAS, from
 a file (see RFC 22. It is old).
 .
 Features:
  * job control, which
    continues here
  * history
  and search
 .
 The end is
 near."""
ITALIAN = """Bourne Again Shell di GNU
 Bash è una shell. Legge comandi, ad es. ALIAS, da un file (vedere RFC 22. È
 vecchio).
 .
 Funzioni:
 - controllo dei processi, che
   continua qui;
 - cronologia e
   ricerca.
 .
 La fine è vicina."""


def test_units_are_aligned_one_to_one():
    assert list(align(ENGLISH, ITALIAN)) == [
        ("GNU Bourne Again Shell", "Bourne Again Shell di GNU"),
        ("Bash is a shell.", "Bash è una shell."),
        (
            "It reads commands, e.g. ALIAS, from a file (see RFC 22.",
            "Legge comandi, ad es. ALIAS, da un file (vedere RFC 22.",
        ),
        ("It is old).", "È vecchio)."),
        ("Features:", "Funzioni:"),
        (
            "job control, which continues here",
            "controllo dei processi, che continua qui;",
        ),
        ("history and search", "cronologia e ricerca."),
        ("The end is near.", "La fine è vicina."),
    ]


@pytest.mark.parametrize(
    ("english", "italian", "expected"),
    [
        # Two sentences and one: the paragraph.
        ("t\n A b. C d.", "u\n A b; c d.", [("A b. C d.", "A b; c d.")]),
        # As many, but not of one another.
        (
            "t\n No. One of the two sentences is long, and this is it.",
            "u\n Una delle due frasi è lunga, cioè questa qui. No.",
            [
                (
                    "No. One of the two sentences is long, and this is it.",
                    "Una delle due frasi è lunga, cioè questa qui. No.",
                )
            ],
        ),
        # Another number of paragraphs: the summary alone.
        ("t\n A.\n .\n B.", "u\n A e B.", []),
        # Another number of items: the other paragraphs.
        ("t\n  * a\n  * b\n .\n C.", "u\n  * a e b\n .\n D.", [("C.", "D.")]),
        # Indented lines are kept apart, and deeper ones continue them.
        (
            "t\n  ls - list\n       files\n  rm - remove",
            "u\n ls\n . \n rm",
            [],
        ),
        (
            "t\n  ls - list\n       files\n  rm - remove",
            "u\n   ls - elenca file\n   rm - rimuove",
            [
                ("ls - list files", "ls - elenca file"),
                ("rm - remove", "rm - rimuove"),
            ],
        ),
        # The marks of French lists, and the dot operator for a space.
        (
            "t\n  * one\n  * two",
            "u\n  \u2013\u00a0un\u22c5;\n  \u2212\u22c5deux.",
            [("one", "un ;"), ("two", "deux.")],
        ),
    ],
)
def test_units_that_differ_in_number(english, italian, expected):
    assert list(align(english, italian)) == [("t", "u"), *expected]


@pytest.mark.parametrize(
    "text",
    [
        "Version 2.5 of J. Smith et al. is old.",
        "Uses e.g. Perl, i.e. Perl 5, vs. Python etc. and so on.",
        "Läuft z. B. Linux, d. h. Debian Nr. 3.",
    ],
)
def test_abbreviations_do_not_end_sentences(text):
    assert sentences(text) == [text]


def test_sentences_end_with_their_brackets():
    text = 'One! Two? "Three." (Four.) Five'
    assert sentences(text) == ["One!", "Two?", '"Three."', "(Four.)", "Five"]


# --- the corpus --------------------------------------------------------------


def test_facts_are_those_of_the_files(corpus):
    facts = corpus.facts()
    # Five pairs a source, of which the documentation's is the same in all.
    assert facts["pairs"] == 4 * SOURCES + 1
    assert facts["duplicates"] == SOURCES - 1
    # Two, three, three and two words, and the five of the common sentence.
    assert facts["source_words"] == 10 * SOURCES + 5
    assert facts["target_words"] == 10 * SOURCES + 5
    assert facts["untranslated"] == 0
    assert facts["held_out_seen_in_training"] == 0
    assert facts["release"] == "bookworm 12.15"
    assert facts["source_language"] == "en"
    assert facts["target_language"] == "it"
    assert facts["test"] == 4 * TEST
    assert facts["valid"] == 4 * VALID
    assert facts["train"] == 4 * (SOURCES - TEST - VALID) + 1
    assert "release: bookworm 12.15, pairs: 241" in corpus.describe()[0]


def test_packages_of_a_source_are_in_one_part(corpus):
    for number in range(SOURCES):
        part = expected_part(f"source{number}")
        name = word(number)
        pairs = pairs_of(getattr(corpus, part))
        assert (f"{name} tool", f"arnese {name}") in pairs
        assert (f"{name} manual", f"manuale {name}") in pairs
        assert (f"Writes {name} pages.", f"Scrive pagine {name}.") in pairs


def test_text_of_several_sources_is_trained_on_once(corpus):
    assert pairs_of(corpus.train).count((COMMON, COMMON_IT)) == 1
    for held in (corpus.valid, corpus.test):
        assert COMMON not in held.sources


def test_fewer_pairs_are_the_first_of_more(release, corpus):
    few = load_debian(release, train_pairs=20)
    assert pairs_of(few.train) == pairs_of(corpus.train)[:20]
    assert few.valid == corpus.valid and few.test == corpus.test
    digests = [
        hashlib.sha256("\t".join(pair).encode()).hexdigest()
        for pair in pairs_of(corpus.train)
    ]
    assert digests == sorted(digests)


def test_words_are_limited_in_all_parts(release, corpus):
    short = load_debian(release, maximum_words=2)
    for part in held_out.PARTS:
        expected = [
            pair
            for pair in pairs_of(getattr(corpus, part))
            if max(len(text.split()) for text in pair) <= 2
        ]
        assert expected and pairs_of(getattr(short, part)) == expected
    with pytest.raises(InputError, match="none of at most 1 words for the"):
        load_debian(release, maximum_words=1)


def held_out_source():
    return next(
        f"source{number}"
        for number in range(SOURCES)
        if expected_part(f"source{number}") == "test"
    )


@pytest.mark.parametrize(
    ("english", "italian"),
    [
        # Another number, case, punctuation and package name: "twin" is one.
        ("Tool for TWIN 10!", "cosa diversa"),
        # The translation alone.
        ("something else", "Arnese per: new, 7"),
    ],
)
def test_held_out_text_seen_in_training_is_dropped(tmp_path, english, italian):
    trained = "source0"
    assert expected_part(trained) == "train"
    rows = [
        *packages(),
        ("seen", trained, "net", "tool for seen 1", "arnese per seen 1"),
        ("twin", held_out_source(), "net", english, italian),
        ("new", held_out_source(), "net", "a new thing", "una cosa nuova"),
    ]
    corpus = load_debian(write(tmp_path, rows))
    assert corpus.facts()["held_out_seen_in_training"] == 1
    assert english not in corpus.test.sources
    assert "a new thing" in corpus.test.sources
    # Whatever the size of the training part.
    assert load_debian(tmp_path, train_pairs=1).test == corpus.test


def test_what_is_not_a_translation_is_counted(tmp_path):
    extra = [
        ("same", "source0", "net", "Same Text", "same text"),
        ("signs", "source0", "net", "-> 1", "-> 2"),
        ("long", "source0", "net", "short", "una frase molto più lunga di lei"),
    ]
    corpus = load_debian(write(tmp_path, [*packages(), *extra]))
    assert corpus.facts()["untranslated"] == 3
    assert corpus.facts()["pairs"] == 4 * SOURCES + 1
    assert "short" not in corpus.train.sources


def test_unknown_package_is_its_own_source(tmp_path):
    directory = write(tmp_path)
    name = next(
        f"foreign{number}"
        for number in range(100)
        if expected_part(f"foreign{number}") == "test"
    )
    for code, text in (("en", "foreign thing"), ("it", "cosa straniera")):
        with (directory / APT[code]).open("a", encoding="utf-8") as file:
            file.write("\n" + translation(code, [(name, "foreign", text)]))
    assert "foreign thing" in load_debian(directory).test.sources


def test_languages_may_be_swapped(release, corpus):
    swapped = load_debian(release, "it", "en")
    assert swapped.facts()["source_language"] == "it"
    assert set(swapped.test.sources) == set(corpus.test.targets)


# --- the split ---------------------------------------------------------------


def test_held_out_parts_are_cut(monkeypatch):
    monkeypatch.setattr(held_out, "LARGEST", 3)
    items = [Item(str(n // 10), (f"{word(n)} x",)) for n in range(900)]
    found = split(items)
    # The share is that of 1.3 times three items among 900.
    share = 1.3 * 3 / 900
    for part in ("valid", "test"):
        texts = [
            item.texts for item in items if part_of(item.group, share) == part
        ]
        kept = [item.texts for item in found.parts[part]]
        assert len(kept) == min(len(texts), 3) and set(kept) <= set(texts)


def test_larger_share_moves_no_group_between_held_out_parts():
    groups = [f"source{number}" for number in range(500)]
    for group in groups:
        small, large = part_of(group, 0.02), part_of(group, 0.1)
        assert small in ("train", large)
        assert large == expected_part(group)
    assert {part_of(group, 0.02) for group in groups} == set(held_out.PARTS)


# --- files -------------------------------------------------------------------


def test_updates_and_other_components_are_ignored(release, corpus, tmp_path):
    directory = write(tmp_path)
    for suite in (
        "deb.debian.org_debian-security_dists_bookworm-security_main",
        "deb.debian.org_debian_dists_bookworm-updates_main",
        "deb.debian.org_debian_dists_bookworm_contrib",
    ):
        for name in APT.values():
            copy = directory / name.replace(PLACE, suite)
            if not copy.exists():
                copy.write_text("damaged")
    assert load_debian(directory).facts() == corpus.facts()
    load_debian_text(directory)


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [
        (".gz", gzip.compress),
        (".bz2", bz2.compress),
        (".xz", lzma.compress),
        ("", bytes),
    ],
)
def test_files_of_a_mirror(corpus, tmp_path, suffix, compress):
    for kind, text in contents(packages()).items():
        name = {"en": "Translation-en", "it": "Translation-it"}.get(kind, kind)
        packed = suffix if kind != "Release" else ""
        path = tmp_path / f"{name}{packed}"
        path.write_bytes(compress(text.encode()) if packed else text.encode())
    assert load_debian(tmp_path) == corpus


def test_release_is_known_by_its_folder_too(tmp_path):
    directory = write(tmp_path)
    (directory / APT["Release"]).unlink()
    assert load_debian(directory).facts()["release"] == "bookworm"


def rename(path, old, new):
    path.write_bytes(path.read_bytes().replace(old, new, 1))


def remove(kind):
    return lambda directory: (directory / APT[kind]).unlink()


def replaced(kind, old, new):
    return lambda directory: rename(directory / APT[kind], old, new)


def packed(kind, suffix, content):
    def change(directory):
        path = directory / APT[kind]
        path.unlink()
        path.with_name(path.name + suffix).write_bytes(content)

    return change


def whole(kind):
    return contents(packages())[kind].encode()


def second_release(directory):
    for kind in ("en", "it", "Packages"):
        name = APT[kind].replace("bookworm", "trixie")
        (directory / name).write_bytes(whole(kind))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("it"), "no Translation-it in it (languages there: en)"),
        (remove("Packages"), "no Packages file of the same release"),
        (second_release, "several releases in it"),
        (packed("it", ".gz", gzip.compress(whole("it"))[:-20]), "truncated"),
        (packed("it", ".bz2", bz2.compress(whole("it"))[:-20]), "truncated"),
        (packed("it", ".xz", lzma.compress(whole("it"))[:-20]), "truncated"),
        (packed("it", ".xz", b"not compressed"), "truncated or damaged"),
        (packed("it", ".gz", b"not compressed"), "Not a gzipped file"),
        (packed("it", ".bz2", b"not compressed"), "Invalid data stream"),
        (packed("it", ".lz4", b"\x04\x22\x4d\x18"), "GzipIndexes=false"),
        (packed("it", "", b""), "empty. Expected stanzas"),
        (packed("Packages", "", b""), "empty. Expected stanzas"),
        (replaced("it", b"arnese", b"arn\xe8se"), ":3: expected UTF-8"),
        (replaced("it", b"arnese", b"arn\0se"), "a NUL byte"),
        (
            replaced("it", b"Description-md5", b"Description-md4"),
            "stanza 1 (tool0) has no Description-md5",
        ),
        (
            replaced("it", b"Description-it", b"Description-de"),
            "stanza 1 (tool0) has no Description-it",
        ),
        (replaced("it", b"Package:", b"Pack:"), "has no Package"),
        (replaced("Packages", b"Section: net", b""), "has no Section"),
        (
            packed(
                "it", "", b"Package: x\nDescription-md5: 0\nDescription-it: y"
            ),
            "0 pairs of en and it",
        ),
    ],
)
def test_hostile_files_are_refused(change, message, tmp_path, capsys):
    directory = write(tmp_path / "files")
    change(directory)
    output = tmp_path / "run"
    arguments = ["train", "translation", "--corpus=debian"]
    arguments += ["--source-language=en", "--target-language=it"]
    arguments += [f"--data={directory}", f"--output={output}"]
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("translation --corpus=debian", "needs --data DIR"),
        ("translation --corpus=debian --data=nowhere", "No such file"),
        ("translation --maximum-words=3", "is for --corpus debian or"),
        ("language_modeling --corpus=debian", "needs --data DIR"),
        ("text_classification --corpus=debian", "needs --data DIR"),
        ("text_classification --train-texts=3", "is for --corpus debian"),
        (
            "text_classification --corpus=debian --data=d --glue-task=rte",
            "or --corpus and --data",
        ),
    ],
)
def test_contradicting_flags_are_refused(arguments, message, capsys):
    assert main(["train", *arguments.split()]) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1


# --- other tasks -------------------------------------------------------------


def test_text_is_paragraphs_without_repetition(release):
    corpus = load_debian_text(release)
    for number in range(SOURCES):
        lines = getattr(corpus, expected_part(f"source{number}"))
        name = word(number)
        assert f"{name} tool" in lines
        assert f"Reads {name} files. Writes {name} pages." in lines
    assert list(corpus.train).count(COMMON) == 1
    facts = corpus.facts()
    assert facts["source"] == "Debian bookworm 12.15"
    # Words and an end of each line, for three lines a source.
    assert facts["test_words"] == TEST * (2 + 6 + 2 + 3)
    assert facts["duplicates"] == SOURCES - 1
    few = load_debian_text(release, train_words=9)
    assert few.train == corpus.train[: len(few.train)]
    assert 9 <= few.facts()["train_words"] < 9 + 7
    assert few.test == corpus.test


def test_sections_are_the_classes_of_descriptions(release):
    data = load_debian_sections(release)
    assert data.classes == ("doc", "games", "net")
    number = int(held_out_source().removeprefix("source"))
    name, test = word(number), data.test["test"]
    place = test.first.index(
        f"{name} tool Reads {name} files. Writes {name} pages."
    )
    assert test.labels[place] == ("games" if number % 2 else "net")
    assert test.labels[test.first.index(f"{name} manual {COMMON}")] == "doc"
    assert data.facts()["train"] == 2 * (SOURCES - TEST - VALID)
    assert data.facts()["test"] == 2 * TEST
    few = load_debian_sections(release, train_texts=5)
    assert few.train.first == data.train.first[:5]
    assert few.classes == data.classes and few.test == data.test


def test_small_release_is_refused(tmp_path):
    rows = [("one", "source0", "net", "one thing", "una cosa")]
    directory = write(tmp_path, rows)
    for load in (load_debian, load_debian_text, load_debian_sections):
        with pytest.raises(InputError, match="none for the part"):
            load(directory)


# --- programs ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "flags"),
    [
        (
            "translation",
            "--target-language=it --train-pairs=20 --vocabulary-size=60 "
            "--maximum-words=2 --beam-size=1",
        ),
        ("language_modeling", "--train-words=60 --vocabulary-size=60"),
        ("text_classification", "--train-texts=20"),
    ],
)
def test_programs_train_on_it(
    task, flags, release, tmp_path, monkeypatch, capsys
):
    for sizes in (TRANSLATION_SIZES, LANGUAGE_SIZES):
        small = dataclasses.replace(
            sizes["tiny"], num_layers=1, width=16, feed_forward=16, num_heads=2
        )
        monkeypatch.setitem(sizes, "tiny", small)
    for module in (generator, text_to_text, text_runs):
        monkeypatch.setattr(module, "writes_saved_model", lambda: False)
    output = tmp_path / "run"
    arguments = ["train", task, "--corpus=debian", f"--data={release}"]
    arguments += ["--arm=plain", "--epochs=1", f"--output={output}"]
    arguments += flags.split()
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "bookworm 12.15" in printed and "test: " in printed
    assert (output / "metrics.json").exists()
    if task == "language_modeling":
        evaluate = ["evaluate", task, f"--model={output}", "--corpus=debian"]
        assert main([*evaluate, f"--data={release}"]) == 0
        assert "perplexity" in capsys.readouterr().out
