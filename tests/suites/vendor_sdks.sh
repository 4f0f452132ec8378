#!/usr/bin/env bash
# The vendors' own SDKs read, list, make, change and remove webhooks at a running daemon: Devdraft's two from PyPI, sent.dm's
# from PyPI and npm, Dfns's from npm (reads only: its writes sign a challenge first).
#
# Takes the binary in POSTRIDER_BIN, or the newest one that was built here, or builds one. Installs the SDKs into a
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
# To the program it would be a setting that there is not.
unset POSTRIDER_BIN
if [ -z "$bin" ]; then
    bin=$(ls -t target/ci/postrider target/release/postrider target/debug/postrider 2>/dev/null | head -n 1 || true)
fi
if [ -z "$bin" ]; then
    cargo build --bin postrider
    bin=target/debug/postrider
fi

echo "installing the SDKs"
python3 -m venv "$work/python"
"$work/python/bin/pip" install --quiet --disable-pip-version-check \
    'devdraft==1.0.0' 'devdraft-sdk==1.0.9' 'sentdm==0.46.0'
npm install --prefix "$work" --silent --no-audit --no-fund '@sentdm/sentdm@0.32.0' '@dfns/sdk@0.8.21'

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

key=$(cat "$work/data/first-key")
id=$("$bin" key list --url "$url" --token "$key" -o json | head -n 1 | sed 's/.*"id":"\([^"]*\)".*/\1/')
failed=0
"$work/python/bin/python" tests/suites/vendor_sdks.py "$url" "$key" "$id" || failed=1
NODE_PATH="$work/node_modules" node tests/suites/vendor_sdks.cjs "$url" "$key" || failed=1
exit "$failed"
