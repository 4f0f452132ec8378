#!/usr/bin/env bash
# The whole daemon in a simulated world for 1,000 simulated hours (tests/sim/). The faults are power cuts, kills,
# failing syncs, full disks, lost messages, and receivers that hang, close or send invalid answers. Prints hours,
# events, crashes and the rate. Fails at the first fault, and names the seed that shows it again.
#
# POSTRIDER_SIM_HOURS=100000 runs longer, POSTRIDER_SIM_FIRST=$RANDOM$RANDOM begins with another seed,
# POSTRIDER_SIM_SEED=7 runs one seed, POSTRIDER_SIM_TRACE=1 and POSTRIDER_SIM_LOG=postrider=debug print its trace and
# the log.
#
# Then two and three daemons as a cluster for POSTRIDER_SIM_CLUSTER_HOURS simulated hours (tests/sim/nodes/).
# POSTRIDER_SIM_NODES=3 with POSTRIDER_SIM_SEED runs one seed of them.
set -euo pipefail
cd "$(dirname "$0")/../.."

export POSTRIDER_SIM_HOURS=${POSTRIDER_SIM_HOURS:-1000}
# Optimised (tests/suites/build).
cargo test --profile ci --features mutants,postgres --test simulation -- --nocapture nothing_accepted
if [ -z "${POSTRIDER_SIM_SEED:-}" ]; then
    export POSTRIDER_SIM_CLUSTER_HOURS=${POSTRIDER_SIM_CLUSTER_HOURS:-100}
    cargo test --profile ci --features mutants,postgres --test simulation -- --nocapture a_cluster_loses
fi
