#!/usr/bin/env bash
# The .deb is built, inspected, unpacked, and its content started as systemd would. It is installed, removed and purged
# below a directory of its own. systemd-analyze checks the units. A release is built, skopeo reads its image, and the
# image's program runs as its user. The static binary runs in an empty root.
#
# Takes the binary in POSTRIDER_BIN, or the newest one that was built here, or builds one.
source "$(dirname "$0")/support/suite.bash"

exposure_max=1.5
fail() { echo "FAILED: $*" >&2; exit 1; }

echo "--- the .deb"
deb=$(packaging/build-deb --binary "$bin" "$work")
dpkg-deb --info "$deb" >/dev/null
dpkg-deb --extract "$deb" "$work/root"
dpkg-deb --control "$deb" "$work/control"
(cd "$work/root" && md5sum --quiet -c "$work/control/md5sums")
for script in postinst prerm postrm; do
    sh -n "$work/control/$script"
done
# The package contains exactly the files that cargo-deb would put in.
cargo metadata --no-deps --format-version 1 | python3 -c '
import json, os, sys
deb = json.load(sys.stdin)["packages"][0]["metadata"]["deb"]
root, control = sys.argv[1:]
places = {(place.rstrip("/") + "/" + os.path.basename(source)) if place.endswith("/") else place: mode
          for source, place, mode in deb["assets"] if "*" not in source}
folders = {place.rstrip("/"): mode for source, place, mode in deb["assets"] if "*" in source}
for folder, _, files in os.walk(root):
    for name in files:
        place = os.path.relpath(os.path.join(folder, name), root)
        mode = places.pop(place, None) or folders.get(os.path.dirname(place))
        assert mode, f"{place} is not among the assets of cargo-deb"
        found = os.stat(os.path.join(root, place)).st_mode & 0o777
        assert int(mode, 8) == found, f"{place} has mode {found:o}, and {mode} with cargo-deb"
assert not places, f"cargo-deb has files that the package lacks: {places}"
conffiles = open(os.path.join(control, "conffiles")).read().split()
assert sorted(deb["conf-files"]) == sorted(conffiles), conffiles
' "$work/root" "$work/control"
# The settings file of the package is the one that the binary contains.
cmp "$work/root/etc/postrider/postrider.toml" <("$work/root/usr/bin/postrider" config default)
"$work/root/usr/bin/postrider" config check --config "$work/root/etc/postrider/postrider.toml"
for page in postrider postrider-serve postrider-webhook-create; do
    zcat "$work/root/usr/share/man/man1/$page.1.gz" | grep -q '^\.TH ' || fail "no manual page $page"
done
bash -n "$work/root/usr/share/bash-completion/completions/postrider"
# The libraries of the machine that the control file names.
if needed=$(objdump -T "$work/root/usr/bin/postrider" 2>/dev/null); then
    newest=$(grep -o 'GLIBC_[0-9.]*' <<<"$needed" | sed 's/GLIBC_//' | sort -uV | tail -n 1)
    [ "$(printf '%s\n2.34\n' "${newest:-0}" | sort -V | tail -n 1)" = 2.34 ] || fail "it needs glibc $newest"
fi

echo "--- the units"
for name in postrider.service postrider-backup.service postrider-follow.service; do
    exposure=$(systemd-analyze security --offline=true --no-pager "$work/root/usr/lib/systemd/system/$name" |
        sed -n 's/.*Overall exposure level for [^:]*: \([0-9.]*\).*/\1/p')
    echo "$name: exposure $exposure of at most $exposure_max"
    awk -v e="$exposure" -v max="$exposure_max" 'BEGIN { exit !(e != "" && e <= max) }' || fail "$name is too open"
done
complaints=$(systemd-analyze verify --root="$work/root" postrider.service postrider.socket postrider-backup.service \
    postrider-backup.timer postrider-follow.service 2>&1 | grep -Ei 'unknown|ignor|pars|invalid|assignment outside' || true)
[ -z "$complaints" ] || fail "systemd-analyze verify: $complaints"

echo "--- started as systemd starts it"
python3 tests/suites/package.py "$work/root"

echo "--- the backup's script"
mkdir -p "$work/fake/bin" "$work/fake/lib/postrider" "$work/backups"
cp "$work/root/usr/lib/postrider/backup" "$work/fake/lib/postrider/"
# A failed backup leaves a directory called partial.
printf '#!/bin/sh\n[ "$1" = backup ] && [ ! -e "$2" ] && mkdir "$2.partial" && [ ! -e %s/broken ] && mv "$2.partial" "$2"\n' \
    "$work" >"$work/fake/bin/postrider"
chmod +x "$work/fake/bin/postrider"
for day in 01 02 03 04; do mkdir "$work/backups/2026-01-${day}T031500Z"; done
mkdir "$work/backups/mine"
backup() { BACKUPS_DIR="$work/backups" BACKUPS_KEPT=3 "$work/fake/lib/postrider/backup"; }
backup
# shellcheck disable=SC2012
kept=$(ls "$work/backups" | wc -l)
[ "$kept" = 4 ] && [ -e "$work/backups/mine" ] && [ ! -e "$work/backups/2026-01-02T031500Z" ] ||
    fail "the wrong backups were kept: $(ls "$work/backups")"
touch "$work/broken"
if backup; then fail "a failing backup was not told"; fi
# shellcheck disable=SC2012
[ "$(ls "$work/backups" | grep -vc partial)" = 4 ] || fail "a failed backup changed the kept ones"

echo "--- restored by root for another user"
if [ "$(id -u)" = 0 ]; then
    # As with a service with DynamicUser=: its directory is another user's, or a link whose destination was moved away.
    store=$work/store
    bin() { env -i POSTRIDER_MIN_FREE_BYTES=0 "$work/root/usr/bin/postrider" "$@" >"$work/said" 2>&1; }
    start env -i POSTRIDER_MIN_FREE_BYTES=0 "$work/root/usr/bin/postrider" serve --data-dir "$store" --listen 127.0.0.1:0
    bin backup --data-dir "$store" "$work/copy" || fail "no backup: $(cat "$work/said")"
    kill "$daemon"
    wait "$daemon"
    mkdir -m 0700 "$work/private"
    ln -s private/theirs "$work/theirs"
    bin restore "$work/copy" --data-dir "$work/theirs" || fail "not restored behind a link: $(cat "$work/said")"
    [ -e "$work/private/theirs/state.redb" ] || fail "restored elsewhere: $(cat "$work/said")"
    rm -r "$work/private/theirs"
    mkdir -m 0700 "$work/private/theirs"
    chown 65490:65490 "$work/private/theirs"
    for verb in "restore $work/copy" compact "key rotate-master"; do
        # shellcheck disable=SC2086
        bin $verb --data-dir "$work/theirs" || fail "$verb: $(cat "$work/said")"
        others=$(find "$work/private/theirs" ! -user 65490)
        [ -z "$others" ] || fail "after $verb these are not the directory's owner's: $others"
    done
else
    fail "run this as root: only root may give files to somebody else"
fi

echo "--- installed, removed, purged"
if [ "$(id -u)" = 0 ]; then
    root=$work/installed
    mkdir -p "$root/var/lib/dpkg/updates" "$root/var/lib/dpkg/info"
    touch "$root/var/lib/dpkg/status" "$root/var/lib/dpkg/available"
    run_dpkg() {
        dpkg --root="$root" --force-script-chrootless --force-depends --log="$work/dpkg.log" "$@" >"$work/dpkg.out" 2>&1 ||
            { cat "$work/dpkg.out" >&2; fail "dpkg $*"; }
    }
    run_dpkg --install "$deb"
    [ -L "$root/etc/systemd/system/multi-user.target.wants/postrider.service" ] || fail "it is not enabled"
    echo '# mine' >>"$root/etc/postrider/postrider.toml"
    mkdir -p "$root/var/lib/private/postrider" "$root/var/lib/private/postrider-backups"
    ln -s private/postrider "$root/var/lib/postrider"
    touch "$root/var/lib/private/postrider/state.redb"
    # The same version again keeps the administrator's files.
    run_dpkg --install "$deb"
    grep -q '^# mine' "$root/etc/postrider/postrider.toml" || fail "an upgrade changed the settings"
    run_dpkg --remove postrider
    [ ! -e "$root/usr/bin/postrider" ] || fail "remove left the binary"
    [ -e "$root/etc/postrider/postrider.toml" ] || fail "remove took the settings"
    [ -e "$root/var/lib/private/postrider/state.redb" ] || fail "remove took the data"
    run_dpkg --purge postrider
    [ ! -e "$root/etc/postrider" ] && [ ! -e "$root/etc/default/postrider" ] || fail "purge left settings"
    [ ! -e "$root/var/lib/private/postrider" ] && [ ! -L "$root/var/lib/postrider" ] || fail "purge left data"
    [ -e "$root/var/lib/private/postrider-backups" ] || fail "purge took the backups"
    [ -z "$(find "$root/etc/systemd" -name 'postrider*' 2>/dev/null)" ] || fail "purge left links to units"
else
    fail "run this as root: dpkg installs into a directory of its own, and only root may say who owns the files"
fi

echo "--- a release"
CARGO_TERM_QUIET=true packaging/release --profile plain "$work/release" >"$work/files" 2>"$work/said" ||
    { cat "$work/said" >&2; fail "no release"; }
(cd "$work/release" && sha256sum --quiet -c SHA256SUMS && ls)
tarball=$(ls "$work"/release/postrider-*-x86_64-linux-*.tar.gz)
case $tarball in
    *-musl.tar.gz) ;;
    *) grep -q '^no musl here (.* brings it)' "$work/said" || fail "it does not say why it is not musl: $(cat "$work/said")" ;;
esac
ls "$work"/release/*aarch64* >/dev/null 2>&1 || grep -q '^no binary for aarch64: ' "$work/said" ||
    fail "it does not say why there is nothing for aarch64: $(cat "$work/said")"
dpkg-deb --info "$(ls "$work"/release/postrider_*_amd64.deb)" >/dev/null
python3 - "$work"/release/*.cdx.json <<'PYTHON'
import json, sys

bom = json.load(open(sys.argv[1]))
assert bom["bomFormat"] == "CycloneDX" and bom["specVersion"] == "1.5", bom
names = {part["name"] for part in bom["components"]}
assert {"redb", "tokio", "rustls", "ring"} <= names and "tempfile" not in names, sorted(names)
assert all(part["licenses"] and len(part["hashes"][0]["content"]) == 64 for part in bom["components"])
print(f"the bill of materials names {len(names)} crates")
PYTHON

echo "--- the image"
image=$(ls "$work"/release/postrider-*-image-amd64.tar)
if ! command -v skopeo >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends skopeo >"$work/apt" 2>&1 ||
        { cat "$work/apt" >&2; fail "apt-get install skopeo"; }
fi
# Both readings of the one file, by a program of the container world.
skopeo inspect --raw --config "docker-archive:$image" >"$work/config.json"
skopeo --insecure-policy copy --quiet "oci-archive:$image" "dir:$work/copied"
python3 - "$work/config.json" <<'PYTHON'
import json, sys

config = json.load(open(sys.argv[1]))["config"]
assert config["User"] == "65532:65532" and config["Entrypoint"] == ["/postrider"], config
assert config["Healthcheck"]["Test"] == ["CMD", "/postrider", "ready"], config
PYTHON
mkdir "$work/image"
# The layers are unpacked as a runtime does it. Then the entry point runs as the image's user, who may write to /data
# alone.
python3 -c 'import json, sys; print("\n".join(json.load(open(sys.argv[1]))[0]["Layers"]))' \
    <(tar -xOf "$image" manifest.json) | while read -r layer; do
    tar -xOf "$image" "$layer" | tar --numeric-owner -xp -C "$work/image"
done
[ "$(stat -c %u:%a "$work/image/data")" = 65532:700 ] || fail "/data is not the user's"
chroot=$(command -v chroot)
# Not a function: a signal to a function's process would not reach the program.
inside=(env -i POSTRIDER_DATA_DIR=/data POSTRIDER_MIN_FREE_BYTES=0)
chmod 755 "$work"
start "${inside[@]}" POSTRIDER_LISTEN=127.0.0.1:0 "$chroot" --userspec=65532:65532 "$work/image" /postrider serve
"${inside[@]}" POSTRIDER_URL="$url" "$chroot" --userspec=65532:65532 "$work/image" /postrider ready >"$work/ready" ||
    fail "the health check fails: $(cat "$work/ready")"
kill "$daemon"
wait "$daemon" || fail "it did not stop cleanly"
if "${inside[@]}" POSTRIDER_URL="$url" "$chroot" --userspec=65532:65532 "$work/image" /postrider ready 2>/dev/null; then
    fail "the health check passes without a daemon"
fi
echo "the image runs as user 65532, and its health check tells"

echo "--- the static tarball"
mkdir "$work/static"
tar -xzf "$tarball" -C "$work/static" --strip-components 1
if ldd "$work/static/usr/bin/postrider" >"$work/ldd" 2>&1 && ! grep -q 'statically linked' "$work/ldd"; then
    fail "it is not static: $(cat "$work/ldd")"
fi
# A container from scratch has the binary only. The daemon starts there, and stops on a signal.
mkdir -p "$work/scratch"
cp "$work/static/usr/bin/postrider" "$work/scratch/postrider"
start env -i POSTRIDER_DATA_DIR=/data POSTRIDER_LISTEN=127.0.0.1:0 "$(command -v chroot)" "$work/scratch" /postrider serve
kill "$daemon"
wait "$daemon" || fail "it did not stop cleanly in an empty root"
echo "it runs in an empty root"
rm -rf "$work/scratch/data"
python3 tests/suites/package.py --scratch "$work/scratch"
