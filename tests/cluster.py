"""Starts workers on this machine, each in a process of its own.

A driver imports TensorFlow once, then forks for every worker: TensorFlow
allows that as long as it has done nothing else yet.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

FOLDER = pathlib.Path(__file__).parent / "distribution"
DRIVER = """
import json, os, sys, time, traceback
import keras
import tensorflow as tf
import scenarios

def start(worker):
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        log = os.open(worker["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ["TF_CONFIG"] = json.dumps(worker["config"])
        result = getattr(scenarios, worker["scenario"])(**worker["arguments"])
        with open(worker["result"], "w") as file:
            json.dump(result, file, default=float)
        status = 0
    except BaseException:
        traceback.print_exc()
    # At exit, TensorFlow would wait for workers that are gone.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

for line in sys.stdin:
    workers = json.loads(line)
    children = [start(worker) for worker in workers]
    statuses = {}
    end = time.monotonic() + 400
    while len(statuses) < len(children):
        child, status = os.waitpid(-1, os.WNOHANG)
        if child:
            statuses[children.index(child)] = os.waitstatus_to_exitcode(status)
        # A killed worker takes the others with it, at last by us.
        killed = -9 in statuses.values()
        if killed or time.monotonic() > end:
            for index, child in enumerate(children):
                if index not in statuses:
                    time.sleep(1.0)
                    os.kill(child, 9)
                    os.waitpid(child, 0)
                    statuses[index] = -15 if killed else -14
        time.sleep(0.05)
    print(json.dumps([statuses[i] for i in range(len(children))]), flush=True)
"""


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Cluster:
    """Runs functions of `scenarios.py` on several workers."""

    def __init__(self, folder):
        self.folder = folder
        self.count = 0
        self.driver = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", DRIVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=FOLDER,
            env={
                **os.environ,
                "KERAS_BACKEND": "tensorflow",
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "CUDA_VISIBLE_DEVICES": "-1",
                "PYTHONPATH": os.pathsep.join(
                    [
                        str(FOLDER),
                        str(FOLDER.parent / "backends"),
                        *filter(None, sys.path),
                    ]
                ),
            },
        )

    def close(self):
        self.driver.stdin.close()
        try:
            self.driver.wait(20)
        except subprocess.TimeoutExpired:
            self.driver.send_signal(signal.SIGKILL)
            self.driver.wait()
        self.driver.stdout.close()

    def start(self, scenario, workers, started=None, **arguments):
        """Runs a scenario, and returns the exit statuses and the results.

        Args:
            scenario: The name of a function of `scenarios.py`.
            workers: The number of workers in `TF_CONFIG`; with 0 there is
                none, and one process runs.
            started: The number of workers that are started.
            **arguments: The arguments of the function.

        Returns:
            The statuses, the results (None if a worker failed), and the logs.
        """
        self.count += 1
        ports = free_ports(workers)
        hosts = [f"127.0.0.1:{port}" for port in ports]
        jobs = []
        for index in range(max(workers, 1) if started is None else started):
            task = {"type": "worker", "index": index}
            config = {"cluster": {"worker": hosts}, "task": task}
            base = self.folder / f"{self.count}-{scenario}-{index}"
            job = {
                "config": config if workers else {},
                "scenario": scenario,
                "arguments": arguments,
                "log": f"{base}.log",
                "result": f"{base}.json",
            }
            jobs.append(job)
        self.driver.stdin.write(json.dumps(jobs) + "\n")
        self.driver.stdin.flush()
        statuses = json.loads(self.driver.stdout.readline())
        logs = [pathlib.Path(job["log"]).read_text() for job in jobs]
        results = [
            json.loads(pathlib.Path(job["result"]).read_text())
            if status == 0
            else None
            for job, status in zip(jobs, statuses)
        ]
        return statuses, results, logs

    def run(self, *args, **kwargs):
        """Returns the results of workers that all succeed."""
        statuses, results, logs = self.start(*args, **kwargs)
        assert not any(statuses), (statuses, [log[-3000:] for log in logs])
        return results
