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

source "$(dirname "$0")/hosts.bash"
list=$(printf ', "%s"' "${addresses[@]}")
export KERAS_BACKEND=tensorflow
export TF_CONFIG='{"cluster": {"worker": ['${list:2}']}, "task": {"type": "worker", "index": '$index'}}'
exec "${program[@]}"
