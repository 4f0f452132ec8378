#!/usr/bin/env bash
# The receivers of docs/signatures.md and of src/api/dialects/svix/receivers.md, as written. Each accepts Postrider's request once, and refuses one that another
# secret signed. Then every scheme is checked by its vendor's published recipe (receivers.py), before, during and after
# a change of the secret.
#
# Takes the binary in POSTRIDER_BIN, or the newest one that was built here, or builds one. Installs the libraries into a
# temporary directory, which is removed afterwards.
source "$(dirname "$0")/support/suite.bash"

# The block of a page that is run here, by its name.
block() {
    awk -v comment="<!-- run by tests/suites/receivers.sh as $1 -->" '
        $0 == comment { found = 1; next }
        found && /^```/ { if (inside) exit; inside = 1; next }
        inside { print }
    ' "${2:-docs/signatures.md}"
}

echo "installing the libraries"
install_python 'standardwebhooks==1.1.0' 'cryptography>=43' 'svix==2.5.0'
npm install --silent --no-audit --no-fund --prefix "$work/node" standardwebhooks@1.1.1 svix@2.5.0
block receiver.py >"$work/receiver.py"
block receiver.mjs >"$work/node/receiver.mjs"
vendor=src/api/dialects/svix/receivers.md
block svix_receiver.py $vendor >"$work/svix_receiver.py"
block svix_receiver.mjs $vendor >"$work/node/svix_receiver.mjs"
for program in receiver.py svix_receiver.py node/receiver.mjs node/svix_receiver.mjs; do [ -s "$work/$program" ]; done

start_daemon
export POSTRIDER_URL=$url POSTRIDER_TOKEN=$key

secret=whsec_$(head -c 24 /dev/urandom | base64)
check() {
    local name=$1 port=$2 shown=$work/$1.out webhook other delivery
    shift 2
    WEBHOOK_SECRET=$secret PORT=$port "$@" >"$shown" 2>&1 &
    running+=($!)
    until_true python3 -c "import socket; socket.create_connection(('127.0.0.1', $port))"
    webhook=$("$bin" webhook create "http://127.0.0.1:$port/" --event-type "$name.*" --secret "$secret" "${flags[@]}" -o json)
    "$bin" send --type "$name.paid" --data '{"id": 17, "text": "ü€😀"}' >/dev/null
    until_true grep -q "^took $took.*17" "$shown"
    until_true sh -c "'$bin' delivery list --type $name.paid --status delivered | grep -q $name.paid"
    # A repeated event is recognised, and accepted without being processed again.
    delivery=$("$bin" delivery list --type "$name.paid" | awk 'NR == 2 { print $1 }')
    "$bin" delivery retry "$delivery" >/dev/null
    until_true sh -c "'$bin' delivery list --type $name.paid --status delivered | grep -c $name.paid | grep -qx 2"
    [ "$(grep -c '^took ' "$shown")" = 1 ]
    # A request that another secret signed is refused.
    other=$("$bin" webhook create "http://127.0.0.1:$port/" --event-type "$name-other.*" --retry-schedule none "${flags[@]}" \
        -o json)
    "$bin" send --type "$name-other.paid" --data '{}' >/dev/null
    until_true grep -q '^refused: ' "$shown"
    until_true sh -c "'$bin' delivery list --type $name-other.paid --status failed | grep -q 401"
    [ "$(grep -c '^took ' "$shown")" = 1 ]
    [ "$webhook" != "$other" ]
    echo "$name: accepted the signed request once, and refused the forged one"
}

# The flags of the webhooks, and the beginning of the line that a receiver prints.
flags=() took='[a-z]*\.paid '
check python "$(free_port)" "$work/python/bin/python" "$work/receiver.py"
check node "$(free_port)" node "$work/node/receiver.mjs"
flags=(--signature svix --field-set raw) took='{'
check svix-python "$(free_port)" "$work/python/bin/python" "$work/svix_receiver.py"
check svix-node "$(free_port)" node "$work/node/svix_receiver.mjs"
"$work/python/bin/python" tests/suites/receivers.py "$POSTRIDER_URL" "$POSTRIDER_TOKEN"
