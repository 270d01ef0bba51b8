#!/bin/bash
# Make .venv with the program, installed in place. Arguments: further sets of packages (test, bench, freeze).
set -euo pipefail
cd "$(dirname "$0")/../.."
. installer/setup/system.sh

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# A Python of 3.11 or newer that can make virtual environments; installed when there is none.
find_python() {
    local name
    for name in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11; do
        if command -v "$name" >/dev/null && new_enough "$name"; then
            command -v "$name"
            return 0
        fi
    done
    return 1
}

if ! [ -x .venv/bin/python ] || ! new_enough .venv/bin/python; then
    if ! python=$(find_python); then
        # Debian 12 and later have it as python3, Ubuntu 22.04 beside its 3.10.
        install_packages python3 || true
        find_python >/dev/null || install_packages python3.11 || true
        python=$(find_python) || fail "DICOM Ferry needs Python 3.11 or newer, and there is none." \
            "Install one and run:  PYTHON=/path/to/python3 make setup"
    fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        install_packages "python$version-venv" || fail "$python cannot make virtual environments." \
            "Install python$version-venv and run this again."
    fi
    say "Making .venv with $("$python" --version)"
    rm -rf .venv
    "$python" -m venv .venv || { rm -rf .venv; fail "The virtual environment could not be made (see above)."; }
fi

# What is installed is written down: nothing is done again until pyproject.toml or the folder changes.
wanted="$PWD $(sha256sum <pyproject.toml)"
for extra in "" "$@"; do
    stamp=".venv/installed${extra:+-$extra}"
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then continue; fi
    say "Installing the program${extra:+ with what \"$extra\" needs}"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input --root-user-action=ignore \
        --editable ".${extra:+[$extra]}" ||
        fail "pip could not install the program (see above)." "Check the network and pip's configuration, then run this again."
    printf '%s' "$wanted" >"$stamp"
done

# shellcheck disable=SC2086  # a list of words
install_packages $QT_PACKAGES || say "Without these packages the window may not open; the command line works."
