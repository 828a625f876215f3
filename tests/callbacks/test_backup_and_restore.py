"""Backups: whole or not there, checked, and complete.

The runs go on in a model with other initial weights and other dropout masks,
and must end with the numbers of one that was never interrupted.
"""

import inspect
import shutil
import sys

import keras
import numpy as np
import pytest
from small_run import EPOCHS
from small_run import STEPS
from small_run import Seen
from small_run import assert_same
from small_run import csv_logger
from small_run import fit_small
from small_run import numbers_of
from small_run import small_model

from rdrop_keras import RDropModel
from rdrop_keras import _keras
from rdrop_keras.callbacks import BackupAndRestore
from rdrop_keras.training import trainer


def _backup(directory, **kwargs):
    return BackupAndRestore(directory, delete_checkpoint=False, **kwargs)


class Interrupt(keras.callbacks.Callback):
    def __init__(self, update):
        super().__init__()
        self.update = update

    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer.iterations.numpy() == self.update:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The numbers of a run that nothing interrupts, backing up or not."""
    model = small_model(1)
    fit_small(model)
    expected = numbers_of(model)
    model = small_model(1)
    fit_small(model, _backup(tmp_path_factory.mktemp("backup")))
    assert_same(model, expected)
    return expected


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """Backups of the second and the third epoch out of four."""
    directory = tmp_path_factory.mktemp("backup")
    with pytest.raises(KeyboardInterrupt):
        fit_small(small_model(1), _backup(directory), Interrupt(3 * STEPS + 1))
    return directory


# --- going on ----------------------------------------------------------------


@pytest.mark.parametrize("update", [1, STEPS, STEPS + 1, 2 * STEPS + 2])
def test_goes_on_with_weights_optimizer_and_masks(whole, tmp_path, update):
    backup = _backup(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fit_small(small_model(1), backup, Interrupt(update))
    done = (update - 1) // STEPS
    # Before the first backup there is nothing to go on from.
    model, seen = small_model(2 if done else 1), Seen()
    fit_small(model, seen, _backup(tmp_path))
    assert seen.epochs == list(range(done, EPOCHS))
    assert_same(model, whole)


def test_finished_training_is_not_repeated(whole, tmp_path):
    fit_small(small_model(1), _backup(tmp_path))
    model, seen = small_model(2), Seen()
    fit_small(model, seen, _backup(tmp_path))
    assert seen.epochs == []
    assert_same(model, whole)


def test_two_backups_are_kept(tmp_path):
    # With two digits, which sort behind other ones as text.
    fit_small(small_model(1), _backup(tmp_path), epochs=11)
    assert {p.name for p in tmp_path.iterdir()} == {"epoch-10", "epoch-11"}
    model, seen = small_model(2), Seen()
    fit_small(model, seen, _backup(tmp_path), epochs=12)
    assert seen.epochs == [11]


def test_backup_of_another_model_is_refused(interrupted):
    directory = interrupted
    message = "epoch-3: a backup of another model .*Remove .* to start over"
    with pytest.raises(ValueError, match=message) as caught:
        fit_small(small_model(1, units=9), _backup(directory))
    assert "\n" not in str(caught.value)
    unbuilt = keras.Sequential([keras.layers.Dense(1)])
    unbuilt.compile("adam", "mse")
    with pytest.raises(
        ValueError, match="Expected a built model|another model"
    ):
        fit_small(unbuilt, _backup(directory))
    # The weights fit, but there is one dropout layer more.
    model = small_model(1)
    model = keras.Sequential([*model.layers, keras.layers.Dropout(0.1)])
    model.build((None, 5))
    model.compile(keras.optimizers.Adam(0.01), "mse")
    with pytest.raises(ValueError, match="Expected 3 random states, got 2"):
        fit_small(model, _backup(directory))


# --- damage ------------------------------------------------------------------


def _cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def _empty(path):
    path.write_bytes(b"")


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _remove(path):
    path.unlink()


def _write(text):
    return lambda path: path.write_text(text)


DAMAGES = [
    ("latest.weights.h5", _cut, "expected .* bytes, got"),
    ("latest.weights.h5", _empty, "got 0"),
    ("latest.weights.h5", _flip, "not the bytes that were written"),
    ("latest.weights.h5", _remove, "No such file"),
    ("training_metadata.json", _write('{"epoch": 1, "batch": 0}'), "not the b"),
    ("training_metadata.json", _write("{"), "expected .* bytes, got 1"),
    ("training_metadata.json", _remove, "No such file"),
    ("state.json", _cut, "not the JSON"),
    ("state.json", _empty, "not the JSON"),
    ("state.json", _flip, "not the JSON"),
    ("state.json", _remove, "No such file"),
    ("state.json", _write("{}"), "not the JSON"),
    ("state.json", _write('["", {"files": {}}]'), "not the JSON"),
    ("state.json", _write("[[], null]"), "not the JSON"),
    ("state.json", lambda path: path.write_bytes(b"\xff\xfe"), "not the JSON"),
]


def _copy(directory, tmp_path):
    return shutil.copytree(directory, tmp_path / "copy")


@pytest.mark.parametrize(("name", "damage", "message"), DAMAGES)
def test_damaged_backup_is_named_and_the_one_before_used(
    whole, interrupted, tmp_path, name, damage, message
):
    directory = _copy(interrupted, tmp_path)
    damage(directory / "epoch-3" / name)
    model, seen = small_model(2), Seen()
    with pytest.warns(UserWarning, match=message) as caught:
        fit_small(model, seen, _backup(directory))
    (line,) = (
        str(warning.message)
        for warning in caught
        if warning.category is UserWarning
    )
    assert line.startswith(f"{directory / 'epoch-3' / name}: ")
    assert line.endswith(f"Resuming from {directory / 'epoch-2'} instead.")
    assert seen.epochs == [2, 3]
    assert_same(model, whole)
    # The damaged one is replaced, so that the next resume does not warn.
    fit_small(small_model(2), _backup(directory))


def test_two_damaged_backups_are_both_named(interrupted, tmp_path):
    directory = _copy(interrupted, tmp_path)
    _flip(directory / "epoch-2" / "latest.weights.h5")
    _remove(directory / "epoch-3" / "state.json")
    model = small_model(2)
    model.optimizer.build(model.trainable_variables)
    before = numbers_of(model)
    with pytest.raises(ValueError) as caught:
        fit_small(model, _backup(directory))
    message = str(caught.value)
    assert "\n" not in message
    for text in (
        f"{directory / 'epoch-2' / 'latest.weights.h5'}: not the bytes",
        f"{directory / 'epoch-3' / 'state.json'}: No such file",
        f"Remove {directory} to start over.",
    ):
        assert text in message
    assert_same(model, before)


class Killed(BaseException):
    """Passes every handler, as a signal does."""


@pytest.fixture(scope="module")
def kill_at():
    """Ends the process, so to speak, at the n-th file operation from now."""
    left = [0]

    def watch(event, _):
        if event == "open" or event.startswith(("os.", "shutil.")):
            left[0] -= 1
            if left[0] == 0:
                raise Killed

    sys.addaudithook(watch)
    return lambda count: left.__setitem__(0, count)


def test_killed_at_any_file_operation_one_whole_epoch_is_left(
    tmp_path, kill_at
):
    model = small_model(1)
    model.optimizer.build(model.trainable_variables)

    def fill(value):
        for variable in [*model.variables, *model.optimizer.variables]:
            variable.assign(np.full(variable.shape, value, variable.dtype))

    def backup_in(directory):
        backup = _backup(directory, extra=extra)
        backup.set_params({"epochs": 9})
        backup.set_model(model)
        return backup

    found = []
    extra = {"fill": (lambda: int(numbers_of(model)[0].flat[0]), found.append)}
    for epoch in (1, 2):
        fill(epoch)
        backup_in(tmp_path / "good").on_epoch_end(epoch - 1)
    restored = []
    for count in range(1, 1000):
        directory = tmp_path / str(count)
        shutil.copytree(tmp_path / "good", directory)
        backup = backup_in(directory)
        fill(3)
        kill_at(count)
        try:
            backup.on_epoch_end(2)
        except Killed:
            pass
        else:
            break
        finally:
            kill_at(0)
        fill(77)
        backup_in(directory).on_train_begin()
        restored.append(model._initial_epoch)
        assert found.pop() == model._initial_epoch
        for number in numbers_of(model):
            assert (number == model._initial_epoch).all()
        # The next try is not in the way of what this one left.
        fill(3)
        backup_in(directory).on_epoch_end(2)
        assert {p.name for p in directory.iterdir()} == {"epoch-2", "epoch-3"}
    assert set(restored) == {2, 3}
    assert restored == sorted(restored)
    assert len(restored) > 10


# --- what else is kept -------------------------------------------------------


def _interrupted_fit(*callbacks, update):
    with pytest.raises(KeyboardInterrupt):
        fit_small(small_model(1), *callbacks, Interrupt(update))


# Keras's CSVLogger leaves its file open when an exception ends `fit`.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("backups", [0, 2])
def test_no_epoch_is_twice_in_the_log(tmp_path, backups):
    log, once = tmp_path / "log.csv", tmp_path / "once.csv"
    directory = tmp_path / "backup"
    fit_small(small_model(1), csv_logger(once))
    _interrupted_fit(
        csv_logger(log),
        _backup(directory, logs=[log]),
        update=backups * STEPS + 1,
    )
    # Killed between the log and the backup, in the middle of a line.
    with log.open("a") as file:
        file.write("epoch,loss\n0,1.5\n1,0." if not backups else "2,1.5\n3,0.")
    fit_small(small_model(1), csv_logger(log), _backup(directory, logs=[log]))
    assert log.read_text() == once.read_text()
    assert len(log.read_text().splitlines()) == 1 + EPOCHS


def test_log_that_is_not_there_is_no_hindrance(tmp_path, whole):
    backup = _backup(tmp_path / "b", logs=[tmp_path / "log.csv"])
    _interrupted_fit(backup, update=STEPS + 1)
    model = small_model(2)
    fit_small(model, backup)
    assert_same(model, whole)
    assert not (tmp_path / "log.csv").exists()


class Worse(keras.callbacks.Callback):
    """Logs a loss that is best in the second epoch."""

    def on_epoch_end(self, epoch, logs=None):
        logs["score"] = [3.0, 1.0, 2.0, 2.0, 2.0, 2.0][epoch]


def _watchers(path):
    return [
        keras.callbacks.EarlyStopping(
            "score", patience=3, restore_best_weights=True, mode="min"
        ),
        keras.callbacks.ModelCheckpoint(
            str(path / "best.weights.h5"),
            "score",
            save_best_only=True,
            save_weights_only=True,
            mode="min",
        ),
        keras.callbacks.ReduceLROnPlateau(
            "score", patience=2, factor=0.5, mode="min", cooldown=1
        ),
    ]


def _watched_fit(model, path, *callbacks):
    watchers = _watchers(path)
    seen = Seen()
    backup = _backup(path / "backup", callbacks=watchers)
    fit_small(model, seen, Worse(), *watchers, backup, *callbacks, epochs=6)
    return seen.epochs


# After the third epoch, and when training has been stopped after the fifth.
@pytest.mark.parametrize("update", [3 * STEPS + 1, None])
def test_callbacks_remember(tmp_path, update):
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    model = small_model(1)
    assert _watched_fit(model, undisturbed) == [0, 1, 2, 3, 4]
    expected = numbers_of(model)
    # Had the plateau been forgotten, this would be the rate at the start.
    assert model.optimizer.learning_rate.numpy() == np.float32(0.005)
    best = small_model(1)
    best.optimizer.build(best.trainable_variables)
    best.load_weights(undisturbed / "best.weights.h5")
    for ours, theirs in zip(best.weights, model.weights):
        np.testing.assert_array_equal(ours, theirs)

    if update is None:
        _watched_fit(small_model(1), tmp_path)
    else:
        with pytest.raises(KeyboardInterrupt):
            _watched_fit(small_model(1), tmp_path, Interrupt(update))
    model = small_model(2)
    epochs = _watched_fit(model, tmp_path)
    assert epochs == ([] if update is None else [3, 4])
    assert_same(model, expected)
    best.load_weights(tmp_path / "best.weights.h5")
    for ours, theirs in zip(best.weights, model.weights):
        np.testing.assert_array_equal(ours, theirs)


def test_anything_else_is_kept_by_name(tmp_path):
    kept = {"best": {"epoch": 1, 10: ("a", 0.1), 9: None}}
    extra = {"kept": (lambda: kept["best"], lambda v: kept.update(best=v))}
    _interrupted_fit(_backup(tmp_path, extra=extra), update=STEPS + 1)
    kept["best"] = "lost"
    fit_small(small_model(2), _backup(tmp_path, extra=extra), epochs=1)
    assert kept["best"] == {"epoch": 1, "10": ["a", 0.1], "9": None}
    other = {"other": (lambda: 0, lambda _: None)}
    with pytest.raises(ValueError, match="another model .*other"):
        fit_small(small_model(2), _backup(tmp_path, extra=other))


# --- in place of Keras's callback --------------------------------------------


def test_takes_the_arguments_of_keras():
    def declared(cls):
        return dict(inspect.signature(cls).parameters)

    keras_arguments = declared(keras.callbacks.BackupAndRestore)
    ours = declared(BackupAndRestore)
    assert list(ours)[: len(keras_arguments)] == list(keras_arguments)
    for name, argument in keras_arguments.items():
        if name != "double_checkpoint":
            assert ours[name].default == argument.default
    with pytest.raises(ValueError, match="save_freq"):
        BackupAndRestore("backup", save_freq="batch")


def test_backups_go_when_fit_returns(tmp_path):
    fit_small(small_model(1), BackupAndRestore(tmp_path / "backup"))
    assert not (tmp_path / "backup").exists()


def test_one_backup_is_kept_if_asked(tmp_path):
    fit_small(small_model(1), _backup(tmp_path, double_checkpoint=False))
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-4"]


def test_saves_within_epochs(tmp_path):
    backup = _backup(tmp_path, save_freq=2)
    _interrupted_fit(backup, update=STEPS + 3)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"epoch-1", "epoch-1-batch-2"}
    # The epoch is repeated, with the weights that its half left.
    model, seen = small_model(2), Seen()
    fit_small(model, seen, _backup(tmp_path, save_freq=2), epochs=2)
    assert seen.epochs == [1]
    assert model.optimizer.iterations.numpy() == STEPS + 2 + STEPS


def test_keras_own_callback_does_not_resume_exactly(whole, tmp_path):
    """The reason for ours. When it fails, Keras saves the random state."""
    with pytest.raises(KeyboardInterrupt):
        fit_small(
            small_model(1),
            keras.callbacks.BackupAndRestore(str(tmp_path)),
            Interrupt(2 * STEPS + 1),
        )
    model = small_model(1)
    fit_small(model, keras.callbacks.BackupAndRestore(str(tmp_path)))
    assert not np.allclose(numbers_of(model)[0], whole[0])


def test_rdrop_resumes_exactly(tmp_path):
    def model(seed):
        plain = small_model(seed)
        made = RDropModel.from_model(
            keras.Sequential([keras.Input((5,)), *plain.layers])
        )
        made.compile(keras.optimizers.Adam(0.01), "mse", rdrop=2.0)
        return made

    undisturbed = model(1)
    fit_small(undisturbed)
    with pytest.raises(KeyboardInterrupt):
        fit_small(model(1), _backup(tmp_path), Interrupt(2 * STEPS + 1))
    resumed = model(2)
    fit_small(resumed, _backup(tmp_path))
    assert_same(resumed, numbers_of(undisturbed))


def _make_second_process(monkeypatch):
    if keras.backend.backend() == "jax":
        import jax

        monkeypatch.setattr(jax, "process_index", lambda: 1)
    else:
        # `tests/backends/torch_processes.py` starts processes for `writes`.
        monkeypatch.setattr(trainer(), "writes", lambda model: False)


@pytest.mark.only("jax", "torch", reason="workers have a test of their own")
def test_one_of_several_processes_writes(tmp_path, monkeypatch):
    path = tmp_path / "backup"
    with monkeypatch.context() as second:
        _make_second_process(second)
        fit_small(small_model(1), _backup(path), epochs=1)
    assert not path.exists()
    fit_small(small_model(1), _backup(path), epochs=1)
    assert path.exists()


@pytest.mark.only("torch", reason="Keras's random state lies elsewhere")
def test_other_processes_keep_their_random_state(tmp_path, monkeypatch):
    fit_small(small_model(1), _backup(tmp_path), epochs=1)

    def state_after(seed):
        # It has the one epoch, and trains no more.
        fit_small(small_model(seed), _backup(tmp_path), epochs=1)
        return _keras.global_random_state()

    assert state_after(2) == state_after(3)
    _make_second_process(monkeypatch)
    assert state_after(2) != state_after(3)


@pytest.mark.only("tensorflow", "jax", reason="PyTorch reads its own state")
def test_a_backup_of_pytorch_is_read_on_another_backend(tmp_path, monkeypatch):
    monkeypatch.setattr(_keras, "global_random_state", lambda: [bytes(8)])
    fit_small(small_model(1), _backup(tmp_path), epochs=1)
    monkeypatch.undo()
    model = small_model(2)
    fit_small(model, _backup(tmp_path), epochs=2)
    assert int(model.optimizer.iterations) == 2 * STEPS
