#!/usr/bin/env bash
# A follower whose destination is full. It removes the incomplete generation, says how much room it needs, and waits
# without copying again. It follows as soon as there is room. Publishing goes on meanwhile. Needs root, for a small file
# system of its own in a mount namespace.
#
# Takes the binary in POSTRIDER_BIN, or the newest one that was built here, or builds one.
if [ "${1:-}" != inside ]; then
    exec unshare --mount -- bash "$0" inside
fi
source "$(dirname "$0")/support/suite.bash"

mkdir "$work/small"
mount -t tmpfs -o size=8m none "$work/small"
trap 'umount --lazy "$work/small"; stop_all' EXIT

start_daemon
export POSTRIDER_URL=$url POSTRIDER_TOKEN=$key
"$bin" send --type load.test --data "{\"text\": \"$(head -c 3000 /dev/zero | tr '\0' x)\"}" --count 4000 >/dev/null 2>&1
"$bin" backup --follow "$work/small/live" --data-dir "$work/data" >"$work/follower" 2>&1 &
follower=$!
running+=("$follower")
until_true grep -q 'the destination is full' "$work/follower"
kill -0 "$follower"
[ "$(ls "$work/small/live" | grep -c '^0')" = 0 ] || { ls "$work/small/live" >&2; exit 1; }
"$bin" send --type load.test --data '{"n": 1}' >/dev/null 2>&1
# Longer than a look at the free space: nothing is copied again.
sleep 11
[ "$(grep -c 'is begun' "$work/follower")" = 1 ] || { cat "$work/follower" >&2; exit 1; }
mount -o remount,size=200m "$work/small"
until_true grep -q 'is whole' "$work/follower"
"$bin" send --type load.test --data '{"n": 2}' >/dev/null 2>&1
kill -TERM "$follower"
wait "$follower"
"$bin" verify "$work/small/live" --data-dir "$work/data" >"$work/verified"
cat "$work/follower"
echo "a full destination is waited for, and followed once it has room"
