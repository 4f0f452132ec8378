#!/usr/bin/env bash
# The OpenAPI document is valid 3.1 by openapi-spec-validator, its examples and the golden answers of the dialects agree
# with its schemas, and the daemon serves the same document as the program prints.
#
# Takes the binary in POSTRIDER_BIN, or the newest one that was built here, or builds one. Installs its tools into a
# temporary directory, which is removed afterwards.
set -euo pipefail
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
daemon=
cleanup() {
    if [ -n "$daemon" ]; then
        kill "$daemon" 2>/dev/null || true
        wait "$daemon" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap cleanup EXIT

bin=${POSTRIDER_BIN:-}
# The program would refuse this variable as an unknown setting.
unset POSTRIDER_BIN
if [ -z "$bin" ]; then
    bin=$(ls -t target/ci/postrider target/release/postrider target/debug/postrider 2>/dev/null | head -n 1 || true)
fi
if [ -z "$bin" ]; then
    cargo build --bin postrider
    bin=target/debug/postrider
fi

echo "installing the validator"
python3 -m venv "$work/python"
"$work/python/bin/pip" install --quiet --disable-pip-version-check \
    'openapi-spec-validator==0.9.0' 'jsonschema[format-nongpl]==4.26.0'

"$bin" openapi >"$work/printed.json"
POSTRIDER_MIN_FREE_BYTES=0 "$bin" serve --data-dir "$work/data" --listen 127.0.0.1:0 >"$work/out" 2>"$work/log" &
daemon=$!
url=
for _ in $(seq 1 300); do
    url=$(sed -n 's/^postrider: listening on //p' "$work/out")
    [ -n "$url" ] && break
    kill -0 "$daemon" 2>/dev/null || { cat "$work/log" >&2; exit 1; }
    sleep 0.1
done
[ -n "$url" ] || { echo "the daemon never listened" >&2; cat "$work/log" >&2; exit 1; }

"$work/python/bin/python" tests/suites/openapi.py "$work/printed.json" "$url/openapi.json"
