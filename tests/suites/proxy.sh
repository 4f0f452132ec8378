#!/usr/bin/env bash
# Deliveries through real proxies, squid and tinyproxy: http and https receivers, with and without credentials, and
# no_proxy. A proxy speaks TLS, gets a wrong password, refuses a host, or is down for a while. The password appears
# nowhere.
#
# Takes the binary in POSTRIDER_BIN, or the newest one that was built here, or builds one. Downloads the packages of both
# proxies from Debian and unpacks them into a temporary directory, which is removed afterwards. Nothing is installed.
source "$(dirname "$0")/support/suite.bash"

fail() {
    echo "$*" >&2
    tail -n 30 "$work/log" >&2 || true
    exit 1
}

listens() {
    python3 -c "import socket; socket.create_connection(('127.0.0.1', $1))"
}

echo "unpacking squid and tinyproxy"
mkdir -p "$work/debs/partial" "$work/run"
apt-get -qq update
apt-get -qq -y --no-install-recommends --download-only --reinstall -o Debug::NoLocking=1 -o APT::Sandbox::User=root -o "Dir::Cache::archives=$work/debs" \
    install squid-openssl tinyproxy-bin >/dev/null
for package in "$work"/debs/*.deb; do
    dpkg-deb -x "$package" "$work/root"
done
libraries=$(dirname "$(find "$work/root/usr/lib" -name 'libecap.so*' -print -quit)")
# squid drops root, and reads these files afterwards.
chmod 755 "$work"
chmod 777 "$work/run"

password='p@ss:word-long'
encoded='p%40ss%3Aword-long'
authority() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3 -subj /CN=suite \
        -addext basicConstraints=critical,CA:TRUE -keyout "$work/ca.key" -out "$work/ca.pem"
}
certificate() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$work/$1.key" -out "$work/$1.csr"
    openssl x509 -req -in "$work/$1.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial -days 3 \
        -extfile <(echo "subjectAltName=DNS:$1,IP:127.0.0.1") -out "$work/$1.pem"
    chmod 644 "$work/$1.key"
}
{ authority; certificate shop.example; certificate localhost; } 2>/dev/null
echo "127.0.0.1 shop.example" >"$work/hosts"
echo "user:$(openssl passwd -apr1 "$password")" >"$work/users"

squid_port=$(free_port)
squid_tls_port=$(free_port)
tinyproxy_port=$(free_port)
http_port=$(free_port)
https_port=$(free_port)

# Only squid knows the names. `open` admits every client, and `closed` asks for the user.
squid_settings() {
    cat <<SQUID
http_port 127.0.0.1:$squid_port
https_port 127.0.0.1:$squid_tls_port tls-cert=$work/localhost.pem tls-key=$work/localhost.key
auth_param basic program $work/root/usr/lib/squid/basic_ncsa_auth $work/users
auth_param basic children 1
auth_param basic credentialsttl 1 second
acl known proxy_auth REQUIRED
acl denied dstdomain denied.example
http_access deny denied
http_access allow $([ "$1" = open ] && echo all || echo known)
http_access deny all
hosts_file $work/hosts
access_log stdio:$work/run/access.log
cache_log $work/run/cache.log
cache deny all
pid_filename none
netdb_filename none
mime_table $work/root/usr/share/squid/mime.conf
icon_directory $work/root/usr/share/squid/icons
error_directory $work/root/usr/share/squid/errors/templates
unlinkd_program $work/root/usr/lib/squid/unlinkd
logfile_daemon $work/root/usr/lib/squid/log_file_daemon
diskd_program $work/root/usr/lib/squid/diskd
pinger_enable off
coredump_dir $work/run
shutdown_lifetime 0 seconds
SQUID
}
squid=
start_squid() {
    squid_settings "$1" >"$work/squid.conf"
    LD_LIBRARY_PATH=$libraries "$work/root/usr/sbin/squid" -N -f "$work/squid.conf" >"$work/run/squid.out" 2>&1 &
    squid=$!
    running+=("$squid")
    until_true listens "$squid_port"
}
stop_squid() {
    kill "$squid"
    wait "$squid" 2>/dev/null || true
}

# Answers 200 to every request, and records the path and a header that belongs to the proxy.
cat >"$work/receiver.py" <<'PYTHON'
import http.server, ssl, sys

port, log, cert = int(sys.argv[1]), sys.argv[2], sys.argv[3:]

class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        leaked = " LEAKED" if self.headers.get("proxy-authorization") else ""
        with open(log, "a") as out:
            out.write(self.path + leaked + "\n")
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Receiver)
if cert:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert[0], cert[1])
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
PYTHON
touch "$work/http.got" "$work/https.got"
python3 "$work/receiver.py" "$http_port" "$work/http.got" &
running+=($!)
python3 "$work/receiver.py" "$https_port" "$work/https.got" "$work/shop.example.pem" "$work/shop.example.key" &
running+=($!)
until_true listens "$http_port"
until_true listens "$https_port"

settings() {
    cat >"$work/postrider.toml" <<TOML
min_free_bytes = 0
[delivery]
allow = ["127.0.0.1"]
proxy = "$1"
no_proxy = [${2:-}]
TOML
}
daemon=
# Sends SIGHUP, and waits until a reload has ended.
reload() {
    local before
    before=$(grep -c 'taken over' "$work/log" || true)
    kill -HUP "$daemon"
    until_true sh -c "[ \$(grep -c 'taken over' '$work/log') -gt $before ]"
}
ready_says() {
    curl -sS "$POSTRIDER_URL/readyz" | grep -q "$1"
}
no_warning() {
    ! ready_says proxy_
}

settings "http://127.0.0.1:$squid_port"
SSL_CERT_FILE=$work/ca.pem HTTPS_PROXY=http://ignored.invalid:1 \
    "$bin" serve --config "$work/postrider.toml" --data-dir "$work/data" --listen 127.0.0.1:0 >"$work/out" 2>"$work/log" &
daemon=$!
running+=("$daemon")
until_true grep -q '^postrider: listening on ' "$work/out"
POSTRIDER_URL=$(sed -n 's/^postrider: listening on //p' "$work/out")
POSTRIDER_TOKEN=$(cat "$work/data/first-key")
export POSTRIDER_URL POSTRIDER_TOKEN

webhook() {
    "$bin" webhook create "$1" --event-type "$2" --retry-schedule 1,1,1 -o json | sed 's/^{"id":"\([^"]*\)".*/\1/'
}
send() {
    "$bin" send --type "$1" --data '{"id": 17}' >/dev/null
}
delivered() {
    [ "$("$bin" delivery list --type "$1" --status delivered | grep -c "$1")" = "$2" ]
}
untried() {
    "$bin" delivery list --type "$1" --status pending -o json | grep -q '"attempts":0'
}
# Publishes one event to each kind of receiver through the current proxy. The number is the expected count of events.
both() {
    send plain
    send secure
    until_true delivered plain "$1"
    until_true delivered secure "$1"
    until_true no_warning
}

plain=$(webhook "http://shop.example:$http_port/plain" plain)
secure=$(webhook "https://shop.example:$https_port/secure" secure)

start_squid open
both 1
grep -q "POST http://shop.example:$http_port/plain" "$work/run/access.log" || fail "squid saw no absolute form"
echo "squid without credentials: http and https receivers"
both 2
# Another setting closes the tunnel. Only then squid logs it.
settings "http://127.0.0.1:$squid_port" '"unused.example"'
reload
until_true grep -q "CONNECT shop.example:$https_port" "$work/run/access.log"
[ "$(grep -c CONNECT "$work/run/access.log")" = 1 ] || fail "the tunnel was not reused"
echo "the tunnel is reused"

denied=$(webhook "https://denied.example/" denied)
send denied
until_true sh -c "'$bin' webhook attempts $denied | grep -q proxy_error"
"$bin" webhook attempts "$denied" -o json | grep -q 'it answered CONNECT with 403 Forbidden' || fail "no reason"
"$bin" webhook get "$denied" -o json | grep -q '"consecutive_failures":0' || fail "the receiver was blamed"
echo "a refused host is a proxy_error, and no failure of the receiver"

stop_squid
send plain
send secure
until_true ready_says proxy_unreachable
untried plain && untried secure || fail "an unreachable proxy was an attempt"
if "$bin" doctor --config "$work/postrider.toml" --data-dir "$work/data" >"$work/doctor" 2>&1; then
    fail "the doctor found nothing"
fi
grep -q 'deliveries go through http' "$work/doctor" || fail "the doctor does not name the proxy"
start_squid open
until_true delivered plain 3
until_true delivered secure 3
until_true no_warning
for id in "$plain" "$secure"; do
    "$bin" webhook get "$id" -o json | grep -q '"consecutive_failures":0' || fail "a receiver was blamed"
done
echo "a proxy that is down: deliveries wait, and arrive when it is up again"

stop_squid
settings "http://user:wrong-wrong@127.0.0.1:$squid_port"
reload
start_squid closed
send secure
until_true ready_says proxy_credentials
untried secure || fail "a wrong password was an attempt"
# The verb fails, because the attempt does.
told=$("$bin" webhook test "$secure" 2>&1) && fail "a test without a tunnel passed"
grep -q "check delivery.proxy's user and password" <<<"$told" || fail "no cure: $told"
settings "http://user:$encoded@127.0.0.1:$squid_port"
reload
until_true delivered secure 4
send plain
until_true delivered plain 4
echo "squid with credentials, wrong ones first"
both 5

settings "https://user:$encoded@localhost:$squid_tls_port"
reload
both 6
echo "a proxy that speaks TLS itself"

stop_squid
direct=$(webhook "http://127.0.0.1:$http_port/direct" direct)
settings "http://user:$encoded@127.0.0.1:$squid_port" '"127.0.0.0/8"'
reload
send direct
until_true delivered direct 1
bypassing=$("$bin" webhook create "http://127.0.0.1:$http_port/none" --event-type bypassing --proxy none -o json |
    sed 's/^{"id":"\([^"]*\)".*/\1/')
settings "http://user:$encoded@127.0.0.1:$squid_port"
reload
send bypassing
until_true delivered bypassing 1
[ -n "$direct" ] && [ -n "$bypassing" ]
echo "no_proxy, and webhooks with proxy none, go past a proxy that is down"

tiny_password=tiny-word-long
# tinyproxy uses the system's resolver, so its receivers have addresses.
cat >"$work/tinyproxy.conf" <<TINYPROXY
Port $tinyproxy_port
Listen 127.0.0.1
Timeout 60
MaxClients 50
LogFile "$work/run/tinyproxy.log"
LogLevel Connect
BasicAuth user $tiny_password
TINYPROXY
LD_LIBRARY_PATH=$libraries "$work/root/usr/bin/tinyproxy" -d -c "$work/tinyproxy.conf" >"$work/run/tinyproxy.out" 2>&1 &
running+=($!)
until_true listens "$tinyproxy_port"
settings "http://user:wrong-wrong@127.0.0.1:$tinyproxy_port"
reload
tiny=$("$bin" webhook create "https://127.0.0.1:$https_port/tiny" --event-type tiny --tls-ca "$work/ca.pem" -o json |
    sed 's/^{"id":"\([^"]*\)".*/\1/')
send tiny
until_true ready_says proxy_credentials
untried tiny || fail "a wrong password was an attempt"
settings "http://user:$tiny_password@127.0.0.1:$tinyproxy_port"
reload
until_true delivered tiny 1
send direct
until_true delivered direct 2
grep -q "CONNECT 127.0.0.1:$https_port" "$work/run/tinyproxy.log" || fail "tinyproxy saw no CONNECT"
grep -q "POST http://127.0.0.1:$http_port/direct" "$work/run/tinyproxy.log" || fail "tinyproxy saw no absolute form"
[ -n "$tiny" ]
echo "tinyproxy with credentials: http and https receivers"

"$bin" config show --config "$work/postrider.toml" >"$work/shown"
grep -q 'proxy = "http://user:\*\*\*\*\*\*\*\*@127.0.0.1:' "$work/shown" || fail "config show does not mask the password"
"$bin" doctor --config "$work/postrider.toml" --data-dir "$work/data" >>"$work/doctor" 2>&1 || true
curl -sS "$POSTRIDER_URL/metrics" >"$work/metrics"
grep -q '^postrider_proxy_up 1$' "$work/metrics" || fail "the metrics do not say that the proxy is well"
grep -q 'postrider_proxy_failures_total{reason="unreachable"} [1-9]' "$work/metrics" || fail "no failure was counted"
if grep -e "$password" -e "$encoded" -e "$tiny_password" -e wrong-wrong "$work/log" "$work/out" "$work/shown" "$work/doctor" "$work/metrics"; then
    fail "the password is shown"
fi
if grep LEAKED "$work/http.got" "$work/https.got"; then
    fail "a receiver got the proxy's credentials"
fi
if grep -E 'ERROR|panicked' "$work/log" >&2; then
    fail "the daemon complains"
fi
echo "the password is shown nowhere"
