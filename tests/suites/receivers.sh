#!/usr/bin/env bash
# The receivers of docs/signatures.md, as written. Each accepts Postrider's request once, and refuses one that another
# secret signed. Then every scheme is checked by its vendor's published recipe (receivers.py), before, during and after
# a change of the secret.
#
# Takes the binary in POSTRIDER_BIN, or the newest one that was built here, or builds one. Installs the libraries into a
# temporary directory, which is removed afterwards.
set -euo pipefail
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
running=()
cleanup() {
    for process in "${running[@]}"; do
        kill "$process" 2>/dev/null || true
        wait "$process" 2>/dev/null || true
    done
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

# The block of the page that is run here, by its name.
block() {
    awk -v comment="<!-- run by tests/suites/receivers.sh as $1 -->" '
        $0 == comment { found = 1; next }
        found && /^```/ { if (inside) exit; inside = 1; next }
        inside { print }
    ' docs/signatures.md
}

# Waits until a command succeeds.
until_true() {
    for _ in $(seq 1 600); do
        if "$@" >/dev/null 2>&1; then
            return 0
        fi
        sleep 0.1
    done
    echo "never came true: $*" >&2
    return 1
}

echo "installing the libraries"
python3 -m venv "$work/python"
"$work/python/bin/pip" install --quiet --disable-pip-version-check 'standardwebhooks==1.1.0' 'cryptography>=43'
npm install --silent --no-audit --no-fund --prefix "$work/node" standardwebhooks@1.1.1
block receiver.py >"$work/receiver.py"
block receiver.mjs >"$work/node/receiver.mjs"
[ -s "$work/receiver.py" ] && [ -s "$work/node/receiver.mjs" ]

POSTRIDER_DELIVERY__ALLOW=127.0.0.1 POSTRIDER_MIN_FREE_BYTES=0 \
    "$bin" serve --data-dir "$work/data" --listen 127.0.0.1:0 >"$work/out" 2>"$work/log" &
running+=($!)
until_true grep -q '^postrider: listening on ' "$work/out"
POSTRIDER_URL=$(sed -n 's/^postrider: listening on //p' "$work/out")
POSTRIDER_TOKEN=$(cat "$work/data/first-key")
export POSTRIDER_URL POSTRIDER_TOKEN

secret=whsec_$(head -c 24 /dev/urandom | base64)
check() {
    local name=$1 port=$2 shown=$work/$1.out webhook other delivery
    shift 2
    WEBHOOK_SECRET=$secret PORT=$port "$@" >"$shown" 2>&1 &
    running+=($!)
    until_true python3 -c "import socket; socket.create_connection(('127.0.0.1', $port))"
    webhook=$("$bin" webhook create "http://127.0.0.1:$port/" --event-type "$name.*" --secret "$secret" -o json)
    "$bin" send --type "$name.paid" --data '{"id": 17, "text": "ü€😀"}' >/dev/null
    until_true grep -q "^took $name.paid .*17" "$shown"
    until_true sh -c "'$bin' delivery list --type $name.paid --status delivered | grep -q $name.paid"
    # A repeated event is recognised, and accepted without being processed again.
    delivery=$("$bin" delivery list --type "$name.paid" | awk 'NR == 2 { print $1 }')
    "$bin" delivery retry "$delivery" >/dev/null
    until_true sh -c "'$bin' delivery list --type $name.paid --status delivered | grep -c $name.paid | grep -qx 2"
    [ "$(grep -c '^took ' "$shown")" = 1 ]
    # A request that another secret signed is refused.
    other=$("$bin" webhook create "http://127.0.0.1:$port/" --event-type "$name-other.*" --retry-schedule none -o json)
    "$bin" send --type "$name-other.paid" --data '{}' >/dev/null
    until_true grep -q '^refused: ' "$shown"
    until_true sh -c "'$bin' delivery list --type $name-other.paid --status failed | grep -q 401"
    [ "$(grep -c '^took ' "$shown")" = 1 ]
    [ "$webhook" != "$other" ]
    echo "$name: took what was signed, once, and refused what was not"
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

check python "$(free_port)" "$work/python/bin/python" "$work/receiver.py"
check node "$(free_port)" node "$work/node/receiver.mjs"
"$work/python/bin/python" tests/suites/receivers.py "$POSTRIDER_URL" "$POSTRIDER_TOKEN"
