#!/usr/bin/env bash
# Receivers written with the official Standard Webhooks libraries of PyPI and npm accept every signature that Postrider
# makes, and jwcrypto and jose open its encrypted bodies.
#
# Takes the binary in POSTRIDER_BIN, or the newest one that was built here, or builds one. Installs the libraries into a
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

echo "installing the libraries"
python3 -m venv "$work/python"
"$work/python/bin/pip" install --quiet --disable-pip-version-check 'standardwebhooks==1.1.0' 'jwcrypto==1.6.1'
npm install --silent --no-audit --no-fund --prefix "$work/node" standardwebhooks@1.1.1 jose@6.2.17
cp tests/suites/standard_webhooks.mjs "$work/node/"

POSTRIDER_DELIVERY__ALLOW=127.0.0.0/8 POSTRIDER_MIN_FREE_BYTES=0 \
    "$bin" serve --data-dir "$work/data" --listen 127.0.0.1:0 >"$work/out" 2>"$work/log" &
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

failed=0
"$work/python/bin/python" tests/suites/standard_webhooks.py "$url" "$key" || failed=1
node "$work/node/standard_webhooks.mjs" "$url" "$key" || failed=1
[ "$failed" = 0 ] || tail -n 20 "$work/log" >&2
exit "$failed"
