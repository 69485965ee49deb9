#!/usr/bin/env bash
# Brings Debian's Chromium, which the tests of the page drive, into .tools/chromium, without root; does nothing if it or
# another Chromium is there. Where Debian's packages cannot be had, those tests are skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

package=chromium-headless-shell
place=.tools/chromium

skip() {
    printf 'chromium: %s: the tests of the page will be skipped, unless you install Chromium.\n' "$1" >&2
    exit 0
}

apt() {
    (cd "$staging" && apt-get --quiet -o Acquire::Retries=3 -o APT::Sandbox::User="$(id -un)" "${lists[@]}" "$@")
}

# Downloads the package, and what it needs and this system lacks.
fetch() {
    local packages
    mapfile -t packages < <(apt install --simulate --no-install-recommends "$package" | awk '$1 == "Inst" { print $2 }')
    [[ ${#packages[@]} -gt 0 ]] && apt download "${packages[@]}"
}

for name in "$package" chromium "$PWD/$place/chromium"; do
    if "$name" --version >/dev/null 2>&1; then exit 0; fi
done
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    skip "this system has no apt"
fi
mkdir -p .tools
staging=$(mktemp -d "$PWD/.tools/.staging.XXXXXX")
trap 'rm -rf "$staging"' EXIT

lists=()
if ! fetch >&2; then
    echo "Fetching package lists of our own" >&2
    mkdir -p "$staging"/apt/{lists,cache/archives}/partial
    lists=(-o Dir::State::Lists="$staging/apt/lists" -o Dir::Cache="$staging/apt/cache")
    { apt update && fetch; } >&2 || skip "apt cannot bring $package (its message is above)"
fi
for deb in "$staging"/*.deb; do
    dpkg-deb --extract "$deb" "$staging/root"
done
libraries=$(find "$staging/root" -name '*.so*' -printf '%h\n' | sort -u | sed "s|^$staging/root|\$root|" | paste -sd :)
cat >"$staging/chromium" <<END
#!/bin/sh
root=\$(dirname "\$(readlink -f "\$0")")/root
export LD_LIBRARY_PATH="$libraries\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
exec "\$root/usr/lib/chromium/$package" "\$@"
END
chmod +x "$staging/chromium"
"$staging/chromium" --version || skip "the $package of this system does not start (its message is above)"
rm -rf "$staging"/*.deb "$staging/apt" "$place"
mv "$staging" "$place"
