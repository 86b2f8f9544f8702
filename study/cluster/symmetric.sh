# What follows is the same for every study. Nobody else is on these nodes, so `ray symmetric-run` starts Ray on all of
# them and the study on the first one, which runs this script, and stops every Ray there at the end.
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
shared=$results/.slurm-$SLURM_JOB_ID
tmp=/tmp/ray-$SLURM_JOB_ID # short, for the sockets of Ray
unset RAY_ADDRESS RAY_AUTH_TOKEN
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$shared/token RAY_USAGE_STATS_ENABLED=0 PYTHONUNBUFFERED=1
export MALLOC_ARENA_MAX=1  # in workers, or each of their threads keeps freed memory of its own
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300 STUDY_NODES=$nodes PATH="${python%/*}:$PATH" shared
rm -rf "$shared" # of this job before it was requeued
mkdir -p "$results" && mkdir -m 700 "$shared" || exit 4
(umask 077 && "$python" -c 'import secrets; print(secrets.token_hex(32))' >"$shared/token") || exit 4

srun="" limit=""
finish() {
    rm -rf "$shared"
    srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 rm -rf "$tmp"
}
trap finish EXIT
stop() { kill -TERM "$(cat "$shared/driver")" 2>/dev/null; }
trap stop TERM INT
trap 'limit=1; stop' USR1 # the time limit is near

[ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] && [ -e "$results/$name/study.json" ] && study+=(--resume)
srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 mkdir -m 700 "$tmp"
# shellcheck disable=SC2016 # the first node expands this: the shell becomes the study
srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --cpus-per-task="$cpus" \
    ray symmetric-run --address "$head:6379" --min-nodes "$nodes" --temp-dir "$tmp/r" --num-cpus="$cpus" \
    --num-gpus="$gpus" --memory="$memory" --object-store-memory=200000000 -- \
    bash -c 'echo $$ >"$shared/driver"; exec "$@"' bash "$python" -m study.run "${study[@]}" --address "$head:6379" &
srun=$!
code=128
while [ "$code" -ge 128 ]; do # a signal ends a wait, not the study
    wait "$srun"
    next=$?
    [ "$next" -eq 127 ] && break # it has ended before
    code=$next
done
finish
trap - EXIT
[ "$code" -eq 75 ] && [ -n "$limit" ] && scontrol requeue "$SLURM_JOB_ID"
exit "$code"
