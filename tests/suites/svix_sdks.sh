#!/usr/bin/env bash
# The official SDKs of Svix walk the whole surface of the shape at a running daemon, unchanged but for the URL and the token:
# PyPI 1.99 and 2.9, npm 1.99 and 2.5, Rust 2.9. A receiver verifies every delivery with the library of the same SDK.
#
# Takes the binary in POSTRIDER_BIN, or the newest one that was built here, or builds one. Installs the SDKs into a
# temporary directory, which is removed afterwards. The one for Rust is compiled into target/svix_rust, which stays.
source "$(dirname "$0")/support/suite.bash"

echo "installing the SDKs"
for version in 1.99.1 2.9.1; do
    python3 -m venv "$work/python-$version"
    "$work/python-$version/bin/pip" install --quiet --disable-pip-version-check "svix==$version"
done
for version in 1.99.1 2.5.0; do
    npm install --prefix "$work/npm-$version" --silent --no-audit --no-fund "svix@$version"
done

echo "compiling the SDK for Rust"
rust_target=$PWD/target/svix_rust
CARGO_TARGET_DIR=$rust_target CARGO_PROFILE_DEV_DEBUG=0 \
    cargo build --quiet --locked --manifest-path tests/suites/svix_rust/Cargo.toml

echo "a secret of a Svix server" >"$work/svix-secret"
export POSTRIDER_DIALECTS__SVIX_JWT_SECRET_FILE=$work/svix-secret
start_daemon
token=$("$bin" key create svix --svix --url "$url" --token "$key" -o json | sed -n 's/.*"key":"\([^"]*\)".*/\1/p')
failed=0
for version in 1.99.1 2.9.1; do
    echo "== PyPI svix $version"
    "$work/python-$version/bin/python" tests/suites/svix_sdks.py "$url" "$token" || failed=1
done
# A token as a Svix server signs it.
foreign=$(python3 - "$work/svix-secret" <<'PYTHON'
import base64, hashlib, hmac, json, pathlib, sys, time
part = lambda value: base64.urlsafe_b64encode(value).rstrip(b"=")
claims = {"iss": "svix-server", "sub": "org_23rb8YdGqMT0qIzpgGwdXfHirMu", "nbf": int(time.time()), "exp": int(time.time()) + 86400}
signed = b".".join(part(json.dumps(value).encode()) for value in [{"alg": "HS256", "typ": "JWT"}, claims])
secret = pathlib.Path(sys.argv[1]).read_text().strip().encode()
print((signed + b"." + part(hmac.digest(secret, signed, hashlib.sha256))).decode())
PYTHON
)
echo "== PyPI svix 2.9.1 with a token of a Svix server"
SVIX_LISTED_MESSAGES=400 "$work/python-2.9.1/bin/python" tests/suites/svix_sdks.py "$url" "$foreign" || failed=1
for version in 1.99.1 2.5.0; do
    echo "== npm svix $version"
    # A module finds the SDK beside itself only.
    cp tests/suites/svix_sdks.mjs "$work/npm-$version/"
    node "$work/npm-$version/svix_sdks.mjs" "$url" "$token" || failed=1
done
echo "== Rust svix 2.9.1"
"$rust_target/debug/svix_rust" "$url" "$token" || failed=1
exit "$failed"
