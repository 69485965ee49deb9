#!/usr/bin/env bash
# Makes .venv hold exactly what requirements.lock names, and this project; does nothing if it already does.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

uv_version=0.13.9

die() {
    printf 'setup: %s\n' "$1" >&2
    exit 1
}

find_python() {
    local name
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    die "Python 3.11 or newer is not on PATH: install it (Debian 12 and Ubuntu 24.04 have it as python3)."
}

find_uv() {
    if command -v uv; then
        return
    fi
    if ! .tools/bin/uv --version >/dev/null 2>&1; then
        echo "Installing uv into .tools" >&2
        rm -rf .tools
        "$1" -m venv .tools >&2 ||
            die "$1 cannot make a virtual environment: install its venv module (on Debian: python3-venv), or uv itself."
        .tools/bin/python -m pip install --quiet --disable-pip-version-check "uv==$uv_version" >&2 ||
            die "uv $uv_version could not be installed with pip (its message is above): install uv and run this again."
    fi
    echo "$PWD/.tools/bin/uv"
}

if [[ $PWD == *[:{}]* || $PWD == *$'\n'* ]]; then
    die "the project lies in $(printf '%q' "$PWD"), and Python or Kedro misread colons, braces and line breaks in a path: \
rename that folder, or move the project."
fi
command -v git >/dev/null || die "git is not on PATH: install it."
stamp=.venv/.stamp
# The folder is part of it because an environment that was moved or copied does not work.
wanted="$(cat requirements.lock pyproject.toml | git hash-object --stdin) $PWD"
if [[ -f $stamp && $(<"$stamp") == "$wanted" ]]; then
    exit 0
fi

python=$(find_python)
uv=$(find_uv "$python")
rm -f "$stamp"
if [[ $(.venv/bin/python -c 'import sys; print(sys.prefix)' 2>/dev/null) != "$PWD/.venv" ]]; then
    rm -rf .venv
    "$uv" venv --quiet --python "$python" .venv
fi
# Compiled here because importing the uncompiled frameworks takes half a minute, and some systems forbid Python to keep
# what it compiled.
"$uv" pip sync --compile-bytecode --python .venv/bin/python --require-hashes requirements.lock ||
    die "the packages of requirements.lock could not be installed (uv's message is above): run the same command again."
"$uv" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
printf '%s\n' "$wanted" >"$stamp"
