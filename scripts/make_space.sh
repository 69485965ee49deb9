#!/usr/bin/env bash
# Puts a Docker Space of Hugging Face together in a new folder: make_space.sh <folder>.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

if [[ $# -ne 1 || -e $1 ]]; then
    echo "make space: name one folder that is not there yet, as in: scripts/make_space.sh ../space" >&2
    exit 1
fi
mkdir -p "$1/src"
cp "$root"/spaces/{Dockerfile,README.md,requirements.txt,settings.json} "$root/LICENSE" "$1"
cp -r "$root/src/kanji_diffusion" "$1/src"
cp -r "$root/data/06_models/released/kanji-small" "$1"
find "$1" -name __pycache__ -prune -exec rm -rf {} +
echo "$1 is ready: docs/page.md tells how to push it."
