#!/usr/bin/env bash
# A Python client that openapi-python-client makes out of the served description publishes, lists and reads, against a
# running daemon and a receiver.
#
# Takes the binary in POSTRIDER_BIN, or the newest one that was built here, or builds one. Installs the generator into a
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

echo "installing the generator"
python3 -m venv "$work/python"
"$work/python/bin/pip" install --quiet --disable-pip-version-check 'openapi-python-client==0.29.1'

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

# Generated code tells the bodies of one operation apart by class, so what has none (a batch of CloudEvents) and the
# second name for one body (a patch) are left out. Anything else that the generator cannot use is a mistake in the
# description.
cat >"$work/generator.yaml" <<'YAML'
content_type_overrides:
  application/cloudevents-batch+json: application/x-left-out
  application/merge-patch+json: application/x-left-out
YAML
PATH="$work/python/bin:$PATH" openapi-python-client generate --url "$url/openapi.json" --config "$work/generator.yaml" \
    --output-path "$work/client" >"$work/generated" 2>&1 || { cat "$work/generated" >&2; exit 1; }
warnings=$(grep -c '^WARNING' "$work/generated" || true)
left_out=$(grep -c 'Unsupported content type application/x-left-out' "$work/generated" || true)
if [ "$warnings" != 4 ] || [ "$left_out" != 4 ]; then
    cat "$work/generated" >&2
    exit 1
fi

PYTHONPATH="$work/client" "$work/python/bin/python" tests/suites/python_client.py "$url" "$(cat "$work/data/first-key")"
