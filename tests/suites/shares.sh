#!/usr/bin/env bash
# Healthy webhooks beside 1,100 webhooks of one tenant or of one host that hang, and beside 1,200 names that never resolve
# (shares.py). Judges the ratio to a quiet run beside it, and prints both.
#
# tests/suites/shares.sh tenant runs one of: tenant host names. A name server that never answers needs the right to mount,
# and is skipped without it. SHARES_SECONDS and SHARES_ROUNDS measure longer. Takes the binary in POSTRIDER_BIN, or the
# ci build, which it makes if there is none.
set -euo pipefail
cd "$(dirname "$0")/../.."

bin=${POSTRIDER_BIN:-target/ci/postrider}
if [ ! -x "$bin" ]; then
    tests/suites/build
fi
kinds=("$@")
[ $# -gt 0 ] || kinds=(tenant host names)
export PYTHONDONTWRITEBYTECODE=1
for kind in "${kinds[@]}"; do
    if [ "$kind" != names ]; then
        python3 tests/suites/shares.py "$bin" "$kind"
    elif unshare --mount true 2>/dev/null; then
        # A mount namespace of its own: the machine's file stays.
        servers=$(mktemp)
        echo "nameserver 127.0.0.53" >"$servers"
        unshare --mount bash -c 'mount --bind "$1" /etc/resolv.conf && exec python3 tests/suites/shares.py "$2" names' - "$servers" "$bin"
        rm -f "$servers"
    else
        echo "names: skipped, no mount is allowed here"
    fi
done
