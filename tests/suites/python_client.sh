#!/usr/bin/env bash
# A Python client that openapi-python-client makes out of the served description publishes, lists and reads, against a
# running daemon and a receiver.
#
# Takes the binary in POSTRIDER_BIN, or the newest one that was built here, or builds one. Installs the generator into a
# temporary directory, which is removed afterwards.
source "$(dirname "$0")/support/suite.bash"

echo "installing the generator"
install_python 'openapi-python-client==0.29.1'

start_daemon

# Generated code tells the bodies of one operation apart by class, so what has none (a batch of CloudEvents) and the
# second name for one body (a patch) are left out. Anything else that the generator cannot use is a mistake in the
# description.
cat >"$work/generator.yaml" <<'YAML'
content_type_overrides:
  application/cloudevents-batch+json: application/x-left-out
  application/merge-patch+json: application/x-left-out
YAML
PATH="$work/python/bin:$PATH" openapi-python-client generate --url "$url/openapi.json" --config "$work/generator.yaml" \
    --output-path "$work/client" >"$work/generated" 2>&1 || { cat "$work/generated" >&2; exit 1; }
warnings=$(grep -c '^WARNING' "$work/generated" || true)
left_out=$(grep -c 'Unsupported content type application/x-left-out' "$work/generated" || true)
if [ "$warnings" != 4 ] || [ "$left_out" != 4 ]; then
    cat "$work/generated" >&2
    exit 1
fi

PYTHONPATH="$work/client" "$work/python/bin/python" tests/suites/python_client.py "$url" "$(cat "$work/data/first-key")"
