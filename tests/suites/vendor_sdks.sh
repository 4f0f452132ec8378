#!/usr/bin/env bash
# The vendors' own SDKs walk every webhook method that they have at a running daemon: Devdraft's two from PyPI, sent.dm's
# from PyPI and npm, Instantly's from PyPI, Dfns's from npm with its key signer, and from PyPI. A receiver checks sent.dm's
# deliveries by the vendor's rule.
#
# Takes the binary in POSTRIDER_BIN, or the newest one that was built here, or builds one. Installs the SDKs into a
# temporary directory, which is removed afterwards.
source "$(dirname "$0")/support/suite.bash"

echo "installing the SDKs"
install_python 'devdraft==1.0.0' 'devdraft-sdk==1.0.9' 'sentdm==0.46.0' 'instantlyai==0.7.0'
npm install --prefix "$work" --silent --no-audit --no-fund '@sentdm/sentdm@0.32.0' '@dfns/sdk@0.8.21'
# The newest key signer of Dfns names an older SDK as its peer.
npm install --prefix "$work" --silent --no-audit --no-fund --legacy-peer-deps '@dfns/sdk-keysigner@0.8.3'
install_python 'dfns-sdk==1.0.4'

POSTRIDER_DIALECTS__DFNS_CREDENTIALS=cr-postrider start_daemon
id=$("$bin" key list --url "$url" --token "$key" -o json | head -n 1 | sed 's/.*"id":"\([^"]*\)".*/\1/')
failed=0
"$work/python/bin/python" tests/suites/vendor_sdks.py "$url" "$key" "$id" || failed=1
NODE_PATH="$work/node_modules" node tests/suites/vendor_sdks.cjs "$url" "$key" || failed=1
NODE_PATH="$work/node_modules" node tests/suites/vendor_writes_dfns.cjs "$url" "$key" || failed=1
"$work/python/bin/python" tests/suites/vendor_writes_dfns.py "$url" "$key" || failed=1
exit "$failed"
