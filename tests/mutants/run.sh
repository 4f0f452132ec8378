#!/usr/bin/env bash
# Shows that the simulation has teeth: each patch of tests/mutants/ breaks one promise in a copy of the tree, and the
# simulation must fail there, by its own verdict, on seeds that the unbroken tree passes. A patch that no longer applies, or
# does not compile, is an error of its own: it has to be brought up to date, because it shows nothing.
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

# A copy of the tree to build in. What was built last may have been another mutant, whose files are newer than these.
fresh_copy() {
    rm -rf "$work/mutant"
    cp -rp "$work/tree" "$work/mutant"
    touch "$work/mutant/src/lib.rs"
}

compile() {
    (cd "$work/mutant" && "${build[@]}" --no-run) > "$work/build.log" 2>&1
}

simulate() {
    (cd "$work/mutant" && "${build[@]}" -- --nocapture nothing_accepted) > "$work/run.log" 2>&1
}

# The unbroken tree: what is found in a mutant is the mutant's.
stand() {
    local began=$SECONDS
    fresh_copy
    if ! compile; then
        tail -n 40 "$work/build.log"
        complain "the tree itself" "does not compile"
        return 1
    fi
    if ! simulate; then
        tail -n 40 "$work/run.log"
        complain "the tree itself" "fails: no mutant would show anything"
        return 1
    fi
    printf 'the tree itself: passes (%s s): %s\n' "$((SECONDS - began))" "$(grep '^simulated' "$work/run.log")"
}

judge() {
    local patch=$1 name began built
    name=$(basename "$patch" .patch)
    fresh_copy
    if ! patch --directory "$work/mutant" --strip 1 --fuzz 0 --quiet --no-backup-if-mismatch < "$patch" > "$work/patch.log" 2>&1; then
        cat "$work/patch.log"
        complain "$name" "the patch no longer applies: bring it up to date with the source"
        return
    fi
    began=$SECONDS
    if ! compile; then
        tail -n 40 "$work/build.log"
        complain "$name" "the mutant does not compile: bring the patch up to date with the source"
        return
    fi
    built=$((SECONDS - began))
    began=$SECONDS
    if simulate; then
        grep '^simulated' "$work/run.log" || true
        complain "$name" "SURVIVED: the simulation did not notice (head: $(head -n 1 "$patch"))"
        return
    fi
    if ! grep -q 'runs failed; the first is' "$work/run.log"; then
        tail -n 40 "$work/run.log"
        complain "$name" "the simulation ended without a verdict"
        return
    fi
    printf '%s: compiled in %s s, found after %s s: %s\n' "$name" "$built" "$((SECONDS - began))" \
        "$(grep -A 1 'runs failed; the first is' "$work/run.log" | tail -n 1 | cut -c 1-160)"
}

stand
for patch in "${patches[@]}"; do
    judge "$(realpath "$patch")"
done
exit "$verdict"
