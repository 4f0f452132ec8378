#!/usr/bin/env bash
# Receivers written with the official Standard Webhooks libraries of PyPI and npm accept every signature that Postrider
# makes, and jwcrypto and jose open its encrypted bodies.
#
# Takes the binary in POSTRIDER_BIN, or the newest one that was built here, or builds one. Installs the libraries into a
# temporary directory, which is removed afterwards.
source "$(dirname "$0")/support/suite.bash"

echo "installing the libraries"
install_python 'standardwebhooks==1.1.0' 'jwcrypto==1.6.1'
npm install --silent --no-audit --no-fund --prefix "$work/node" standardwebhooks@1.1.1 jose@6.2.17
cp tests/suites/standard_webhooks.mjs "$work/node/"

start_daemon

failed=0
"$work/python/bin/python" tests/suites/standard_webhooks.py "$url" "$key" || failed=1
node "$work/node/standard_webhooks.mjs" "$url" "$key" || failed=1
[ "$failed" = 0 ] || tail -n 20 "$work/log" >&2
exit "$failed"
