#!/usr/bin/env bash
# The pages in a real Chromium (browser.mjs). Flows lead from the login to the mended receiver, with and without
# scripts. axe-core checks every page in both colour schemes and at four widths.
#
# Takes the binary in POSTRIDER_BIN, or the newest one that was built here, or builds one. Takes Debian's Chromium, installs
# it as root if it is missing, and is skipped where there is none. Installs playwright-core, axe-core and html-validate into a
# temporary directory. A word as argument runs the flows whose names contain it. PICTURES_OF_README=docs
# tests/suites/browser.sh pictures makes the pictures of the pages in README.md anew.
# The store and the profile of the browser are in memory if possible. On a disk to which a build was just written, syncs
# would hold up every step of a flow for seconds.
if [ -z "${TMPDIR:-}" ] && [ -w /dev/shm ]; then
    export TMPDIR=/dev/shm
fi
source "$(dirname "$0")/support/suite.bash"

if ! command -v npm >/dev/null; then
    echo "skipped: there is no npm"
    exit 0
fi
# Both downloads at once.
npm install --silent --no-audit --no-fund --prefix "$work/node" playwright-core@1.64 axe-core@4 html-validate@10 &
libraries=$!
if [ -z "${CHROMIUM:-}" ] && ! command -v chromium >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing Chromium"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } \
        >"$work/apt" 2>&1 || cat "$work/apt" >&2
fi
echo "installing the libraries"
wait "$libraries"
chromium=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || true)}
if [ -z "$chromium" ]; then
    echo "skipped: there is no Chromium (apt-get install chromium)"
    exit 0
fi

echo "the markup of the snapshots"
echo '{ "root": true, "extends": ["html-validate:recommended"], "rules": { "no-inline-style": "error", "long-title": "off" } }' \
    >"$work/html.json"
"$work/node/node_modules/.bin/html-validate" --config "$work/html.json" tests/golden/ui/*.html

start_daemon
URL_OF_DAEMON=$url KEY=$key CHROMIUM=$chromium NODE_FOLDER=$work/node node tests/suites/browser.mjs "$@"
