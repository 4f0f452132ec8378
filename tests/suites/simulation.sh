#!/usr/bin/env bash
# The whole daemon in a simulated world for 1,000 simulated hours (tests/sim/): power cuts, kills, failing syncs, full
# disks, lost messages, receivers that hang, break off and lie. Prints hours, events, crashes and the rate; fails at the first
# thing that must not happen, naming the seed that shows it again.
#
# POSTRIDER_SIM_HOURS=100000 runs longer, POSTRIDER_SIM_FIRST=$RANDOM$RANDOM begins with another seed, POSTRIDER_SIM_SEED=7
# runs one seed, POSTRIDER_SIM_TRACE=1 and POSTRIDER_SIM_LOG=postrider=debug show what happens in it.
set -euo pipefail
cd "$(dirname "$0")/../.."

export POSTRIDER_SIM_HOURS=${POSTRIDER_SIM_HOURS:-1000}
# Optimised (tests/suites/build).
cargo test --profile ci --features mutants --test simulation -- --nocapture nothing_accepted
