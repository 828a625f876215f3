"""Runs the program, kills it at given moments, and starts it again."""

import json
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]

# Imports once, then forks for every start of the program: TensorFlow allows
# that as long as it has done nothing else yet.
DRIVER = """
import json, os, signal, sys, threading, time
import keras
import tensorflow as tf
from reproduce import __main__, runner
from reproduce.common.callbacks import BackupAndRestore

jobs = json.load(sys.stdin)
for job in jobs:
    # Its imports are those of all starts.
    __main__.task_of(job["flags"][1])

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
    callbacks = runner._callbacks
    runner._callbacks = lambda *arguments: [
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

def start(job, output, kill):
    child = os.fork()
    if child:
        return child
    status = 99
    try:
        sys.stdout = open(os.devnull, "w")
        tf.config.experimental.enable_op_determinism()
        exec(job["shrink"])
        if kill:
            {"update": kill_at_update, "backup": kill_in_backup,
             "path": kill_when_there}[kill[0]](*kill[1:])
        flags = [*job["flags"], f"--output={output}", "--resume"]
        status = __main__.main(flags)
    finally:
        os._exit(status)

def end(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

# The undisturbed runs have a core of their own.
helper = os.fork()
if not helper:
    ends = [end(start(job, job["undisturbed"], None)) for job in jobs]
    os._exit(max(ends))
statuses = [
    [end(start(job, job["killed"], kill)) for kill in [*job["kills"], None]]
    for job in jobs
]
json.dump({"killed": statuses, "undisturbed": end(helper)}, sys.stdout)
"""


def run_and_kill(jobs):
    """Runs jobs in peace, and once more with interruptions.

    Args:
        jobs: Dictionaries with the keys `flags`, the command line but for
            `--output` and `--resume`; `shrink`, Python code that makes the
            model small; `undisturbed` and `killed`, where the two runs write;
            and `kills`, the moments at which the second one is killed:
            `("update", number)`, `("backup", epoch, count)` for so many
            operations on files into a backup, or `("path", path)`, as soon as
            something is there. After the last, it runs to its end.
    """
    driver = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps(jobs),
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
    assert json.loads(driver.stdout) == {
        "killed": [[-9] * len(job["kills"]) + [0] for job in jobs],
        "undisturbed": 0,
    }, driver.stderr


def files_of(output, apart_from):
    """Returns the paths in a directory, but for those below some name."""
    return {
        path.relative_to(output)
        for path in output.rglob("*")
        if apart_from not in path.parts
    }
