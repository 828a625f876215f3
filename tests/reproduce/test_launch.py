"""The files of reproduce/launch, in a dry run: what they would start."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from reproduce.__main__ import parse
from reproduce.common.clusters import PROCESSES
from reproduce.common.clusters import check_cluster
from reproduce.common.clusters import check_processes

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = ROOT / "reproduce/launch"
SCRIPTS = sorted(LAUNCH.glob("*.sh"))
# Stubs of the programs that the scripts call. `python` prints what it gets.
STUBS = {
    "python": """#!/bin/sh
printf '%s\\n' "$KERAS_BACKEND" "$TF_CONFIG" \
    "$KERAS_DISTRIBUTION_JOB_ADDRESSES" "$KERAS_DISTRIBUTION_NUM_PROCESSES" \
    "$KERAS_DISTRIBUTION_PROCESS_ID" "$CUDA_VISIBLE_DEVICES" "$*"
""",
    "scontrol": """#!/bin/sh
[ "$*" = "show hostnames node[7-8]" ] && printf 'node7\\nnode8\\n'
""",
    "srun": """#!/bin/sh
while [ "${1#--}" != "$1" ]; do shift; done
for SLURM_PROCID in 0 1; do export SLURM_PROCID; "$@"; done
""",
}


class Started:
    """One process that would have been started."""

    def __init__(self, lines):
        self.backend, self.config, *processes, self.gpus, command = lines
        self.processes = dict(zip(PROCESSES, processes))
        assert command.startswith("-m reproduce ")
        verb, task, *flags = shlex.split(command)[2:]
        # Fails if a flag does not exist.
        self.settings = parse(verb, task, flags)

    def check_worker(self, addresses, index):
        check_cluster(self.config)
        assert self.backend == "tensorflow"
        assert json.loads(self.config) == {
            "cluster": {"worker": addresses},
            "task": {"type": "worker", "index": index},
        }
        assert self.settings.strategy == "multi_worker"

    def check_process(self, address, count, index):
        check_processes(self.processes)
        assert self.backend == "jax"
        assert list(self.processes.values()) == [address, str(count), index]
        assert self.settings.strategy == "data_parallel"


@pytest.fixture
def dry_run(tmp_path):
    """Runs a command of a shell with stubs, and returns what it started."""
    for name, text in STUBS.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def run(command, **environment):
        done = subprocess.run(
            ["bash", "-c", command],
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **environment},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert not done.returncode, done.stderr
        lines = done.stdout.splitlines()
        return [Started(lines[i : i + 7]) for i in range(0, len(lines), 7)]

    return run


def examples(script):
    """Returns the indented commands of a script's comments."""
    comments = re.findall(r"^#   +(.*)$", script.read_text(), re.MULTILINE)
    text = "\n".join(comments).replace("\\\n", " ")
    return [line for line in text.splitlines() if "reproduce/launch" in line]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_scripts(script):
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)


def test_tf_config_for_hosts_and_for_processes(dry_run):
    on_hosts, on_one = examples(LAUNCH / "tf_config.sh")
    (started,) = dry_run(on_hosts)
    started.check_worker(["host0:12345", "host1:12345"], 0)
    (started,) = dry_run(on_hosts.replace(" 0 ", " 1 "), PORT="999")
    started.check_worker(["host0:999", "host1:999"], 1)
    (started,) = dry_run(on_one)
    started.check_worker(["127.0.0.1:12345", "127.0.0.1:12346"], 0)
    assert started.gpus == "0"


def test_jax_processes(dry_run):
    (example,) = examples(LAUNCH / "jax_processes.sh")
    (started,) = dry_run(example.replace(" 0 ", " 1 "))
    started.check_process("host0:12345", 2, "1")
    (started,) = dry_run(example.replace("host0,", "10.0.0.1:77,"))
    started.check_process("10.0.0.1:77", 2, "0")


@pytest.mark.parametrize("name", ["tf_config.sh", "jax_processes.sh"])
@pytest.mark.parametrize("arguments", ["a,b 2 env", "a,b x env", "a,b", ""])
def test_wrong_arguments_are_refused(name, arguments):
    done = subprocess.run(
        [LAUNCH / name, *arguments.split()], capture_output=True, text=True
    )
    assert done.returncode == 2 and not done.stdout
    assert "usage: " in done.stderr or "expected an INDEX below 2" in (
        done.stderr
    )


@pytest.mark.parametrize("backend", [None, "jax"])
def test_slurm(dry_run, backend):
    (example,) = examples(LAUNCH / "slurm.sh")
    # sbatch runs the script on the first host.
    command = re.sub(r"^sbatch --\S+ ", "", example)
    environment = {"SLURM_JOB_NODELIST": "node[7-8]", "SLURM_JOB_ID": "31234"}
    if backend:
        environment["KERAS_BACKEND"] = backend
    started = dry_run(command, **environment)
    assert len(started) == 2
    for index, each in enumerate(started):
        if backend == "jax":
            each.check_process("node7:21234", 2, str(index))
        else:
            each.check_worker(["node7:21234", "node8:21234"], index)
        assert each.settings.resume
        assert each.settings.recipe == "iwslt14_de_en"


def test_kubernetes(dry_run):
    text = (LAUNCH / "kubernetes.yaml").read_text()
    service, job = yaml.safe_load_all(text)
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (variable,) = container["env"]
    name, domain = job["metadata"]["name"], service["metadata"]["name"]
    # What gives the pods their names.
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": name}
    assert pod["subdomain"] == domain
    assert job["spec"]["completionMode"] == "Indexed"
    pods = job["spec"]["completions"]
    assert pods == job["spec"]["parallelism"] == int(variable["value"])
    (port,) = container["ports"]
    addresses = [
        f"{name}-{index}.{domain}:{port['containerPort']}"
        for index in range(pods)
    ]
    for index in range(pods):
        (started,) = dry_run(
            shlex.join(container["command"]),
            JOB_COMPLETION_INDEX=str(index),
            **{variable["name"]: variable["value"]},
        )
        started.check_worker(addresses, index)
        # The output lies on a volume that the pods share.
        output = str(started.settings.output)
        mounts = {m["mountPath"]: m["name"] for m in container["volumeMounts"]}
        assert output.startswith("/shared/") and mounts["/shared"] == "shared"
    assert {v["name"] for v in pod["volumes"]} == {*mounts.values()}
