#!/usr/bin/env bash
# Starts a command as one of several workers of TensorFlow: sets TF_CONFIG.
#
#   tf_config.sh HOST[:PORT],HOST[:PORT],... INDEX COMMAND [ARGUMENT]...
#
# Use: on every host, with the same list and an INDEX of its own, from 0. The
# first host is the chief. --output has to be a directory that all hosts share.
#
#   reproduce/launch/tf_config.sh host0,host1 0 python -m reproduce train \
#       translation --strategy multi_worker --output /shared/runs/de
#
# Two processes on one host take different ports and devices:
#
#   CUDA_VISIBLE_DEVICES=0 reproduce/launch/tf_config.sh \
#       127.0.0.1:12345,127.0.0.1:12346 0 python -m reproduce train \
#       translation --strategy multi_worker --output runs/de
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
workers=()
for host in "${hosts[@]}"; do
  [[ $host == *:* ]] || host=$host:${PORT:-12345}
  workers+=("\"$host\"")
done
list=$(IFS=,; echo "${workers[*]}")
export KERAS_BACKEND=tensorflow
export TF_CONFIG='{"cluster": {"worker": ['$list']}, "task": {"type": "worker", "index": '$index'}}'
exec "$@"
