# Read by tf_config.sh and jax_processes.sh: takes the arguments
#
#   HOST[:PORT],HOST[:PORT],... INDEX COMMAND [ARGUMENT]...
#
# into the array `addresses`, which has a port for each host, `index`, and the
# array `program`.
if [ $# -lt 3 ]; then
  echo "usage: $0 HOST[:PORT],HOST[:PORT],... INDEX COMMAND [ARGUMENT]..." >&2
  exit 2
fi
IFS=, read -ra addresses <<<"$1"
index=$2
program=("${@:3}")
count=${#addresses[@]}
if ! [[ $index =~ ^[0-9]+$ ]] || [ "$index" -ge "$count" ]; then
  echo "$0: expected an INDEX below $count, got $index" >&2
  exit 2
fi
for i in "${!addresses[@]}"; do
  [[ ${addresses[i]} == *:* ]] || addresses[i]+=:${PORT:-12345}
done
