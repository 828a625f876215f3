"""The GLUE tasks: their files, whole and broken, and regression data."""

from dataclasses import replace

import numpy as np
import pytest
import sklearn.datasets

from rdrop_keras import recipes
from reproduce.common.errors import InputError
from reproduce.data.diabetes import load_diabetes
from reproduce.data.glue import load_glue
from reproduce.data.glue_files import NAMED
from reproduce.data.glue_files import Report
from reproduce.data.glue_tasks import GLUE_TASKS

MNLI_START = (
    "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\t"
    "sentence2_binary_parse\tsentence1_parse\tsentence2_parse\t"
    "sentence1\tsentence2"
)
STSB_HEADER = (
    "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\t"
    "sentence1\tsentence2"
)
MRPC_HEADER = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String"


def _mnli(index, first, second, *labels):
    parses = "\t".join(["( parse )"] * 4)
    return "\t".join(
        [str(index), "1", "1n", "slate", parses, first, second, *labels]
    )


def _stsb(index, first, second, *score):
    start = [str(index), "news", "MSRvid", "2012test", "0001", "none", "none"]
    return "\t".join([*start, first, second, *score])


VOTES = [f"label{place}" for place in range(1, 6)]
MNLI_DEV = "\t".join([MNLI_START, *VOTES, "gold_label"])

# What GLUE's files look like, a few lines of each.
FILES = {
    "mnli": {
        "train.tsv": [
            f"{MNLI_START}\tlabel1\tgold_label",
            _mnli(0, "It rains.", "It is wet.", "neutral", "entailment"),
            _mnli(1, 'He said "no', "He agreed. ", "neutral", "contradiction"),
            _mnli(2, "A dog runs.", "It is big.", "entailment", "neutral"),
        ],
        "dev_matched.tsv": [
            MNLI_DEV,
            _mnli(0, "a", "b", *["neutral"] * 5, "entailment"),
            _mnli(1, "c", "d", *["neutral"] * 5, "-"),
        ],
        "dev_mismatched.tsv": [
            MNLI_DEV,
            _mnli(0, "e", "f", *["entailment"] * 5, "neutral"),
        ],
        "test_matched.tsv": [MNLI_START, _mnli(0, "g", "h")],
        "test_mismatched.tsv": [MNLI_START, _mnli(0, "i", "j")],
    },
    "mrpc": {
        "train.tsv": [
            MRPC_HEADER,
            '1\t70\t71\tHe said " yes .\tYes , he said .',
            "0\t72\t73\tShares fell .\tShares rose .",
        ],
        "dev.tsv": [MRPC_HEADER, "1\t80\t81\ta\tb"],
        "test.tsv": [
            "index\t#1 ID\t#2 ID\t#1 String\t#2 String",
            "0\t90\t91\tc\td",
        ],
    },
    "qnli": {
        "train.tsv": [
            "index\tquestion\tsentence\tlabel",
            "0\tWho came?\tAnna came.\tentailment",
            "1\tWho left?\tIt rained.\tnot_entailment",
        ],
        "dev.tsv": ["index\tquestion\tsentence\tlabel", "0\ta\tb\tentailment"],
        "test.tsv": ["index\tquestion\tsentence", "0\tc\td"],
    },
    "qqp": {
        "train.tsv": [
            "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
            "133273\t1\t2\tHow are you?\tHow do you do?\t1",
            '402555\t3\t4\t"Was he real?',
            "\tWhat is the evidence?\t0",
            "360472\t5\t6\tWhat is it?\t\t0",
        ],
        "dev.tsv": [
            "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
            "201359\t7\t8\ta\tb\t0",
            "263843",
        ],
        "test.tsv": ["id\tquestion1\tquestion2", "0\tc\td"],
    },
    "rte": {
        "train.tsv": [
            "index\tsentence1\tsentence2\tlabel",
            "0\tNo weapons.\tWeapons.\tnot_entailment",
            "1\tHe has died.\tHe is dead.\tentailment",
        ],
        "dev.tsv": [
            "index\tsentence1\tsentence2\tlabel",
            "0\ta\tb\tentailment",
        ],
        "test.tsv": ["index\tsentence1\tsentence2", "0\tc\td"],
    },
    "sst2": {
        "train.tsv": ["sentence\tlabel", 'no " wit \t0', "a joy \t1"],
        "dev.tsv": ["sentence\tlabel", "a \t1"],
        "test.tsv": ["index\tsentence", "0\tc ."],
    },
    "stsb": {
        "train.tsv": [
            f"{STSB_HEADER}\tscore",
            _stsb(0, "A plane.", "An air plane.", "5.000"),
            _stsb(1, "A flute.", "A large flute.", "3.80"),
            _stsb(4, "A flute.", "A dog.", "0"),
        ],
        "dev.tsv": [f"{STSB_HEADER}\tscore", _stsb(0, "a", "b", "2.5")],
        "test.tsv": [STSB_HEADER, _stsb(0, "c", "d")],
    },
    "cola": {
        "train.tsv": [
            "gj04\t1\t\tOur friends won't buy this.",
            'gj04\t0\t*\tThe "more we.',
        ],
        "dev.tsv": ["gj04\t1\t\ta"],
        "test.tsv": ["index\tsentence", "0\tc"],
    },
}

EXPECTED_TRAIN = {
    "mnli": (
        ("It rains.", 'He said "no', "A dog runs."),
        ("It is wet.", "He agreed.", "It is big."),
        ("entailment", "contradiction", "neutral"),
        [0, 2, 1],
    ),
    "mrpc": (
        ('He said " yes .', "Shares fell ."),
        ("Yes , he said .", "Shares rose ."),
        ("equivalent", "not_equivalent"),
        [1, 0],
    ),
    "qnli": (
        ("Who came?", "Who left?"),
        ("Anna came.", "It rained."),
        ("entailment", "not_entailment"),
        [0, 1],
    ),
    "qqp": (
        ("How are you?", "What is it?"),
        ("How do you do?", ""),
        ("duplicate", "not_duplicate"),
        [1, 0],
    ),
    "rte": (
        ("No weapons.", "He has died."),
        ("Weapons.", "He is dead."),
        ("not_entailment", "entailment"),
        [1, 0],
    ),
    "sst2": (
        ('no " wit', "a joy"),
        None,
        ("negative", "positive"),
        [0, 1],
    ),
    "stsb": (
        ("A plane.", "A flute.", "A flute."),
        ("An air plane.", "A large flute.", "A dog."),
        (5.0, 3.8, 0.0),
        [5.0, 3.8, 0.0],
    ),
    "cola": (
        ("Our friends won't buy this.", 'The "more we.'),
        None,
        ("acceptable", "unacceptable"),
        [1, 0],
    ),
}


def _write(directory, files, end="\n"):
    directory.mkdir(parents=True, exist_ok=True)
    for name, lines in files.items():
        text = "".join(line + end for line in lines)
        (directory / name).write_bytes(text.encode("utf-8"))
    return directory


@pytest.mark.parametrize("task", GLUE_TASKS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_task_loads(tmp_path, task, end):
    dataset = load_glue(task, _write(tmp_path, FILES[task], end))
    first, second, labels, targets = EXPECTED_TRAIN[task]
    assert dataset.task is GLUE_TASKS[task]
    assert dataset.train.first == first
    assert dataset.train.second == second
    assert dataset.train.labels == labels
    assert len(dataset.train) == len(first)
    found = dataset.targets_of(dataset.train)
    regression = task == "stsb"
    assert found.dtype == (np.float32 if regression else np.int32)
    expected = np.array(targets, found.dtype)
    np.testing.assert_array_equal(
        found, expected[:, None] if regression else expected
    )
    names = ["matched", "mismatched"] if task == "mnli" else ["dev"]
    assert list(dataset.valid) == names
    for part in dataset.valid.values():
        assert len(part) == 1 and len(part.labels) == 1
        assert (part.second is not None) == dataset.task.is_pair
    for part in dataset.test.values():
        assert len(part) == 1 and part.labels is None
        with pytest.raises(ValueError, match="with labels"):
            dataset.targets_of(part)
    skipped = {"qqp": 3, "mnli": 1}.get(task, 0)
    assert dataset.report.skipped == dataset.facts()["skipped"] == skipped
    # The same from the folder that holds all tasks, and with a byte order
    # mark, and without test files.
    root = tmp_path / "glue_data"
    folder = _write(root / dataset.task.folder, FILES[task], end)
    for path in folder.iterdir():
        content = path.read_bytes()
        if path.name.startswith("test"):
            path.unlink()
        elif not content.startswith(b"\xef\xbb\xbf"):
            path.write_bytes(b"\xef\xbb\xbf" + content)
    again = load_glue(task, root)
    assert (again.train, again.valid) == (dataset.train, dataset.valid)
    assert again.test == {}


def test_columns_of_other_parts(tmp_path):
    mnli = load_glue("mnli", _write(tmp_path / "a", FILES["mnli"]))
    assert mnli.valid["matched"].labels == ("entailment",)
    assert mnli.valid["mismatched"].first == ("e",)
    assert mnli.test["mismatched"].second == ("j",)
    assert mnli.facts() == {
        "name": "GLUE MNLI",
        "classes": 3,
        "train": 3,
        "valid matched": 1,
        "valid mismatched": 1,
        "test matched": 1,
        "test mismatched": 1,
        "skipped": 1,
    }
    cola = load_glue("cola", _write(tmp_path / "b", FILES["cola"]))
    assert cola.valid["dev"].first == ("a",)
    assert cola.test["test"].first == ("c",)


def test_tasks_are_those_of_the_recipes():
    names = recipes.names("language_understanding")
    by_task = {}
    for name in names:
        task = name.removeprefix("glue_").split("_", 1)[0]
        by_task.setdefault(task, []).append(recipes.get(name))
    assert by_task.keys() == GLUE_TASKS.keys() == FILES.keys()
    for name, found in by_task.items():
        task = GLUE_TASKS[name]
        for recipe in found:
            assert recipe.dataset == f"GLUE {task.folder}"
            assert recipe.results[0].metric.split()[0].lower() == task.headline
            squared = recipe.divergence == "squared_error"
            assert squared == task.is_regression
    # One headline out of the task's metrics, and classes or a range.
    for task in GLUE_TASKS.values():
        assert task.headline in task.metrics
        assert bool(task.classes) != task.is_regression


def test_known_broken_lines_are_counted_and_named(tmp_path):
    dataset = load_glue("qqp", _write(tmp_path, FILES["qqp"]))
    assert dataset.report.counts == {"short line": 3}
    train, dev = tmp_path / "train.tsv", tmp_path / "dev.tsv"
    assert str(dataset.report) == (
        f"3 lines skipped (3: short line): {train}:3: short line; "
        f"{train}:4: short line; {dev}:3: short line"
    )
    dataset = load_glue("mnli", _write(tmp_path / "mnli", FILES["mnli"]))
    assert dataset.report.counts == {"label '-'": 1}
    assert "dev_matched.tsv:3: label '-'" in str(dataset.report)


def test_report_names_the_first_few():
    report = Report()
    assert str(report) == "no lines skipped"
    for number in range(NAMED + 1):
        report.skip(f"a:{number}", "bad")
    assert report.skipped == NAMED + 1
    assert str(report).endswith(f"a:{NAMED - 1}: bad; ...")


# --- MRPC as Microsoft has it ------------------------------------------------

MICROSOFT = {
    "msr_paraphrase_train.txt": [
        MRPC_HEADER,
        "1\t10\t11\ta\tb",
        "0\t12\t13\tc\td",
        "1\t14\t15\te\tf",
        "0\t14\t16\tg\th",
    ],
    "msr_paraphrase_test.txt": [MRPC_HEADER, "1\t20\t21\ti\tj"],
}


@pytest.mark.parametrize("name", ["dev_ids.tsv", "mrpc_dev_ids.tsv"])
def test_microsoft_files_are_split_by_ids(tmp_path, name):
    files = MICROSOFT | {name: ["14\t15", "10\t11"]}
    dataset = load_glue("mrpc", _write(tmp_path, files))
    assert dataset.train.first == ("c", "g")
    assert dataset.train.labels == ("not_equivalent", "not_equivalent")
    assert dataset.valid["dev"].first == ("a", "e")
    assert dataset.test["test"].second == ("j",)
    assert dataset.test["test"].labels is None
    # GLUE's own files go first where both are there.
    both = load_glue("mrpc", _write(tmp_path, FILES["mrpc"]))
    assert both.train.first == EXPECTED_TRAIN["mrpc"][0]
    assert both.test["test"].first == ("c",)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (None, "dev_ids.tsv: No such file"),
        ([], "dev_ids.tsv: expected lines of text, got an empty file"),
        (["10\t11", "10"], "dev_ids.tsv:2: expected two ids.*got 1"),
        (["10\t11", "10\t11"], "dev_ids.tsv:2: .*twice the same"),
        (["10\t11", "10\t12"], "dev_ids.tsv:2: .*got 10, 12, which are not"),
        (
            ["10\t11", "12\t13", "14\t15", "14\t16"],
            "train.txt: expected examples, got none",
        ),
    ],
)
def test_bad_ids_are_refused(tmp_path, ids, message):
    files = MICROSOFT | ({} if ids is None else {"dev_ids.tsv": ids})
    with pytest.raises(InputError, match=message):
        load_glue("mrpc", _write(tmp_path, files))


# --- broken files ------------------------------------------------------------


def _with(task, file, line, text):
    lines = list(FILES[task][file])
    lines[line - 1] = text
    return FILES[task] | {file: lines}


@pytest.mark.parametrize(
    ("task", "file", "line", "text", "message"),
    [
        ("rte", "train.tsv", 1, "index\tsentence1\tsentence2", "'label', got"),
        ("rte", "dev.tsv", 1, "0\ta\tb\tentailment", "column 'sentence1', got"),
        ("sst2", "dev.tsv", 2, "a\t2", "label out of 0, 1, got '2'"),
        ("mrpc", "dev.tsv", 2, "-\t1\t2\ta\tb", "label out of 0, 1, got '-'"),
        ("mnli", "train.tsv", 3, _mnli(1, "a", "b", "", "x"), "got 'x'"),
        ("mnli", "train.tsv", 3, _mnli(1, "a", "b", "neutral"), "12 columns"),
        ("cola", "train.tsv", 2, "gj04\t0\tThe.", "4 columns, got 3"),
        ("cola", "train.tsv", 2, "gj04\t0\t\tThe.\tx", "4 columns, got 5"),
        ("cola", "dev.tsv", 1, "sentence\tlabel", "4 columns, got 2"),
        ("rte", "train.tsv", 2, "0\ta\tentailment", "4 columns, got 3"),
        ("rte", "train.tsv", 2, "", "4 columns, got 1"),
        ("qqp", "dev.tsv", 2, "1\t2\t3\ta\tb\tc\t0", "6 columns, got 7"),
        ("qqp", "test.tsv", 2, "1\ta", "3 columns, got 2"),
        ("qqp", "train.tsv", 5, "133273\t5\t6\ta\tb\t0", "133273 of line 2"),
        ("rte", "train.tsv", 3, "0\ta\tb\tentailment", "new index, got 0 of"),
        ("mrpc", "train.tsv", 3, "0\t70\t71\ta\tb", "got 70, 71 of line 2"),
        (
            "rte",
            "train.tsv",
            3,
            "1\t \tb\tentailment",
            "sentence, got an empty",
        ),
        ("qnli", "dev.tsv", 2, "1\ta\t\tentailment", "sentence, got an empty"),
        ("stsb", "dev.tsv", 2, _stsb(0, "a", "b", "5.1"), "from 0 to 5, got"),
        ("stsb", "dev.tsv", 2, _stsb(0, "a", "b", "-1"), "score from 0 to 5"),
        ("stsb", "dev.tsv", 2, _stsb(0, "a", "b", "nan"), "got 'nan'"),
        ("stsb", "dev.tsv", 2, _stsb(0, "a", "b", "high"), "got 'high'"),
        ("stsb", "dev.tsv", 2, _stsb(0, "a", "b", ""), "got ''"),
    ],
)
def test_broken_lines_are_refused(tmp_path, task, file, line, text, message):
    _write(tmp_path, _with(task, file, line, text))
    with pytest.raises(InputError, match=message) as caught:
        load_glue(task, tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / file}:{line}: expected")
    assert "\n" not in str(caught.value)


def test_other_broken_files_are_refused(tmp_path):
    _write(tmp_path, FILES["rte"])
    path = tmp_path / "dev.tsv"
    whole = path.read_bytes()
    for content, message in (
        (b"", "dev.tsv: expected lines of text, got an empty file"),
        (b"\xef\xbb\xbf", "dev.tsv: expected lines of text, got an empty file"),
        (whole.splitlines()[0], "dev.tsv: expected examples, got none"),
        (
            whole + b"1\tcaf\xe9\ta\tb\n",
            "dev.tsv:3: expected UTF-8, got .*0xe9",
        ),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            load_glue("rte", tmp_path)
    path.unlink()
    with pytest.raises(InputError, match="no dev.tsv in it. Expected .* RTE"):
        load_glue("rte", tmp_path)
    with pytest.raises(InputError, match="gone: not a directory"):
        load_glue("rte", tmp_path / "gone")
    with pytest.raises(InputError, match="out of mnli, .*got wnli"):
        load_glue("wnli", tmp_path)


def test_lines_end_nowhere_else(tmp_path):
    text = "a\u2028b\x0bc\x85d\re"
    files = _with("rte", "dev.tsv", 2, f"0\t{text}\tf\tentailment")
    dataset = load_glue("rte", _write(tmp_path, files))
    assert dataset.valid["dev"].first == (text,)


def test_tasks_cannot_be_changed():
    with pytest.raises(AttributeError):
        GLUE_TASKS["rte"].name = "x"
    assert replace(GLUE_TASKS["rte"], name="x").folder == "RTE"


# --- regression --------------------------------------------------------------


def test_diabetes_is_split_once_and_for_all():
    one, two = load_diabetes(), load_diabetes()
    assert one.facts() == {
        "name": "diabetes",
        "inputs": 10,
        "train": 242,
        "valid": 80,
        "test": 120,
    }
    for part in ("train", "valid", "test"):
        ours, again = getattr(one, part), getattr(two, part)
        assert ours.inputs.shape == (len(ours.targets), 10)
        assert ours.inputs.dtype == ours.targets.dtype == np.float32
        np.testing.assert_array_equal(ours.inputs, again.inputs)
        np.testing.assert_array_equal(ours.targets, again.targets)
    # Which rows, so that another release of NumPy cannot change it unseen.
    mean, scale = one.target_moments
    scores = one.test.targets[:3, 0] * scale + mean
    np.testing.assert_allclose(scores, [141, 150, 47], rtol=1e-5)


def test_diabetes_is_scaled_by_its_training_part():
    found = load_diabetes()
    for values in (found.train.inputs, found.train.targets):
        np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(values.std(axis=0), 1, atol=1e-5)
    assert abs(found.test.targets.mean()) > 1e-3
    # All rows, each once, once the scaling is undone.
    parts = (found.train, found.valid, found.test)
    mean, scale = found.target_moments
    scores = np.concatenate([part.targets[:, 0] for part in parts])
    scores = scores * scale + mean
    expected = sklearn.datasets.load_diabetes().target
    np.testing.assert_allclose(np.sort(scores), np.sort(expected), rtol=1e-4)
    rows = np.concatenate([part.inputs for part in parts])
    assert len(np.unique(rows, axis=0)) == 442
