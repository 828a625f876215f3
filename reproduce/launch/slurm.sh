#!/usr/bin/env bash
#SBATCH --job-name=rdrop
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
# Trains on all GPUs of several hosts: one process on each, as a Slurm job.
#
# Use: from the root of the repository, with the flags of `train`. Options of
# sbatch override those above. --output has to be a directory that all hosts
# share. The job goes on where it was interrupted if it is queued again.
#
#   sbatch --nodes=4 reproduce/launch/slurm.sh translation \
#       --recipe iwslt14_de_en --data /shared/iwslt14 --output /shared/runs/de
#
# TensorFlow trains. With KERAS_BACKEND=jax in the environment, JAX does.
set -euo pipefail

if [ "${KERAS_BACKEND:-tensorflow}" = jax ]; then
  launcher=jax_processes.sh strategy=data_parallel
else
  launcher=tf_config.sh strategy=multi_worker
fi
hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | paste -sd, -)
# Jobs that share a host need different ports.
export PORT=$((20000 + SLURM_JOB_ID % 10000))

# SLURM_PROCID is known only in the process that srun starts.
srun --kill-on-bad-exit=1 bash -c \
  'exec "reproduce/launch/$0" "$1" "$SLURM_PROCID" "${@:2}"' \
  "$launcher" "$hosts" \
  "${PYTHON:-python}" -m reproduce train "$@" --strategy "$strategy" --resume
