# System packages, for the other scripts of this folder to source: asked for only when something is missing.

say() { printf '%s\n' "$*" >&2; }
fail() { say "make: $1"; shift; for line in "$@"; do say "      $line"; done; exit 1; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

can_install() {
    command -v apt-get >/dev/null && { [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null; }
}

# Whether a package is installed, under its own name or the one it got with 64-bit time (Debian 13, Ubuntu 24.04).
is_installed() {
    local name status
    for name in "$1" "$1t64"; do
        status=$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null || true)
        if [ "$status" = installed ]; then return 0; fi
    done
    return 1
}

# The packages among the arguments that are not installed.
missing_packages() {
    local name
    for name in "$@"; do
        if ! is_installed "$name"; then printf '%s ' "$name"; fi
    done
}

# apt-get, without questions; waits up to ten minutes for another one to finish.
apt_quietly() {
    local output status attempt
    output=$(mktemp)
    for attempt in $(seq 120); do
        status=0
        as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l \
            apt-get -qq -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 "$@" >"$output" 2>&1 || status=$?
        # Only the lock of the package lists still fails at once.
        if [ "$status" -eq 0 ] || ! grep -q 'Could not get lock' "$output"; then break; fi
        sleep 5
    done
    if [ "$status" -ne 0 ]; then tail -n 15 "$output" >&2; fi
    rm -f "$output"
    return "$status"
}

lists_are_known() {
    local name
    for name in "$@"; do
        apt-cache show "$name" >/dev/null 2>&1 || apt-cache showpkg "$name" 2>/dev/null | grep -q . || return 1
    done
}

# Install the packages that are missing; nothing is asked of apt when none is.
install_packages() {
    local missing
    missing=$(missing_packages "$@")
    missing=${missing% }
    if [ -z "$missing" ]; then return 0; fi
    if ! can_install; then
        say "Missing system packages: $missing"
        say "Install them as root (on Debian or Ubuntu: apt-get install $missing)."
        return 1
    fi
    say "Installing system packages: $missing"
    # shellcheck disable=SC2086  # a list of words
    if lists_are_known $missing && apt_quietly install -y --no-install-recommends $missing; then return 0; fi
    # The package lists are absent or older than the mirror. One broken source must not stop the others.
    apt_quietly update || say "apt-get update reported errors; going on with what it got."
    # shellcheck disable=SC2086
    apt_quietly install -y --no-install-recommends $missing
}

# What Qt needs to show a window.
QT_PACKAGES="libgl1 libegl1 libxkbcommon0 libfontconfig1 libglib2.0-0 libdbus-1-3 libbrotli1 fonts-dejavu-core
    libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 libxcb-xkb1 libx11-xcb1 libxcb-shape0"
