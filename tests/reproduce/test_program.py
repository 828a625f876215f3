"""The program: directories that runs claim, flags, errors in one line."""

import contextlib
import errno
import io
import json
import shutil
import subprocess
import sys

import filelock
import keras
import numpy as np
import pytest

from reproduce import outputs
from reproduce import runner
from reproduce import serving
from reproduce.__main__ import TASKS
from reproduce.__main__ import main
from reproduce.__main__ import parse
from reproduce.__main__ import task_of
from reproduce.common import runs
from reproduce.common.checkpoints import Checkpoints
from reproduce.common.comparison import Measure
from reproduce.common.curves import ACCURACY
from reproduce.common.errors import InputError
from reproduce.outputs import claimed
from reproduce.task import Run
from reproduce.task import Settings
from reproduce.task import Task

EPOCHS = 3


class Numbers:
    name = "numbers"

    def facts(self):
        return {"rows": 8}


class TinyRun(Run):
    epochs = EPOCHS

    def __init__(self):
        self.model = keras.Sequential(
            [
                keras.Input((2,)),
                keras.layers.Dropout(0.5),
                keras.layers.Dense(1),
            ]
        )
        self.model.compile("sgd", "mse", jit_compile=False)

    def batches(self, epoch):
        return Rows()

    def callbacks(self, output):
        self.checkpoints = Checkpoints(
            output / runs.CHECKPOINTS, lambda: {"score": 1.0}
        )
        return [self.checkpoints]

    def finish(self, output, history):
        chosen = self.checkpoints.choose(0)
        self.model.save(output / runs.MODEL)
        return {"chosen_epochs": chosen, "test": {"loss": 1.0}}


class Rows(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return np.ones((4, 2), "float32"), np.full((4, 1), index, "float32")


class Tiny(Task):
    name = "tiny"
    settings = Settings
    score = ACCURACY

    def load(self, settings):
        return Numbers()

    def begin(self, data, settings):
        return TinyRun()

    def measures(self, data):
        return [Measure("test", "loss", "loss")]

    def report(self, metrics):
        return f"test: loss {metrics['test']['loss']}"


TASK = Tiny()


@pytest.fixture
def tiny(monkeypatch):
    """Adds a task that trains in a moment."""
    monkeypatch.setitem(TASKS, "tiny", __name__)
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Tiny.__module__])


def run(output, *flags):
    return main(["train", "tiny", "--arm=plain", f"--output={output}", *flags])


class Cut(runner.BackupAndRestore):
    """Ends a run as Ctrl-C does, after its second epoch."""

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if epoch == 1:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory):
    output = tmp_path_factory.mktemp("cut_off") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "BackupAndRestore", Cut)
        patch.setitem(TASKS, "tiny", __name__)
        patch.setitem(sys.modules, __name__, sys.modules[Tiny.__module__])
        with contextlib.redirect_stderr(io.StringIO()) as printed:
            assert run(output) == 130
    return output, printed.getvalue()


@pytest.fixture
def interrupted(tiny, cut_off, tmp_path):
    """A run that was cut off after two of three epochs."""
    return shutil.copytree(cut_off[0], tmp_path / "run")


# Keras's CSVLogger leaves its file open when an exception ends `fit`.
LEFT_OPEN = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


# --- directories -------------------------------------------------------------


def claim(directory, program="here", settings=None, **how):
    with claimed(directory, program, settings or {}, **how):
        pass


def test_claim_takes_new_and_empty_directories(tmp_path):
    claim(tmp_path, settings={"seed": 1})
    claim(tmp_path / "new" / "one", settings={"seed": 1}, resume=True)
    for directory in (tmp_path, tmp_path / "new" / "one"):
        marker = runs.read_json(directory / runs.MARKER)
        assert marker == {"program": "here", "settings": {"seed": 1}}
    # A run that wrote nothing has nothing to lose.
    claim(tmp_path, settings={"seed": 2})
    assert runs.read_json(tmp_path / runs.MARKER)["settings"] == {"seed": 2}


def test_claim_refuses_what_it_did_not_make(tmp_path):
    (tmp_path / "thesis.txt").write_text("all of it")
    for how in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(InputError, match="not empty, and without the run"):
            claim(tmp_path, **how)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(InputError, match="not a directory"):
        claim(tmp_path / "thesis.txt")
    assert (tmp_path / "thesis.txt").read_text() == "all of it"
    with pytest.raises(InputError, match="cannot be written"):
        claim(tmp_path / "thesis.txt" / "run")


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"program": "there", "settings": {}}', '{"program": 1}'],
)
@pytest.mark.parametrize("resume", [False, True])
def test_claim_refuses_what_others_made(tmp_path, content, resume):
    (tmp_path / runs.MARKER).write_text(content)
    (tmp_path / runs.METRICS).write_text("{}")
    with pytest.raises(InputError, match=r"run.json: not what|made by there"):
        claim(tmp_path, resume=resume)
    assert (tmp_path / runs.METRICS).exists()


@pytest.mark.parametrize("finished", [False, True])
def test_only_overwrite_removes_a_run(tmp_path, finished):
    claim(tmp_path, settings={"seed": 1})
    (tmp_path / runs.HISTORY).write_text("old")
    (tmp_path / runs.BACKUP).mkdir()
    if finished:
        (tmp_path / runs.METRICS).write_text("{}")
    (tmp_path / "notes.txt").write_text("mine")
    state = "a finished" if finished else "an interrupted"
    message = f"holds {state} run. Give --resume .*, --overwrite"
    with pytest.raises(InputError, match=message):
        claim(tmp_path, settings={"seed": 2})
    assert (tmp_path / runs.HISTORY).read_text() == "old"
    with pytest.raises(InputError, match="not both"):
        claim(tmp_path, resume=True, overwrite=True)
    claim(tmp_path, settings={"seed": 2}, overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {
        runs.MARKER,
        outputs.LOCK,
        "notes.txt",
    }
    assert runs.read_json(tmp_path / runs.MARKER)["settings"] == {"seed": 2}


def test_resume_wants_the_same_settings(tmp_path):
    settings = {"seed": 1, "arms": ("plain", "rdrop")}
    claim(tmp_path, settings=settings)
    (tmp_path / runs.HISTORY).write_text("epoch,loss\n0,1\n")
    claim(tmp_path, settings=settings, resume=True)
    with pytest.raises(InputError, match="seed was 1, now 2"):
        claim(tmp_path, settings={**settings, "seed": 2}, resume=True)
    assert (tmp_path / runs.HISTORY).read_text() == "epoch,loss\n0,1\n"


CLAIM = """
import sys
from pathlib import Path
from reproduce.common.errors import InputError
from reproduce.outputs import claimed
try:
    with claimed(Path(sys.argv[1]), "here", {}, resume=True):
        print("claimed")
except InputError as error:
    print(error)
"""


def test_a_second_process_is_refused(tmp_path):
    def claim_elsewhere():
        command = [sys.executable, "-c", CLAIM, str(tmp_path)]
        return subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout

    with claimed(tmp_path, "here", {}):
        assert "another process is writing there" in claim_elsewhere()
    assert claim_elsewhere() == "claimed\n"


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_a_directory_is_unlocked_while_its_lock_is_kept(
    tmp_path, monkeypatch, error
):
    """An error that is kept keeps the frames of the run, and so the lock."""
    locks = []

    def lock(path, new=filelock.FileLock):
        locks.append(new(path))
        return locks[-1]

    monkeypatch.setattr(filelock, "FileLock", lock)
    expected = pytest.raises(error) if error else contextlib.nullcontext()
    with expected, claimed(tmp_path, "here", {}):
        assert locks[0].is_locked
        if error:
            raise error
    assert not locks[0].is_locked


# --- going on ----------------------------------------------------------------


@LEFT_OPEN
def test_an_interrupted_run_goes_on(interrupted, cut_off, capsys):
    assert "interrupted. Go on after the last full epoch" in cut_off[1]
    command = f"train tiny --arm=plain --output={cut_off[0]} --resume"
    assert command in cut_off[1]
    assert run(interrupted) == 2
    assert "holds an interrupted run" in capsys.readouterr().err
    assert run(interrupted, "--resume") == 0
    metrics = runs.read_json(interrupted / runs.METRICS)
    assert (metrics["epochs"], metrics["updates"]) == (EPOCHS, 2 * EPOCHS)
    assert not (interrupted / runs.BACKUP).exists()
    # A finished one is read.
    assert run(interrupted, "--resume") == 0
    assert runs.read_json(interrupted / runs.METRICS) == metrics


@LEFT_OPEN
def test_overwrite_starts_over(interrupted):
    (interrupted / runs.HISTORY).write_text("damaged")
    assert run(interrupted, "--overwrite") == 0
    metrics = runs.read_json(interrupted / runs.METRICS)
    assert (metrics["epochs"], metrics["updates"]) == (EPOCHS, 2 * EPOCHS)


def _remove(path):
    path.unlink()


def _empty(path):
    path.write_text("")


def _spoil(path):
    path.write_text("epoch,loss\n\0\xff{not,JSON")


def _cut(path):
    path.write_text("".join(path.read_text().splitlines(True)[:2]))


def _file_instead(path):
    for folder in sorted(path.rglob("*"), reverse=True):
        folder.rmdir() if folder.is_dir() else folder.unlink()
    path.rmdir()
    path.write_text("no folder")


def _no_folder(path):
    _file_instead(path)
    path.unlink()


@LEFT_OPEN
@pytest.mark.parametrize(
    "name, damage",
    [
        *((runs.HISTORY, do) for do in (_remove, _empty, _spoil, _cut)),
        *((runs.MARKER, do) for do in (_remove, _empty, _spoil)),
        (runs.BACKUP, _file_instead),
        (runs.BACKUP, _no_folder),
        (runs.TENSORBOARD, _file_instead),
        (runs.CHECKPOINTS, _file_instead),
        (runs.CHECKPOINTS, _no_folder),
        *(("checkpoints/index.json", do) for do in (_remove, _empty, _spoil)),
        ("checkpoints/epoch-1.weights.h5", _remove),
        ("checkpoints/epoch-1.weights.h5", _spoil),
    ],
)
def test_resume_refuses_what_is_damaged(interrupted, name, damage, capsys):
    damage(interrupted / name)
    assert run(interrupted, "--resume") == 2
    printed = capsys.readouterr().err
    assert printed.count("error: ") == 1 and "Traceback" not in printed
    assert name.split("/")[-1] in printed
    assert not outputs.is_finished(interrupted)


@LEFT_OPEN
def test_a_damaged_backup_is_left_for_the_one_before(interrupted, capsys):
    (interrupted / runs.BACKUP / "epoch-2" / "state.json").write_text("{")
    assert run(interrupted, "--resume") == 0
    assert "Resuming from" in capsys.readouterr().err
    metrics = runs.read_json(interrupted / runs.METRICS)
    assert metrics["epochs"] == EPOCHS


@pytest.mark.parametrize("content", ["", "[]", "{}", "{"])
def test_damaged_metrics_are_named(tiny, tmp_path, content, capsys):
    assert run(tmp_path) == 0
    (tmp_path / runs.METRICS).write_text(content)
    assert run(tmp_path, "--resume") == 2
    assert "metrics.json: damaged" in capsys.readouterr().err
    # Without it the run is not known to be finished, nor can it go on.
    (tmp_path / runs.METRICS).unlink()
    assert run(tmp_path, "--resume") == 2
    assert "expected a backup of 3 epochs" in capsys.readouterr().err


# --- errors ------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "model.keras"),
        OSError("Can't write data (errno = 28, 'No space left on device')"),
    ],
)
@LEFT_OPEN
def test_a_full_disk_is_named(tiny, tmp_path, monkeypatch, capsys, error):
    def full(*_, **__):
        raise error

    monkeypatch.setattr(TinyRun, "finish", full)
    assert run(tmp_path) == 2
    printed = capsys.readouterr().err
    assert "No space left on device" in printed and "--resume" in printed
    assert printed.count("\n") == 1
    monkeypatch.undo()
    monkeypatch.setitem(TASKS, "tiny", __name__)
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Tiny.__module__])
    assert run(tmp_path, "--resume") == 0


@pytest.mark.parametrize(
    "flags",
    [
        "--alpha -1",
        "--alpha nan",
        "--alpha inf",
        "--epochs 0",
        "--updates 0",
        "--seed -1",
        "--seed 4294967296",
    ],
)
def test_flags_out_of_range_are_refused_in_one_line(tiny, flags, capsys):
    assert main(["train", "tiny", *flags.split()]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {flags.split()[0]}: expected")
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    "flags",
    [
        "--arms plain",
        "--arms plain,plain",
        "--arms plain,other",
        "--seeds 1,1",
        "--seeds=-1",
        "--seeds 1,4294967296",
    ],
)
def test_comparisons_of_nothing_are_refused(tiny, flags, capsys):
    assert main(["compare", "tiny", *flags.split()]) == 2
    assert "expected" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--arm", "rdorp"],
        ["--epochs", "x"],
        ["--epcohs", "1"],
        ["--seeds", "1"],
    ],
)
def test_words_that_are_no_flags_are_refused(tiny, arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse("train", "tiny", arguments)
    assert arguments[0] in capsys.readouterr().err


def test_comparison_takes_arms_and_seeds(tiny):
    found = parse("compare", "tiny", ["--arms", "doubled,rdrop", "--seeds=3,0"])
    assert (found.arms, found.seeds) == (("doubled", "rdrop"), (3, 0))
    found = parse("compare", "tiny", [])
    assert (found.arms, found.seeds) == (("plain", "rdrop"), Tiny.seeds)
    with pytest.raises(SystemExit):
        parse("compare", "tiny", ["--arm", "plain"])


def test_a_comparison_is_refused_resumed_and_overwritten(
    tiny, tmp_path, capsys
):
    command = ["compare", "tiny", "--arms=plain,doubled", "--seeds=1,2"]
    command += [f"--output={tmp_path}"]
    assert main(command) == 0
    result = json.loads((tmp_path / runs.METRICS).read_text())
    assert list(result["arms"]) == ["plain", "doubled"]
    assert result["settings"]["seed"] == [1, 2]
    assert main(command) == 2
    assert "holds a finished run" in capsys.readouterr().err
    # Also one that has not written its own files yet.
    for name in (runs.METRICS, runs.CURVES):
        (tmp_path / name).unlink()
    assert main(command) == 2
    assert "holds an interrupted run" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    assert json.loads((tmp_path / runs.METRICS).read_text()) == result


def test_usage_is_printed(capsys):
    for arguments in (["--help"], ["train", "--help"]):
        assert main(arguments) == 0
        assert "VERB TASK" in capsys.readouterr().out
    assert main([]) == 2
    assert main(["train"]) == 2
    assert "compare" in capsys.readouterr().err
    assert main(["train", "nothing"]) == 2
    assert "nothing: expected a task" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_task_is_whole(name):
    task = task_of(name)
    assert task.name == name
    assert issubclass(task.settings, Settings)
    assert name in serving.SERVERS
    assert parse("train", name, []) == task.settings()
