#!/usr/bin/env bash
# The official SDKs of Svix walk the whole surface of the shape at a running daemon, unchanged but for the URL and the token:
# PyPI 1.99 and 2.9, npm 1.99 and 2.5. A receiver verifies every delivery with the library of the same SDK.
#
# Takes the binary in POSTRIDER_BIN, or the newest one that was built here, or builds one. Installs the SDKs into a
# temporary directory, which is removed afterwards.
source "$(dirname "$0")/support/suite.bash"

echo "installing the SDKs"
for version in 1.99.1 2.9.1; do
    python3 -m venv "$work/python-$version"
    "$work/python-$version/bin/pip" install --quiet --disable-pip-version-check "svix==$version"
done
for version in 1.99.1 2.5.0; do
    npm install --prefix "$work/npm-$version" --silent --no-audit --no-fund "svix@$version"
done

start_daemon
token=$("$bin" key create svix --svix --url "$url" --token "$key" -o json | sed -n 's/.*"key":"\([^"]*\)".*/\1/p')
failed=0
for version in 1.99.1 2.9.1; do
    echo "== PyPI svix $version"
    "$work/python-$version/bin/python" tests/suites/svix_sdks.py "$url" "$token" || failed=1
done
for version in 1.99.1 2.5.0; do
    echo "== npm svix $version"
    # A module finds the SDK beside itself only.
    cp tests/suites/svix_sdks.mjs "$work/npm-$version/"
    node "$work/npm-$version/svix_sdks.mjs" "$url" "$token" || failed=1
done
exit "$failed"
