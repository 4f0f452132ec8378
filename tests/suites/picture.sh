#!/usr/bin/env bash
# The picture of the README, docs/demo.svg, shows the output of `postrider demo`. The recorder runs the demo in a
# terminal, and the recorded lines are compared with those of the picture, figures aside. After a change of the demo:
#
#   python3 tests/suites/picture.py target/release/postrider docs/demo.svg
#
# Takes the binary in POSTRIDER_BIN, or the newest one that was built here, or builds one.
source "$(dirname "$0")/support/suite.bash"

python3 tests/suites/picture.py "$bin" "$work/demo.svg"
python3 tests/suites/picture.py --check docs/demo.svg "$work/demo.svg"
# A picture of another demo is found.
sed 's/signature/signed/' docs/demo.svg >"$work/other.svg"
if python3 tests/suites/picture.py --check "$work/other.svg" "$work/demo.svg" 2>/dev/null; then
    echo "an old picture was taken for a new one" >&2
    exit 1
fi
