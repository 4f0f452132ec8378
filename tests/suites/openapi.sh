#!/usr/bin/env bash
# The OpenAPI document is valid 3.1 by openapi-spec-validator, its examples and the golden answers of the dialects agree
# with its schemas, and the daemon serves the same document as the program prints. The reference page is valid HTML by
# html-validate, and the daemon serves the page that the program prints.
#
# Takes the binary in POSTRIDER_BIN, or the newest one that was built here, or builds one. Installs its tools into a
# temporary directory, which is removed afterwards.
source "$(dirname "$0")/support/suite.bash"

echo "installing the validator"
install_python 'openapi-spec-validator==0.9.0' 'jsonschema[format-nongpl]==4.26.0'

npm install --silent --no-audit --no-fund --prefix "$work/node" html-validate@10.17.0

"$bin" openapi >"$work/printed.json"
"$bin" openapi --html >"$work/printed.html"
start_daemon

python3 -c 'import sys, urllib.request as r; sys.stdout.buffer.write(r.urlopen(sys.argv[1]).read())' "$url/docs" \
    >"$work/served.html"
cmp "$work/printed.html" "$work/served.html"
"$work/node/node_modules/.bin/html-validate" "$work/served.html"
# The validator finds a list that is not closed.
sed '0,/<\/dl>/s///' "$work/served.html" >"$work/broken.html"
if "$work/node/node_modules/.bin/html-validate" "$work/broken.html" >/dev/null; then
    echo "the validator took a broken page" >&2
    exit 1
fi
echo "reference page: $(wc -c <"$work/served.html") bytes, valid HTML"

"$work/python/bin/python" tests/suites/openapi.py "$work/printed.json" "$url/openapi.json"
