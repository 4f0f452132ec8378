#!/usr/bin/env bash
# Flips 3,000 bits one by one (tests/oracle/flips.rs). They are in files of a store that is opened again, in files of
# one that was cut off, and in files that are open at that moment. Every later read has the written data or an error,
# and never panics.
#
# POSTRIDER_FLIPS=100000 runs longer, POSTRIDER_SEED=$RANDOM flips bits of another store.
set -euo pipefail
cd "$(dirname "$0")/../.."

export POSTRIDER_FLIPS=${POSTRIDER_FLIPS:-3000}
# Optimised (tests/suites/build), because all rows are read after each flip.
cargo test --profile ci --features mutants,postgres --test storage -- --nocapture flips::
