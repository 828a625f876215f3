"""LibreOffice's help: elements of HTML files, languages, the program."""

import dataclasses
import hashlib

import pytest

from reproduce.__main__ import main
from reproduce.common.errors import InputError
from reproduce.data.libreoffice import elements
from reproduce.data.libreoffice import load_libreoffice_help
from reproduce.decoding import text_to_text
from reproduce.models.sizes import TRANSLATION_SIZES

HELP = "usr/share/libreoffice/help"
FILES = 40
PAGE = """<!DOCTYPE html>
<html lang="{language}" dir="ltr">
<head><title>Title</title><script>var par_id1 = "<p>";</script></head>
<body><div id="DisplayArea">
{body}
<p id="bm_module" dir="auto"></p>
</div></body></html>
"""
KEYS = """<h1 id="hd_id1" dir="auto">
<a name="x"></a><a href="y.html">Saving
&amp; Loading</a></h1>
<p id="par_id2" class="listitem" dir="auto">Press <span id="swlnsys_1"
class="switchinline"><span hidden="true" id="MAC_1" class="MAC">Command
</span><span hidden="true" id="default_1">Ctrl</span></span>+S, <span
class="emph">then <span class="input">x</span></span> &lt;Enter&gt;.<br>Done.
<p id="par_N3">Not closed before
<td><p id="par_id4"></p></td>
<p id="par_id2">The id again.</p>
<p class="paragraph">Without an id.</p>
<img src="a.png" alt="Icon"><p id="bas_id5">Print 1</p>
<p id="par_id6">After all.</p>"""


def word(number):
    letters = "abcdefghij"
    return "".join(letters[int(digit)] for digit in f"{number:03}") + "us"


def page(language, number):
    name = word(number)
    texts = {
        "en-US": (
            f"The {name} dialog",
            f"Opens {name}. Closes {name}.",
            "Same",
        ),
        "de": (
            f"Der Dialog {name}",
            f"Öffnet {name}. Schließt {name}.",
            "same",
        ),
    }[language]
    common = {"en-US": "Click OK.", "de": "Klicken Sie auf OK."}[language]
    body = "\n".join(
        f'<p id="par_id{key}" dir="auto">{text}</p>'
        for key, text in enumerate((*texts, common))
    )
    # An element that only one language has.
    body += f'\n<p id="par_{language[:2]}">Alone {name}</p>'
    return PAGE.format(language=language, body=body)


def write(directory, folder=HELP):
    for language in ("en-US", "de"):
        for number in range(FILES):
            path = directory / folder / language / name_of(number, "text/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(page(language, number), encoding="utf-8")
    return directory


def name_of(number, text=""):
    return f"{text}swriter/{number % 3}/{word(number)}.html"


def expected_part(name):
    place = int(hashlib.sha256(name.encode()).hexdigest(), 16) / 2**256
    return "test" if place < 0.1 else "valid" if place >= 0.9 else "train"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    return write(tmp_path_factory.mktemp("help"))


@pytest.fixture(scope="module")
def corpus(unpacked):
    return load_libreoffice_help(unpacked)


def pairs_of(text):
    return list(zip(text.sources, text.targets))


def test_elements_are_read_without_hidden_parts(tmp_path):
    path = tmp_path / "a.html"
    path.write_text(PAGE.format(language="en-US", body=KEYS), encoding="utf-8")
    assert elements(path) == {
        "hd_id1": "Saving & Loading",
        "par_id2": "Press Ctrl+S, then x <Enter>. Done.",
        "par_N3": "Not closed before",
        "par_id6": "After all.",
    }


def test_elements_are_aligned_by_id_and_split_by_file(corpus):
    for number in range(FILES):
        pairs = pairs_of(getattr(corpus, expected_part(name_of(number))))
        name = word(number)
        assert (f"The {name} dialog", f"Der Dialog {name}") in pairs
        assert (f"Opens {name}.", f"Öffnet {name}.") in pairs
        assert (f"Closes {name}.", f"Schließt {name}.") in pairs
    assert (
        pairs_of(corpus.train).count(("Click OK.", "Klicken Sie auf OK.")) == 1
    )
    facts = corpus.facts()
    assert facts["files"] == FILES
    assert facts["pairs"] == 3 * FILES + 1
    assert facts["source_words"] == (3 + 2 + 2) * FILES + 2
    assert facts["target_words"] == (3 + 2 + 2) * FILES + 4
    assert facts["untranslated"] == FILES
    assert facts["duplicates"] == FILES - 1
    assert facts["held_out_seen_in_training"] == 0
    held = [expected_part(name_of(number)) for number in range(FILES)]
    assert facts["test"] == 3 * held.count("test") > 0
    assert facts["valid"] == 3 * held.count("valid") > 0


def test_held_out_text_seen_in_training_is_dropped(tmp_path, corpus):
    write(tmp_path)
    names = {expected_part(name_of(n)): name_of(n) for n in range(FILES)}
    for part, english in (("train", "Table 1 of 3"), ("test", "TABLE 4 of 5!")):
        for code, text in (("en-US", english), ("de", f"Tabelle für {part}")):
            path = tmp_path / HELP / code / "text" / names[part]
            with path.open("a", encoding="utf-8") as file:
                file.write(f'<p id="par_new">{text}</p>')
    found = load_libreoffice_help(tmp_path)
    assert found.facts()["held_out_seen_in_training"] == 1
    assert found.test == corpus.test
    assert "Table 1 of 3" in found.train.sources


@pytest.mark.parametrize("folder", ["", "help"])
def test_folders_and_code_of_english(corpus, tmp_path, folder):
    write(tmp_path, folder)
    found = load_libreoffice_help(tmp_path, "en", "de", train_pairs=7)
    assert found.test == corpus.test
    assert pairs_of(found.train) == pairs_of(corpus.train)[:7]
    short = load_libreoffice_help(tmp_path, "de", "en", maximum_words=2)
    assert set(short.test.sources) == {
        text for text in corpus.test.targets if len(text.split()) == 2
    }


def test_hostile_directories_are_refused(tmp_path, capsys):
    output = tmp_path / "run"

    def error_of(directory, target="de"):
        arguments = ["train", "translation", "--corpus=libreoffice_help"]
        arguments += [f"--data={directory}", f"--target-language={target}"]
        assert main([*arguments, f"--output={output}"]) == 2
        printed = capsys.readouterr().err
        assert printed.count("\n") == 1 and not output.exists()
        return printed

    assert "(languages there: none)" in error_of(tmp_path / "nowhere")
    write(tmp_path)
    printed = error_of(tmp_path, "fr")
    assert "no help in 'fr' in it (languages there: de, en-US)" in printed
    path = tmp_path / HELP / "de" / "text" / name_of(5)
    path.write_bytes("Öffnet".encode("latin-1"))
    assert f"{path}:1: expected UTF-8" in error_of(tmp_path)
    (tmp_path / HELP / "fr" / "text").mkdir(parents=True)
    assert "no HTML file in both en and fr" in error_of(tmp_path, "fr")
    other = tmp_path / HELP / "fr" / "text" / name_of(5)
    other.parent.mkdir(parents=True)
    other.write_text(page("de", 5))
    assert "none for the part" in error_of(tmp_path, "fr")
    with pytest.raises(InputError, match="no help in 'xx'"):
        load_libreoffice_help(tmp_path, "xx")


def test_program_trains_on_it(unpacked, tmp_path, monkeypatch, capsys):
    small = dataclasses.replace(
        TRANSLATION_SIZES["tiny"], num_layers=1, width=16, feed_forward=16
    )
    monkeypatch.setitem(TRANSLATION_SIZES, "tiny", small)
    monkeypatch.setattr(text_to_text, "writes_saved_model", lambda: False)
    arguments = ["train", "translation", "--corpus=libreoffice_help"]
    arguments += [f"--data={unpacked}", "--train-pairs=20", "--epochs=1"]
    arguments += ["--maximum-words=2", "--beam-size=1", "--arm=plain"]
    arguments += ["--vocabulary-size=60", f"--output={tmp_path / 'run'}"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "name: libreoffice_help" in printed and "test: BLEU" in printed
