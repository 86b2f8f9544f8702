# What follows is the same for every study. The first node runs this script and the study. srun starts Ray on every
# node; the token and the address that the head chose are handed over in a private folder that all nodes see.
shared=$results/.slurm-$SLURM_JOB_ID
unset RAY_ADDRESS RAY_AUTH_TOKEN
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$shared/token RAY_USAGE_STATS_ENABLED=0 PYTHONUNBUFFERED=1
export MALLOC_ARENA_MAX=1  # in workers, or each of their threads keeps freed memory of its own
export STUDY_NODES=$nodes python shared cpus gpus memory
rm -rf "$shared" # of this job before it was requeued
mkdir -p "$results" && mkdir -m 700 "$shared" || exit 4
(umask 077 && "$python" -c 'import secrets; print(secrets.token_hex(32))' >"$shared/token") || exit 4

ray="" driver="" signalled="" limit=""
finish() {
    touch "$shared/end" # a signal to srun would leave the nodes no time
    wait "$ray"
    rm -rf "$shared"
}
trap finish EXIT
stop() {
    signalled=1
    kill -TERM "$driver" 2>/dev/null
}
trap stop TERM INT
trap 'limit=1; stop' USR1 # the time limit is near

# shellcheck disable=SC2016 # the nodes expand this
node='
tmp=$(mktemp -d /tmp/ray-XXXXXX) || exit 4 # short, for the sockets of Ray; private, which the folder of Ray itself is not
ray=""
clean() {
    kill "$ray" 2>/dev/null
    wait
    rm -rf "$tmp"
}
trap clean EXIT
trap "exit 0" TERM INT
start() {
    "${python%/*}/ray" start --block --temp-dir "$tmp/r" --num-cpus "$cpus" --num-gpus "$gpus" --memory "$memory" \
        --object-store-memory 200000000 --dashboard-agent-listen-port 0 --min-worker-port 0 --max-worker-port 0 "$@" \
        >"$shared/node-$SLURM_PROCID.log" 2>&1 & # no port is fixed: other jobs may run on this node
    ray=$!
}
if [ "$SLURM_PROCID" -eq 0 ]; then
    start --head --port 0 --include-dashboard=false
    until [ -s "$tmp/r/ray_current_cluster" ]; do
        kill -0 "$ray" 2>/dev/null || { touch "$shared/end" && exit 4; }
        sleep 0.2
    done
    cp "$tmp/r/ray_current_cluster" "$shared/partial" && mv "$shared/partial" "$shared/address"
else
    until [ -s "$shared/address" ]; do
        [ ! -e "$shared/end" ] || exit 4
        sleep 1
    done
    start --address "$(cat "$shared/address")"
fi
until [ -e "$shared/end" ] || ! kill -0 "$ray" 2>/dev/null; do sleep 1; done
[ "$SLURM_PROCID" -gt 0 ] || [ "$STUDY_NODES" -eq 1 ] || sleep 3 # without its head a node takes long to stop
'
srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --cpus-per-task="$cpus" bash -c "$node" &
ray=$!

until [ -s "$shared/address" ] || [ -n "$signalled" ]; do
    if ! kill -0 "$ray" 2>/dev/null || [ "$SECONDS" -gt 300 ]; then
        echo "Ray did not start on the first node:" >&2
        tail -n 20 "$shared"/node-*.log >&2
        exit 4
    fi
    sleep 1
done

code=75
if [ -z "$signalled" ]; then
    [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] && [ -e "$results/$name/study.json" ] && study+=(--resume)
    "$python" -m study.run "${study[@]}" --address "$(cat "$shared/address")" &
    driver=$!
    code=128
    while [ "$code" -ge 128 ]; do # a signal ends a wait, not the study
        wait "$driver"
        next=$?
        [ "$next" -eq 127 ] && break # it has ended before
        code=$next
    done
fi
finish
trap - EXIT
[ "$code" -eq 75 ] && [ -n "$limit" ] && scontrol requeue "$SLURM_JOB_ID"
exit "$code"
