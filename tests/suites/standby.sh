#!/usr/bin/env bash
# Two real daemons over TLS, owner and standby with standby.required (standby.py). Under load the owner is killed (kill
# -9) again and again, and the standby promoted. No acknowledged event may be missing, and each former owner must stop
# with exit code 76. Prints the numbers. Takes two minutes. POSTRIDER_STANDBY_S sets another time.
#
# Takes the binary in POSTRIDER_BIN, or the ci build, which it makes if there is none. Needs openssl and python3.
source "$(dirname "$0")/support/suite.bash"

{
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3 -subj /CN=suite \
        -addext basicConstraints=critical,CA:TRUE -keyout "$work/ca.key" -out "$work/ca.pem"
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
        -keyout "$work/server.key" -out "$work/server.csr"
    openssl x509 -req -in "$work/server.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial -days 3 \
        -extfile <(echo "subjectAltName=DNS:localhost,IP:127.0.0.1") -out "$work/server.pem"
} 2>/dev/null
chmod 600 "$work/server.key"
PYTHONDONTWRITEBYTECODE=1 python3 tests/suites/standby.py "$bin" "$work" "$(free_port)" "$(free_port)" \
    "${POSTRIDER_STANDBY_S:-110}"
