#!/usr/bin/env bash
# Every dependency has a permitted licence, comes from crates.io, and is not excluded by deny.toml.
#
# Installs cargo-deny into a temporary directory, which is removed afterwards, unless the same version is installed
# already. It is built without optimisation and debug information, which takes some minutes of one processor. Its own
# work takes seconds.
# Advisories are checked only if a database of them exists ($CARGO_HOME/advisory-dbs). None is downloaded here.
set -euo pipefail
cd "$(dirname "$0")/../.."

version=0.18.9
if [ "$(cargo-deny --version 2>/dev/null)" = "cargo-deny $version" ]; then
    deny=cargo-deny
else
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    echo "building cargo-deny $version"
    CARGO_PROFILE_DEV_DEBUG=0 cargo install --quiet --locked --debug --root "$work" --target-dir "$work/target" cargo-deny --version "$version"
    deny="$work/bin/cargo-deny"
fi

checks=(licenses sources bans)
flags=()
if [ -n "$(ls -A "${CARGO_HOME:-$HOME/.cargo}/advisory-dbs" 2>/dev/null)" ]; then
    checks+=(advisories)
    flags+=(--disable-fetch)
else
    echo "no database of advisories here: they are not judged"
fi
"$deny" --log-level error check --hide-inclusion-graph "${flags[@]}" "${checks[@]}"

# The fuzz targets are a workspace of their own.
if [ -f fuzz/Cargo.lock ]; then
    "$deny" --log-level error --manifest-path fuzz/Cargo.toml check --config "$PWD/deny.toml" --hide-inclusion-graph licenses sources
fi
