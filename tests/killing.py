"""Runs an example program, kills it at given moments, and starts it again."""

import json
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]

# Imports once, then forks for every start of the program: TensorFlow allows
# that as long as it has done nothing else yet.
DRIVER = """
import importlib, json, os, signal, sys, threading, time
import keras
import tensorflow as tf
from reproduce.common.backup import BackupAndRestore

request = json.load(sys.stdin)
program = request["program"]
command = importlib.import_module(program + ".__main__")
train = importlib.import_module(
    program + (".runner" if program == "reproduce" else ".train")
)
exec(request["shrink"])

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class KillAtUpdate(keras.callbacks.Callback):
    def __init__(self, update):
        super().__init__()
        self.update = update
    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer.iterations.numpy() == self.update:
            die()

def kill_at_update(update):
    callbacks = train._callbacks
    train._callbacks = lambda *arguments: [
        *callbacks(*arguments), KillAtUpdate(update)
    ]

def kill_in_backup(epoch, count):
    left = [0]
    def watch(event, _):
        if event == "open" or event.startswith(("os.", "shutil.")):
            left[0] -= 1
            if left[0] == 0:
                die()
    sys.addaudithook(watch)
    back_up = BackupAndRestore.on_epoch_end
    def watched(self, now, logs=None):
        left[0] = count if now == epoch else 0
        back_up(self, now, logs)
    BackupAndRestore.on_epoch_end = watched

def kill_when_there(path):
    def wait():
        while not os.path.exists(path):
            time.sleep(0.0005)
        die()
    threading.Thread(target=wait, daemon=True).start()

def start(output, kill):
    child = os.fork()
    if child:
        return child
    status = 99
    try:
        sys.stdout = open(os.devnull, "w")
        tf.config.experimental.enable_op_determinism()
        if kill:
            {"update": kill_at_update, "backup": kill_in_backup,
             "path": kill_when_there}[kill[0]](*kill[1:])
        status = command.main(
            [*request["flags"], f"--output={output}", "--resume"]
        )
    finally:
        os._exit(status)

def end(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

# On one core of its own, beside the run that is killed.
undisturbed = start(request["undisturbed"], None)
statuses = [end(start(request["killed"], kill)) for kill in request["kills"]]
json.dump({"killed": statuses, "undisturbed": end(undisturbed)}, sys.stdout)
"""


def run_and_kill(program, shrink, flags, undisturbed, killed, kills):
    """Runs a program in peace, and once more with interruptions.

    Args:
        program: `reproduce`, or the package of a task that has its own.
        shrink: Python code that makes its model small.
        flags: Its command line, but for `--output` and `--resume`.
        undisturbed: Where the run writes that is left in peace.
        killed: Where the other one writes.
        kills: The moments at which that one is killed: `("update", number)`,
            `("backup", epoch, count)` for so many operations on files into a
            backup, or `("path", path)`, as soon as something is there. After
            the last it runs to its end.
    """
    request = {
        "program": program,
        "shrink": shrink,
        "flags": flags,
        "undisturbed": str(undisturbed),
        "killed": str(killed),
        "kills": [*kills, None],
    }
    driver = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps(request),
        cwd=REPOSITORY,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            # Bit for bit is promised for the CPU alone.
            "CUDA_VISIBLE_DEVICES": "-1",
        },
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert driver.returncode == 0, driver.stderr
    statuses = json.loads(driver.stdout)
    assert statuses == {
        "killed": [-9] * len(kills) + [0],
        "undisturbed": 0,
    }, driver.stderr


def files_of(output, apart_from):
    """Returns the paths in a directory, but for those below some name."""
    return {
        path.relative_to(output)
        for path in output.rglob("*")
        if apart_from not in path.parts
    }
