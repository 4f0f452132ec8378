#!/usr/bin/env bash
# The OpenAPI document is valid 3.1 by openapi-spec-validator, its examples and the golden answers of the dialects agree
# with its schemas, and the daemon serves the same document as the program prints.
#
# Takes the binary in POSTRIDER_BIN, or the newest one that was built here, or builds one. Installs its tools into a
# temporary directory, which is removed afterwards.
source "$(dirname "$0")/support/suite.bash"

echo "installing the validator"
install_python 'openapi-spec-validator==0.9.0' 'jsonschema[format-nongpl]==4.26.0'

"$bin" openapi >"$work/printed.json"
start_daemon

"$work/python/bin/python" tests/suites/openapi.py "$work/printed.json" "$url/openapi.json"
