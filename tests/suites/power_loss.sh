#!/usr/bin/env bash
# Power loss at least 20,000 times: the real store on a disk in memory that loses, tears and reorders unsynced writes.
# It is compared with an exact oracle after every cut (tests/oracle/power_loss.rs). Prints its first seed and its rate.
# Fails at the first loss, and names the seed that shows it again.
#
# POSTRIDER_CRASHES=1000000 runs longer, POSTRIDER_FIRST_SEED=$RANDOM$RANDOM runs other seeds.
set -euo pipefail
cd "$(dirname "$0")/../.."

export POSTRIDER_CRASHES=${POSTRIDER_CRASHES:-20000}
# Optimised (tests/suites/build), because each cut costs a walk over all tables.
cargo test --profile ci --features mutants,postgres --test storage -- --nocapture power_loss::
