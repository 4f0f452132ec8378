#!/usr/bin/env bash
# Two real daemons with the order of commits in a real PostgreSQL. Under load the owner is killed (kill -9) or stopped, and
# PostgreSQL restarted without a checkpoint (pg_ctl -m immediate), again and again (cluster.py). No acknowledged event may be
# missing, another node must be ready within 15 seconds of a kill, and within 3 of a stop. At the end one node leaves the
# cluster. Prints the numbers. Takes two minutes; POSTRIDER_CLUSTER_S sets another time.
#
# Takes the binary in POSTRIDER_BIN, or the ci build, which it makes if there is none: it needs the feature postgres. Needs
# python3, and installs PostgreSQL from Debian's packages if there is none.
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

# PostgreSQL refuses to run as root.
as_user() {
    if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}

database=$(mktemp -d)
[ "$(id -u)" != 0 ] || chown postgres "$database"
stop_database() {
    as_user "$pg/pg_ctl" -D "$database/data" -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$database"
}
trap 'stop_all; stop_database' EXIT

port=$(free_port)
as_user "$pg/initdb" -D "$database/data" -U postgres -A trust >/dev/null
cat >"$work/database" <<END
#!/usr/bin/env bash
cd "$database"
run() { "$pg/pg_ctl" -D "$database/data" -w -l "$database/log" -o "-p $port -k $database -c listen_addresses=127.0.0.1" "\$@"; }
run "\$@"
END
chmod 755 "$work/database" "$work"
as_user "$work/database" start >/dev/null
control="$work/database"
[ "$(id -u)" != 0 ] || control="runuser -u postgres -- $work/database"

PYTHONDONTWRITEBYTECODE=1 python3 tests/suites/cluster.py "$bin" "$work" "$port" "$control" "$(free_port)" "$(free_port)" \
    "${POSTRIDER_CLUSTER_S:-60}"
