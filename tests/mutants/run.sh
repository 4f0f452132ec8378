#!/usr/bin/env bash
# Shows that the simulation has teeth: each patch of tests/mutants/ breaks one promise in a copy of the tree, and the
# simulation must fail there within its bounded run. A patch that no longer applies, or does not compile, is an error of its
# own: it has to be brought up to date, because it shows nothing.
#
# tests/mutants/run.sh tests/mutants/lost_wake_up.patch runs one; POSTRIDER_MUTANT_HOURS is how long a mutant may survive.
set -euo pipefail
cd "$(dirname "$0")/../.."

patches=("$@")
if [ ${#patches[@]} -eq 0 ]; then
    patches=(tests/mutants/*.patch)
fi
export POSTRIDER_SIM_HOURS=${POSTRIDER_MUTANT_HOURS:-120}
# Not optimised, because most of the time goes into compiling; and little by little, because a mutant differs from the next
# in a few lines.
export CARGO_INCREMENTAL=1
build=(cargo test --test sim)

# Always at the same path, so that nothing but the mutant is compiled again; and never into the target directory of the tree,
# where a mutant would be taken for the program itself.
from=${CARGO_TARGET_DIR:-$PWD/target}
work=$from/mutants
export CARGO_TARGET_DIR=$work/target
rm -rf "$work/tree" "$work/mutant"
if [ ! -d "$CARGO_TARGET_DIR" ] && [ -d "$from/debug/deps" ]; then
    # What `cargo test` has compiled of the dependencies need not be compiled again.
    mkdir -p "$CARGO_TARGET_DIR"
    tar --create --directory "$from" --exclude='*postrider*' --exclude='debug/incremental' --exclude='debug/examples' \
        debug/.fingerprint debug/build debug/deps | tar --extract --directory "$CARGO_TARGET_DIR"
fi
mkdir -p "$work/tree"
git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- --create | tar --extract --directory "$work/tree"

verdict=0
complain() {
    printf '%s: %s\n' "$1" "$2"
    verdict=1
}

judge() {
    local patch=$1 name began
    name=$(basename "$patch" .patch)
    rm -rf "$work/mutant"
    cp -rp "$work/tree" "$work/mutant"
    if ! patch --directory "$work/mutant" --strip 1 --fuzz 3 --quiet --no-backup-if-mismatch < "$patch" > "$work/patch.log" 2>&1; then
        cat "$work/patch.log"
        complain "$name" "the patch no longer applies: bring it up to date with the source"
        return
    fi
    if ! (cd "$work/mutant" && "${build[@]}" --no-run) > "$work/build.log" 2>&1; then
        tail -n 40 "$work/build.log"
        complain "$name" "the mutant does not compile: bring the patch up to date with the source"
        return
    fi
    began=$SECONDS
    if (cd "$work/mutant" && "${build[@]}" -- --nocapture nothing_accepted) > "$work/run.log" 2>&1; then
        grep '^simulated' "$work/run.log" || true
        complain "$name" "SURVIVED: the simulation did not notice (head: $(head -n 1 "$patch"))"
        return
    fi
    if ! grep -q 'runs failed; the first is' "$work/run.log"; then
        tail -n 40 "$work/run.log"
        complain "$name" "the simulation ended without a verdict"
        return
    fi
    printf '%s: found after %s s: %s\n' "$name" "$((SECONDS - began))" \
        "$(grep -A 1 'runs failed; the first is' "$work/run.log" | tail -n 1 | cut -c 1-160)"
}

for patch in "${patches[@]}"; do
    judge "$(realpath "$patch")"
done
exit "$verdict"
