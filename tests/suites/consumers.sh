#!/usr/bin/env bash
# The programs that read Postrider's output: Prometheus and promtool, Python's parsers, Grafana's queries, shells,
# man-db and mandoc, systemd. Each must read its part without an error.
#
# Takes the binary in POSTRIDER_BIN, or the newest one that was built here, or builds one. Installs Debian's packages where
# a program is missing, which needs root, and a Python library into a temporary directory, which is removed afterwards.
source "$(dirname "$0")/support/suite.bash"

fail() {
    echo "NOT OK: $*" >&2
    exit 1
}

missing=()
need() {
    command -v "$1" >/dev/null || missing+=("$2")
}
need curl curl
need prometheus prometheus
need promtool prometheus
need zsh zsh
need fish fish
need mandoc mandoc
need man man-db
need systemd-analyze systemd
[ -e /usr/share/bash-completion/bash_completion ] || missing+=(bash-completion)
if [ ${#missing[@]} -gt 0 ]; then
    [ "$(id -u)" = 0 ] || fail "install these, or run this as root: ${missing[*]}"
    echo "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$work/apt" 2>&1 ||
        { cat "$work/apt" >&2; fail "apt-get"; }
fi
install_python 'prometheus_client>=0.22,<1' 'PyYAML>=6,<7'

echo "--- units"
mkdir "$work/units"
for unit in packaging/systemd/*; do
    sed "s|/usr/bin/postrider|$bin|; s|/usr/lib/postrider/backup|$PWD/packaging/backup|" "$unit" \
        >"$work/units/$(basename "$unit")"
done
systemd-analyze verify --man=no "$work"/units/* >"$work/verified" 2>&1 || { cat "$work/verified" >&2; fail "a unit"; }
if grep "$work/units" "$work/verified"; then fail "systemd-analyze complains"; fi

echo "--- manual pages"
"$bin" man --dir "$work/man"
for page in "$work"/man/*.1; do
    LC_ALL=C.UTF-8 MANROFFSEQ='' MANWIDTH=80 man --warnings -E UTF-8 -l -Tutf8 -Z "$page" >/dev/null 2>>"$work/warned"
    mandoc -T lint -W warning "$page" >>"$work/warned" || true
done
if [ -s "$work/warned" ]; then
    cat "$work/warned" >&2
    fail "a page has warnings"
fi
MANWIDTH=80 man -l "$work/man/postrider-webhook-create.1" | grep -q 'retry-schedule' || fail "man shows no options"

echo "--- completions"
mkdir -p "$work/home/.local/share/bash-completion/completions" "$work/home/zsh" "$work/home/.config/fish/completions" \
    "$work/path"
ln -s "$bin" "$work/path/postrider"
"$bin" completions bash >"$work/home/.local/share/bash-completion/completions/postrider"
"$bin" completions zsh >"$work/home/zsh/_postrider"
"$bin" completions fish >"$work/home/.config/fish/completions/postrider.fish"
HOME=$work/home PATH="$work/path:$PATH" "$work/python/bin/python" tests/suites/completions.py

echo "--- rules"
promtool check rules packaging/prometheus/postrider.rules.yml
cp packaging/prometheus/postrider.rules.yml "$work/"
alerts=$(grep -c '^ *- alert:' packaging/prometheus/postrider.rules.yml)
# Every alert must fire, so that an alert without a series in the test is noticed.
sed "s/ALERT_COUNT/$alerts/" tests/suites/consumers_alerts.yml >"$work/consumers_alerts.yml"
(cd "$work" && promtool test rules consumers_alerts.yml)

echo "--- scraped"
# Waits until a daemon has printed its address.
address_of() {
    for _ in $(seq 1 600); do
        if grep -q '^postrider: listening on ' "$1"; then
            sed -n 's/^postrider: listening on //p' "$1"
            return 0
        fi
        sleep 0.1
    done
    fail "it never listened"
}
metrics_port=$(free_port)
serve() {
    local name=$1
    shift
    env POSTRIDER_DELIVERY__ALLOW=127.0.0.0/8 POSTRIDER_MIN_FREE_BYTES=0 "$@" \
        "$bin" serve --data-dir "$work/$name" --listen 127.0.0.1:0 >"$work/$name.out" 2>"$work/$name.log" &
    running+=($!)
}
serve api
serve listener POSTRIDER_METRICS__LISTEN="127.0.0.1:$metrics_port"
api=$(address_of "$work/api.out")
address_of "$work/listener.out" >/dev/null
# A warm standby of the first daemon, which has metrics of its own.
POSTRIDER_TOKEN=$(cat "$work/api/first-key") "$bin" key create standby --scope replicate --url "$api" -o json |
    sed -n 's/.*"key": *"\([^"]*\)".*/\1/p' >"$work/standby.key"
chmod 600 "$work/standby.key"
mkdir -m 700 "$work/standby"
cp "$work/api/master.key" "$work/standby/"
serve standby POSTRIDER_STANDBY__OF="$api" POSTRIDER_STANDBY__KEY_FILE="$work/standby.key"
standby=$(address_of "$work/standby.out")
for page in "$api/metrics" "http://127.0.0.1:$metrics_port/metrics" "$standby/metrics"; do
    curl -sSf "$page" | promtool check metrics || fail "promtool refuses $page"
done

prometheus_port=$(free_port)
cat >"$work/prometheus.yml" <<CONFIGURATION
global: { scrape_interval: 1s, evaluation_interval: 1s }
rule_files: [ "$PWD/packaging/prometheus/postrider.rules.yml" ]
scrape_configs:
  - job_name: postrider
    static_configs: [ { targets: [ "${api#http://}", "127.0.0.1:$metrics_port", "${standby#http://}" ] } ]
CONFIGURATION
promtool check config "$work/prometheus.yml"
prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/tsdb" --log.level=warn \
    --web.listen-address="127.0.0.1:$prometheus_port" >"$work/prometheus.log" 2>&1 &
running+=($!)
"$work/python/bin/python" tests/suites/consumers.py "http://127.0.0.1:$prometheus_port" "$api" \
    "$(cat "$work/api/first-key")" "http://127.0.0.1:$metrics_port" "$standby" ||
    { tail -n 20 "$work/prometheus.log" "$work/api.log" "$work/standby.log" >&2; fail "Prometheus"; }
if grep -i 'level=\(warn\|error\)' "$work/prometheus.log"; then fail "Prometheus complains"; fi
echo "all passed"
