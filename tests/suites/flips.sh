#!/usr/bin/env bash
# Flipped bits, 3,000 of them one by one: in files of the store that are opened again, in files of one that was cut off, and
# in files that are open at that moment (tests/oracle/flips.rs). What is read afterwards is what was written, or an error;
# never anything else, and never a panic.
#
# POSTRIDER_FLIPS=100000 runs longer, POSTRIDER_SEED=$RANDOM flips bits of a store that nobody has seen before.
set -euo pipefail
cd "$(dirname "$0")/../.."

export POSTRIDER_FLIPS=${POSTRIDER_FLIPS:-3000}
# Optimised (tests/suites/build), because after each flip everything is read.
cargo test --profile ci --features mutants --test storage -- --nocapture flips::
