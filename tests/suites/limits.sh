#!/usr/bin/env bash
# The real binary at its limits (limits.py): clients that use every file descriptor, 5,000 silent clients, a million
# waiting deliveries within 256 MB, and large bodies that no receiver reads. Then a full file system, and one whose syncs
# fail. Prints its measurements.
#
# tests/suites/limits.sh memory runs one of: descriptors idle memory bodies disk sync. A full file system needs the
# right to mount one, and is skipped without it. Takes the binary in POSTRIDER_BIN, or the ci build, which it makes if
# there is none.
set -euo pipefail
cd "$(dirname "$0")/../.."

bin=${POSTRIDER_BIN:-target/ci/postrider}
if [ ! -x "$bin" ]; then
    tests/suites/build
fi
PYTHONDONTWRITEBYTECODE=1 python3 tests/suites/limits.py "$bin" "$@"
