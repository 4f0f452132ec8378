#!/usr/bin/env bash
# The simulation, the oracle of the store, or the walk over the protocol of a cluster finds every mutant of
# src/mutants.rs. It does so by its own verdict, on seeds that the unbroken program passes. The build of all suites
# (tests/suites/build) contains the mutants, and the variable POSTRIDER_MUTANT selects one.
#
# tests/suites/mutants.sh lost_wake_up runs one. POSTRIDER_MUTANT_HOURS is the simulated time in which a mutant must be found.
# POSTRIDER_UNBROKEN=passed says that the suite `simulation` has run these seeds with the unbroken program before.
set -euo pipefail
cd "$(dirname "$0")/../.."

export POSTRIDER_SIM_HOURS=${POSTRIDER_MUTANT_HOURS:-120}
unset POSTRIDER_MUTANT
build=(cargo test --profile ci --features mutants,postgres)
log=$(mktemp)
trap 'rm -f "$log"' EXIT

mutants=("$@")
if [ ${#mutants[@]} -eq 0 ]; then
    mapfile -t mutants < <(sed -n 's/^    ("\([a-z_]*\)", ".*/\1/p' src/mutants.rs)
fi

mapfile -t by_oracle < <(sed -n '/^pub const FOUND_BY_ORACLE/,/^];/s/^    "\([a-z_]*\)",$/\1/p' src/mutants.rs)
mapfile -t by_walk < <(sed -n '/^pub const FOUND_BY_WALK/,/\];/p' src/mutants.rs | grep -o '"[a-z_]*"' | tr -d '"')
is_found_by_oracle() {
    [[ " ${by_oracle[*]} " == *" $1 "* ]]
}
is_found_by_walk() {
    [[ " ${by_walk[*]} " == *" $1 "* ]]
}

# The mutants that the simulated cluster must find, beside the walk and the oracle.
by_nodes=(answer_before_append take_without_fence trim_unapplied)
is_found_by_nodes() {
    [[ " ${by_nodes[*]} " == *" $1 "* ]]
}

verdict=0
complain() {
    printf '%s: %s\n' "$1" "$2"
    verdict=1
}

simulate() {
    "${build[@]}" --test simulation -- --nocapture nothing_accepted > "$log" 2>&1
}

# Two and three nodes. A mutant must be found in 40 simulated hours.
simulate_nodes() {
    POSTRIDER_SIM_CLUSTER_HOURS=40 "${build[@]}" --test simulation -- --nocapture a_cluster_loses > "$log" 2>&1
}

# Each seed of the walk takes milliseconds.
walk() {
    "${build[@]}" --test storage -- --nocapture tenure_walk::nothing_acknowledged > "$log" 2>&1
}

# 50 lives of a store. The default of the test has fewer than the rarest mutant needs.
ask_oracle() {
    POSTRIDER_CRASHES=1000 "${build[@]}" --test storage -- --nocapture oracle::power_loss oracle::follow oracle::cluster > "$log" 2>&1
}

"${build[@]}" --test simulation --test storage --no-run
if ! walk || ! ask_oracle || ! simulate_nodes; then
    tail -n 40 "$log"
    echo "the unbroken store fails: no mutant would show anything"
    exit 1
fi
if [ "${POSTRIDER_UNBROKEN:-}" = passed ]; then
    echo "the unbroken program has passed before"
elif simulate; then
    printf 'the unbroken program passes: %s\n' "$(grep '^simulated' "$log")"
else
    tail -n 40 "$log"
    echo "the unbroken program fails: no mutant would show anything"
    exit 1
fi

for mutant in "${mutants[@]}"; do
    began=$SECONDS
    finder=
    is_found_by_walk "$mutant" && finder=walk
    is_found_by_oracle "$mutant" && finder=ask_oracle
    if is_found_by_nodes "$mutant"; then
        if POSTRIDER_MUTANT=$mutant simulate_nodes; then
            complain "$mutant" "SURVIVED: the simulated cluster did not notice"
        else
            printf '%s: found by the simulated cluster\n' "$mutant"
        fi
    fi
    if [ -n "$finder" ]; then
        if POSTRIDER_MUTANT=$mutant "$finder"; then
            complain "$mutant" "SURVIVED: $finder did not notice"
        elif ! grep -q 'POSTRIDER_SEED=' "$log"; then
            tail -n 40 "$log"
            complain "$mutant" "$finder ended without a verdict"
        else
            printf '%s: found after %s s: %s\n' "$mutant" "$((SECONDS - began))" \
                "$(grep -m 1 'POSTRIDER_SEED=' "$log" | cut -c 1-160)"
        fi
    elif POSTRIDER_MUTANT=$mutant simulate; then
        grep '^simulated' "$log" || true
        complain "$mutant" "SURVIVED: the simulation did not notice"
    elif ! grep -q 'runs failed; the first is' "$log"; then
        tail -n 40 "$log"
        complain "$mutant" "the simulation ended without a verdict"
    else
        printf '%s: found after %s s: %s\n' "$mutant" "$((SECONDS - began))" \
            "$(grep -A 1 'runs failed; the first is' "$log" | tail -n 1 | cut -c 1-160)"
    fi
done
exit "$verdict"
