#!/usr/bin/env bash
# All collectives over the GPUs of several hosts. On each of them, at about the same time:
#
#     bash torchrun.sh FIRST_HOST HOSTS THIS_HOST [arguments of chipassay run]
#
# FIRST_HOST: name or address of the first host, reachable from all; HOSTS: how many there are; THIS_HOST: 0 on the first, then 1, 2, ...
# RANKS_PER_HOST: `gpu` (default) for one a GPU, or a number. PORT: free on the first host, and open between them.
set -euo pipefail

first_host=$1 hosts=$2 this_host=$3
shift 3

exec torchrun \
    --nnodes="$hosts" --node-rank="$this_host" --nproc-per-node="${RANKS_PER_HOST:-gpu}" \
    --master-addr="$first_host" --master-port="${PORT:-29500}" \
    --no-python chipassay run "$@"
