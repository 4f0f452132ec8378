#!/usr/bin/env bash
# The programs of docs/publishing.md and docs/receivers.md, as written. Each producer publishes its event twice, and the
# event arrives once. Each receiver accepts a signed event, recognises it when it comes again, and refuses a forged one.
#
# Takes the binary in POSTRIDER_BIN, or the newest one that was built here, or builds one. Installs the languages from
# Debian's packages if one is missing, and the libraries into a temporary directory, which is removed afterwards.
source "$(dirname "$0")/support/suite.bash"

# Writes the block of a page that has this name.
block() {
    awk -v comment="<!-- run by tests/suites/snippets.sh as $2 -->" '
        $0 == comment { found = 1; next }
        found && /^```/ { if (inside) exit; inside = 1; next }
        inside { print }
    ' "docs/$1.md" >"$work/$2"
    [ -s "$work/$2" ]
}

# All names of the blocks of a page.
names() {
    sed -n 's/^<!-- run by tests\/suites\/snippets.sh as \(.*\) -->$/\1/p' "docs/$1.md"
}

install_languages() {
    local missing=() package
    for package in curl golang-go php-cli ruby ruby-sinatra ruby-webrick default-jdk-headless mono-mcs mono-runtime \
        libmono-system-net-http4.0-cil; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || missing+=("$package")
    done
    [ "${#missing[@]}" = 0 ] && return
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$work/apt" 2>&1 ||
        { cat "$work/apt" >&2; return 1; }
}

echo "installing languages and libraries"
install_languages
install_python 'standardwebhooks==1.1.0' 'fastapi==0.116.1' 'uvicorn==0.35.0' 'flask==3.1.1'
npm install --silent --no-audit --no-fund --prefix "$work" express@5.1.0 standardwebhooks@1.1.1
export GOCACHE=$work/go GO111MODULE=off GOFLAGS=-p=2
python=$work/python/bin/python

# Runs a program of a page by its name.
run() {
    case $1 in
        *.sh) sh "$work/$1" ;;
        *.py) "$python" "$work/$1" ;;
        *.mjs) node "$work/$1" ;;
        *.go) "$work/${1%.go}" ;;
        publish.php) php "$work/$1" ;;
        # PHP's own server stands for the web server.
        *.php) PHP_CLI_SERVER_WORKERS='' php -S "127.0.0.1:$PORT" "$work/$1" ;;
        *.rb) APP_ENV=production ruby "$work/$1" -q ;;
        *.java) java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 "$work/$1" ;;
        *.cs) mono "$work/${1%.cs}.exe" ;;
        *.rs) "$work/crate/target/debug/publish" ;;
        *) echo "no way to run $1" >&2; return 1 ;;
    esac
}

# Compiles a program of a page, if its language needs that.
build() {
    case $1 in
        *.go) (cd "$work" && go vet "$1" && go build -o "${1%.go}" "$1") ;;
        *.cs) mcs -out:"$work/${1%.cs}.exe" -r:System.Net.Http.dll "$work/$1" ;;
        *.rs)
            mkdir -p "$work/crate/src"
            cp "$work/$1" "$work/crate/src/main.rs"
            cat >"$work/crate/Cargo.toml" <<'TOML'
[package]
name = "publish"
version = "0.0.0"
edition = "2024"

[dependencies]
ureq = { version = "3", default-features = false, features = ["json"] }
serde_json = "1"

[profile.dev]
debug = 0
TOML
            CARGO_TARGET_DIR=$work/crate/target cargo build --quiet --manifest-path "$work/crate/Cargo.toml"
            ;;
    esac
}

start_daemon
export POSTRIDER_URL=$url POSTRIDER_TOKEN=$key

# The producers, whose events `postrider listen` receives and checks.
"$bin" listen --create --type invoice.paid --full >"$work/arrived" 2>&1 &
running+=($!)
until_true grep -q 'receiving on' "$work/arrived"
POSTRIDER_TOKEN=$("$bin" key create snippets --scope events:write -o json | python3 -c 'import json, sys; print(json.load(sys.stdin)["key"])')
producers=0
for name in $(names publishing); do
    block publishing "$name"
    build "$name"
    id=$(sed -n 's/.*invoice-\([0-9]*\)-paid.*/\1/p' "$work/$name")
    run "$name" >"$work/said" 2>&1 || { cat "$work/said" >&2; exit 1; }
    run "$name" >"$work/said" 2>&1 || { cat "$work/said" >&2; exit 1; }
    until_true grep -Eq "\"id\": ?$id\b" "$work/arrived"
    # A producer without a key sees the refusal.
    if POSTRIDER_TOKEN=pr_wrong run "$name" >"$work/said" 2>&1; then
        echo "$name: a refused event looks published" >&2
        exit 1
    fi
    grep -q 401 "$work/said" || { cat "$work/said" >&2; exit 1; }
    echo "$name: published, once, and saw a refusal"
    producers=$((producers + 1))
done
"$bin" send --token "$key" invoice.paid '{"last": true}' >/dev/null
until_true grep -q '"last"' "$work/arrived"
[ "$(grep -c '  invoice.paid  ' "$work/arrived")" = $((producers + 1)) ] || { cat "$work/arrived" >&2; exit 1; }
[ "$producers" = 9 ]
export POSTRIDER_TOKEN=$key

# The receivers.
secret=whsec_$(head -c 24 /dev/urandom | base64)
receivers=0
for name in $(names receivers); do
    block receivers "$name"
    build "$name"
    PORT=$(free_port)
    type=$(echo "${name%.*}.paid" | tr A-Z a-z)-${name##*.}
    shown=$work/$name.out
    WEBHOOK_SECRET=$secret PORT=$PORT TMPDIR=$work run "$name" >"$shown" 2>&1 &
    running+=($!)
    until_true python3 -c "import socket; socket.create_connection(('127.0.0.1', $PORT))" || { cat "$shown" >&2; exit 1; }
    "$bin" webhook create "http://127.0.0.1:$PORT/" --type "$type" --secret "$secret" --retry-schedule none >/dev/null
    "$bin" send "$type" '{"id": 17, "text": "ü€😀"}' >/dev/null
    until_true grep -q 'took .*17' "$shown" || { cat "$shown" >&2; exit 1; }
    until_true sh -c "'$bin' delivery list --type $type --status delivered | grep -q $type"
    # The event comes again.
    delivery=$("$bin" delivery list --type "$type" | awk 'NR == 2 { print $1 }')
    "$bin" delivery retry "$delivery" >/dev/null
    until_true sh -c "'$bin' delivery list --type $type --status delivered | grep -c $type | grep -qx 2"
    [ "$(grep -c 'took ' "$shown")" = 1 ]
    # A webhook with another secret stands for a forger.
    "$bin" webhook create "http://127.0.0.1:$PORT/" --type "forged.$type" --retry-schedule none >/dev/null
    "$bin" send "forged.$type" '{"id": 18}' >/dev/null
    until_true sh -c "'$bin' delivery list --type forged.$type --status failed | grep -q 401" || { cat "$shown" >&2; exit 1; }
    grep -q 'refused: ' "$shown"
    [ "$(grep -c 'took ' "$shown")" = 1 ]
    echo "$name: took a signed event, once, and refused a forged one"
    receivers=$((receivers + 1))
done
[ "$receivers" = 6 ]
echo "$producers producers and $receivers receivers of the docs"
