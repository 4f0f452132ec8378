#!/usr/bin/env bash
# Power loss at least 20,000 times: the real store on a disk in memory that loses, tears and reorders what was not synced,
# compared with an exact oracle after every cut (tests/oracle/power_loss.rs). Prints its first seed and its rate; fails at
# the first thing that is lost, naming the seed that shows it again.
#
# POSTRIDER_CRASHES=1000000 runs longer, POSTRIDER_FIRST_SEED=$RANDOM$RANDOM runs what nobody has run before.
set -euo pipefail
cd "$(dirname "$0")/../.."

export POSTRIDER_CRASHES=${POSTRIDER_CRASHES:-20000}
# Optimised (tests/suites/build), because a cut costs a walk over everything.
cargo test --profile ci --features mutants --test storage -- --nocapture power_loss::
