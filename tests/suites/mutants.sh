#!/usr/bin/env bash
# The simulation finds every mutant of src/mutants.rs by its own verdict, on seeds that the unbroken program passes. The
# build of all suites (tests/suites/build) contains them; the variable POSTRIDER_MUTANT selects one.
#
# tests/suites/mutants.sh lost_wake_up runs one. POSTRIDER_MUTANT_HOURS is the simulated time in which a mutant must be found.
# POSTRIDER_UNBROKEN=passed says that the suite `simulation` has run these seeds with the unbroken program before.
set -euo pipefail
cd "$(dirname "$0")/../.."

export POSTRIDER_SIM_HOURS=${POSTRIDER_MUTANT_HOURS:-120}
unset POSTRIDER_MUTANT
build=(cargo test --profile ci --features mutants --test simulation)
log=$(mktemp)
trap 'rm -f "$log"' EXIT

mutants=("$@")
if [ ${#mutants[@]} -eq 0 ]; then
    mapfile -t mutants < <(sed -n 's/^    ("\([a-z_]*\)", ".*/\1/p' src/mutants.rs)
fi

verdict=0
complain() {
    printf '%s: %s\n' "$1" "$2"
    verdict=1
}

simulate() {
    "${build[@]}" -- --nocapture nothing_accepted > "$log" 2>&1
}

"${build[@]}" --no-run
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
    if POSTRIDER_MUTANT=$mutant simulate; then
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
