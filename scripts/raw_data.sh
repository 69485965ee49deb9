#!/usr/bin/env bash
# Brings the fonts and the dictionaries of the default configuration and of the tests from Debian packages into
# data/01_raw, without root; does nothing for those that are there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

raw=data/01_raw
packages=(
    kanjidic-xml
    edict
    fonts-aoyagi-kouzan-t
    fonts-aoyagi-soseki
    fonts-ipaexfont-gothic
    fonts-ipaexfont-mincho
    fonts-kiloji
    fonts-kouzan-mouhitsu
    fonts-morisawa-bizud-gothic
    fonts-morisawa-bizud-mincho
    fonts-noto-cjk
    fonts-seto
    fonts-vlgothic
    fonts-yozvox-yozfont-standard-kana
)

die() {
    printf 'raw data: %s\n' "$1" >&2
    exit 1
}

list_fonts() {
    find -H "$1" -type f \( -iname '*.ttf' -o -iname '*.otf' -o -iname '*.ttc' \)
}

is_there() {
    case $1 in
    kanjidic-xml) [[ -s $raw/kanjidic2.xml.gz ]] ;;
    edict) [[ -s $raw/edict.gz ]] ;;
    *) [[ -d $raw/fonts/$1 && -n $(list_fonts "$raw/fonts/$1") ]] ;;
    esac
}

# Weights and variants that differ too little to be worth their hundred megabytes.
is_wanted() {
    case $1/$(basename "$2") in
    fonts-noto-cjk/*-Regular.ttc | fonts-yozvox-*/YOzRS_.ttf) true ;;
    fonts-noto-cjk/* | fonts-yozvox-*) false ;;
    *) true ;;
    esac
}

download() {
    (cd "$staging" && apt-get --quiet -o Acquire::Retries=3 -o APT::Sandbox::User="$(id -un)" "$@")
}

fetch() {
    if download download "${missing[@]}"; then
        return
    fi
    echo "Fetching package lists of our own" >&2
    mkdir -p "$staging"/apt/{lists,cache/archives}/partial
    local own=(-o Dir::State::Lists="$staging/apt/lists" -o Dir::Cache="$staging/apt/cache")
    download "${own[@]}" update && download "${own[@]}" download "${missing[@]}"
}

# Moves what is needed of an unpacked package to its place, in one step that cannot be seen half done.
place() {
    local package=$1 tree=$2 deb=$3 folder=$2.placed font
    if [[ $package == kanjidic-xml ]]; then
        cp "$tree/usr/share/doc/$package/copyright" "$raw/kanjidic2.copyright"
        mv "$tree/usr/share/edict/kanjidic2.xml.gz" "$raw/kanjidic2.xml.gz"
        return
    fi
    if [[ $package == edict ]]; then
        cp "$tree/usr/share/doc/$package/copyright" "$raw/edict.copyright"
        gzip --no-name --stdout "$tree/usr/share/edict/edict" >"$tree/edict.gz"
        mv "$tree/edict.gz" "$raw/edict.gz"
        return
    fi
    mkdir "$folder"
    while read -r font; do
        if is_wanted "$package" "$font"; then mv "$font" "$folder/"; fi
    done < <(list_fonts "$tree")
    [[ -n $(list_fonts "$folder") ]] || die "the package $package ($deb) holds none of the fonts that are wanted."
    cp "$tree/usr/share/doc/$package/copyright" "$folder/copyright"
    echo "$deb" >"$folder/package"
    rm -rf "${raw:?}/fonts/$package"
    mv "$folder" "$raw/fonts/$package"
}

missing=()
for package in "${packages[@]}"; do
    is_there "$package" || missing+=("$package")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

by_hand="put the fonts of each package under $raw/fonts/<package>/ and KANJIDIC2 and EDICT (from \
www.edrdg.org) at $raw/kanjidic2.xml.gz and $raw/edict.gz, then run this again; missing are: ${missing[*]}."
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    die "this system has no apt: $by_hand"
fi

mkdir -p "$raw/fonts" || die "$raw/fonts cannot be made (the message is above): correct that and run this again."
find "$raw" -maxdepth 1 -name '.staging.*' -mmin +60 -exec rm -rf {} +
staging=$(mktemp -d "$PWD/$raw/.staging.XXXXXX")
trap 'rm -rf "$staging"' EXIT

fetch || die "apt could not bring all packages (its message is above): check the network and the package sources, or $by_hand"
for deb in "$staging"/*.deb; do
    package=$(dpkg-deb --field "$deb" Package)
    dpkg-deb --extract "$deb" "$staging/$package"
    place "$package" "$staging/$package" "$(basename "$deb")"
    rm -rf "$deb" "${staging:?}/$package"
    echo "$package"
done
