#!/usr/bin/env bash
# kill -9 of the real binary on a real file under load, 50 times, and then SIGTERM (kill.py). Prints the accepted
# events, the repeated ones, and the time until it was ready again. Fails if an accepted event is unreadable or
# undelivered, or if more came again than were in flight.
#
# KILLS=1000 kills more often, SEED=7 repeats the times of another run. Takes the binary in POSTRIDER_BIN, or the ci
# build, which it makes if there is none.
set -euo pipefail
cd "$(dirname "$0")/../.."

bin=${POSTRIDER_BIN:-target/ci/postrider}
if [ ! -x "$bin" ]; then
    tests/suites/build
fi
python3 tests/suites/kill.py "$bin" "${KILLS:-50}" "${SEED:-$((RANDOM * 32768 + RANDOM))}"
