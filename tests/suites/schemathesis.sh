#!/usr/bin/env bash
# Schemathesis makes every right and wrong request that it derives from the daemon's OpenAPI document. No answer may be
# a 500, have a status, header or body that the document does not name, or accept a request that the document forbids.
#
# Takes the binary in POSTRIDER_BIN, or the newest one that was built here, or builds one. Installs Schemathesis into a
# temporary directory, which is removed afterwards. Takes about three minutes.
source "$(dirname "$0")/support/suite.bash"

version=4.32.5
main_s=100
links_s=20
rest_s=15

echo "installing schemathesis $version"
install_python "schemathesis==$version"

POSTRIDER_DELIVERY__ALLOW= POSTRIDER_LOG__LEVEL=warn POSTRIDER_CONFIG=/dev/null start_daemon

id=$(curl --silent --fail -H "Authorization: Bearer $key" "$url/v1/keys" |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["data"][0]["id"])')

# Omitted are checks that would report rules beyond a schema as mistakes. Such rules are that a right value fits the
# others, and that an id of one answer is of the same kind in another.
left_out=positive_data_acceptance,ensure_resource_availability,use_after_free

# One worker, because Python 3.11 loses count of its own parser's depth with two. The longest poll is 30 s.
ask() {
    (cd "$work" && "$work/python/bin/schemathesis" run "$url/openapi.json" -H "Authorization: Bearer $key" \
        -H "x-api-key: $key" -H "x-client-key: $id" -H "x-client-secret: $key" \
        --workers 1 --seed 20261122 --request-timeout 40 --no-color --max-failures 20 "$@")
}

failed=0
# Its own key is among the keys that it would revoke, so that test comes last.
ask --max-time "$main_s" --phases examples,coverage,fuzzing --exclude-checks "$left_out" \
    --exclude-path-regex '/keys/\{id\}$' || failed=1
# A link replaces a wrong value by a right one, and the request still counts as wrong.
ask --max-time "$links_s" --phases stateful --exclude-checks "$left_out,negative_data_rejection" \
    --exclude-path-regex '/keys/\{id\}$' || failed=1
ask --max-time "$rest_s" --phases examples,coverage,fuzzing --exclude-checks "$left_out" \
    --include-path-regex '/keys/\{id\}$' || failed=1

# The daemon still runs, and has logged no error of its own.
code=$(curl --silent --output "$work/health" --write-out '%{http_code}' "$url/healthz")
if [ "$code" != 200 ]; then
    echo "the daemon answers $code" >&2
    failed=1
fi
if grep -E 'ERROR|panicked' "$work/log" >&2; then
    failed=1
fi
exit "$failed"
