# Common head of the suites that run the program: source it first. It sets `work`, a temporary directory that is removed
# at the end, and `bin`, the program: POSTRIDER_BIN, or the newest one that was built here, or one that it builds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."

work=$(mktemp -d)
# Processes that are stopped at the end.
running=()
stop_all() {
    for process in "${running[@]}"; do
        kill "$process" 2>/dev/null || true
        wait "$process" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap stop_all EXIT

bin=${POSTRIDER_BIN:-}
# The program would take the variable for a setting that does not exist.
unset POSTRIDER_BIN
if [ -z "$bin" ]; then
    bin=$(ls -t target/ci/postrider target/release/postrider target/debug/postrider 2>/dev/null | head -n 1 || true)
fi
if [ -z "$bin" ]; then
    cargo build --bin postrider
    bin=target/debug/postrider
fi
bin=$(realpath "$bin")

# Makes a virtual environment of Python with these packages in $work/python.
install_python() {
    python3 -m venv "$work/python"
    "$work/python/bin/pip" install --quiet --disable-pip-version-check "$@"
}

# A port that is free now.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Waits until a command succeeds, for a minute and a half at most.
until_true() {
    for _ in $(seq 1 900); do
        if "$@" >/dev/null 2>&1; then
            return 0
        fi
        sleep 0.1
    done
    echo "never came true: $*" >&2
    return 1
}

# Starts a command that serves, and waits until it listens. Sets `url` and `daemon`, its process, which is stopped at the
# end. Its output is $work/out, and its log is $work/log.
start() {
    # The shell in the background opens the file later: without this it may be missing, or that of the daemon before.
    : >"$work/out"
    "$@" >"$work/out" 2>"$work/log" &
    daemon=$!
    running+=("$daemon")
    url=
    # The shell in the background may not have made the file yet.
    touch "$work/out"
    for _ in $(seq 1 300); do
        url=$(sed -n 's/^postrider: listening on //p' "$work/out")
        [ -n "$url" ] && return 0
        kill -0 "$daemon" 2>/dev/null || { cat "$work/log" >&2; exit 1; }
        sleep 0.1
    done
    echo "the daemon never listened" >&2
    cat "$work/log" >&2
    exit 1
}

# Starts a daemon on $work/data that may deliver to this machine. Sets `url`, `key` and `daemon`, its process. Variables
# before the call are its settings: `POSTRIDER_LOG__LEVEL=warn start_daemon`. Its log is $work/log.
start_daemon() {
    export POSTRIDER_DELIVERY__ALLOW=${POSTRIDER_DELIVERY__ALLOW-127.0.0.0/8} POSTRIDER_MIN_FREE_BYTES=0
    start "$bin" serve --data-dir "$work/data" --listen 127.0.0.1:0 "$@"
    # shellcheck disable=SC2034 # The suites read it.
    key=$(cat "$work/data/first-key")
}
