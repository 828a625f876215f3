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

source "$(dirname "$0")/hosts.bash"
export KERAS_BACKEND=jax
export KERAS_DISTRIBUTION_JOB_ADDRESSES=${addresses[0]}
export KERAS_DISTRIBUTION_NUM_PROCESSES=$count
export KERAS_DISTRIBUTION_PROCESS_ID=$index
exec "${program[@]}"
