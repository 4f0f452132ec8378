#!/usr/bin/env bash
# The simulation has teeth: every broken program of tests/mutants/ is found by it, and the unbroken one passes the same seeds.
#
# POSTRIDER_MUTANT_HOURS=500 lets a mutant live longer before it counts as not found.
set -euo pipefail
cd "$(dirname "$0")/../.."

exec bash tests/mutants/run.sh
