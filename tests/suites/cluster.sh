#!/usr/bin/env bash
# Clusters of two real daemons side by side, each with the order of commits in a real PostgreSQL of its own
# (cluster.py). Under load the owner is killed (kill -9), stopped, or stands still, or PostgreSQL falls without a
# checkpoint (pg_ctl -m immediate). There are 200 faults in all. One cluster speaks TLS to PostgreSQL, one measures
# PostgreSQL, and the store of one leaves it. One promotes a streaming replica that lacks the tail, and its log goes on
# by hand (postrider cluster rebase). One cuts its owner off in a network namespace. No acknowledged event may be
# missing. By the median another node must be ready within 15 seconds of a kill and within 3 of a stop. No two nodes may
# send for longer than a lease. Prints the numbers. Takes six minutes.
#
# POSTRIDER_FAULTS sets another number of faults, POSTRIDER_CLUSTERS another number of clusters. Takes the binary in
# POSTRIDER_BIN, or the ci build, which it makes if there is none. The binary needs the feature postgres. Needs openssl
# and python3, and installs PostgreSQL from Debian's packages if there is none. Without root the owner is not cut off,
# and without pgbouncer no pooler is told.
source "$(dirname "$0")/support/suite.bash"

find_postgres() {
    # Debian installs each major version into a folder of its own.
    pg=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
    [ -n "$pg" ] && [ -x "$pg/initdb" ]
}
if ! find_postgres; then
    apt-get install -y --no-install-recommends postgresql >/dev/null
    find_postgres
fi
if [ "$(id -u)" = 0 ] && [ ! -x /usr/sbin/pgbouncer ]; then
    apt-get install -y --no-install-recommends pgbouncer >/dev/null 2>&1 || echo "pgbouncer cannot be installed"
fi

# PostgreSQL refuses to run as root.
user=
databases=$(mktemp -d)
if [ "$(id -u)" = 0 ]; then
    user="runuser -u postgres --"
    chown postgres "$databases"
fi
stop_databases() {
    for data in "$databases"/*/; do
        # shellcheck disable=SC2086
        [ ! -e "$data/postmaster.pid" ] || $user "$pg/pg_ctl" -D "$data" -m immediate stop >/dev/null 2>&1 || true
    done
    rm -rf "$databases"
}
trap 'stop_all; stop_databases' EXIT

{
    for ca in ca other; do
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3 -subj "/CN=suite $ca" \
            -addext basicConstraints=critical,CA:TRUE -keyout "$work/$ca.key" -out "$work/$ca.pem"
    done
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
        -keyout "$databases/server.key" -out "$work/server.csr"
    openssl x509 -req -in "$work/server.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial -days 3 \
        -extfile <(echo "subjectAltName=DNS:localhost,IP:127.0.0.1") -out "$databases/server.pem"
} 2>/dev/null
chmod 600 "$databases/server.key"
[ -z "$user" ] || chown postgres "$databases/server.key" "$databases/server.pem"

PYTHONDONTWRITEBYTECODE=1 python3 tests/suites/cluster.py "$bin" "$work" "$pg" "$user" "$databases" \
    "${POSTRIDER_CLUSTERS:-6}" "${POSTRIDER_FAULTS:-200}"
