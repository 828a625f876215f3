#!/usr/bin/env bash
# Starts a command as one of several processes of JAX: sets the variables that
# keras.distribution.initialize reads.
#
#   jax_processes.sh HOST[:PORT],HOST[:PORT],... INDEX COMMAND [ARGUMENT]...
#
# Use: on every host, with the same list and an INDEX of its own, from 0. The
# first host is the chief, whose port the others connect to. Each process takes
# all GPUs of its host. --output has to be a directory that all hosts share.
#
#   reproduce/launch/jax_processes.sh host0,host1 0 python -m reproduce train \
#       translation --strategy data_parallel --output /shared/runs/de
set -euo pipefail

if [ $# -lt 3 ]; then
  echo "usage: $0 HOST[:PORT],HOST[:PORT],... INDEX COMMAND [ARGUMENT]..." >&2
  exit 2
fi
IFS=, read -ra hosts <<<"$1"
index=$2
shift 2
if ! [[ $index =~ ^[0-9]+$ ]] || [ "$index" -ge "${#hosts[@]}" ]; then
  echo "$0: expected an INDEX below ${#hosts[@]}, got $index" >&2
  exit 2
fi
first=${hosts[0]}
[[ $first == *:* ]] || first=$first:${PORT:-12345}
export KERAS_BACKEND=jax
export KERAS_DISTRIBUTION_JOB_ADDRESSES=$first
export KERAS_DISTRIBUTION_NUM_PROCESSES=${#hosts[@]}
export KERAS_DISTRIBUTION_PROCESS_ID=$index
exec "$@"
