#!/usr/bin/env bash
# first-picture.sh BINARY: starts `pointsman up`, runs examples/first-picture.json to the end,
# says where the picture lies and where to look, and stays up until Ctrl-C (STAY=0 leaves).
set -euo pipefail
binary=$1
data=${DATA:-data}
out="$data/pictures"
mkdir -p -m 700 "$data"

arguments=(up --listen "${LISTEN:-127.0.0.1:7780}" --data "$data")
for url in ${COMFYUI:-}; do arguments+=(--comfyui "$url"); done

log="$data/up.log"
: >"$log"
"$binary" "${arguments[@]}" > >(tee -a "$log") 2>>"$data/up.err" &
up=$!
stop() { kill -TERM "$up" 2>/dev/null || true; wait "$up" 2>/dev/null || true; }
trap stop EXIT
trap 'exit 130' INT TERM

# `up` prints its address once it listens.
url=""
until [ -n "$url" ]; do
  kill -0 "$up" 2>/dev/null || { cat "$data/up.err" >&2; echo "pointsman did not start" >&2; exit 1; }
  url=$(sed -n 's/^monitor: *\(http[^ ]*\).*/\1/p' "$log" | head -n 1)
  [ -n "$url" ] || sleep 0.1
done
url=${url%/}

"$binary" --server "$url" submit examples/first-picture.json --wait --out "$out"
picture=$(ls -t "$out"/*/* 2>/dev/null | head -n 1)
[ -n "$picture" ] || { echo "no picture was saved to $out" >&2; exit 1; }
echo
echo "picture: $(realpath "$picture")"
echo "monitor: $url/"
[ "${STAY:-1}" = 0 ] && exit 0
echo "stays up until Ctrl-C"
wait "$up"
