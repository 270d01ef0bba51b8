#!/bin/bash
# Install the real servers that the tests talk to: two versions of Orthanc, DCMTK, a keyring, a screen.
#
# Each Orthanc is unpacked into a cache folder that all checkouts share, from the Debian release that has
# it. It is run from there by its own dynamic loader: nothing is configured, no service is started.
#
# --for-demo: only one Orthanc; prints the folder with its start program, to be put in front of PATH.
set -euo pipefail
cd "$(dirname "$0")/../.."
. installer/setup/system.sh

TEST_PACKAGES="dcmtk gnome-keyring dbus-daemon xvfb xauth openbox trayer xdotool strace util-linux"
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

if [ -n "${DICOM_FERRY_SERVERS:-}" ]; then
    cache=$DICOM_FERRY_SERVERS
elif [ "$(id -u)" -eq 0 ]; then
    cache=/opt/dicom-ferry-servers
else
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/dicom-ferry-servers
fi

# The version of an unpacked Orthanc, nothing when it does not run.
unpacked_version() {
    local loader
    loader=$(find "$1/usr/" -name 'ld-linux-*.so.*' 2>/dev/null | head -n 1)
    [ -n "$loader" ] || return 0
    "$loader" --library-path "$(dirname "$loader"):$1/usr/lib" "$1/usr/sbin/Orthanc" --version 2>/dev/null |
        grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1
}

# Whether Orthanc $1 with its DICOMweb plugin is there, unpacked or as the system's own package.
has_orthanc() {
    if unpacked_orthanc "$1" >/dev/null; then return 0; fi
    [ -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so ] || return 1
    case $(/usr/sbin/Orthanc --version 2>/dev/null | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1) in
    "$1".*) return 0 ;;
    *) return 1 ;;
    esac
}

# The Debian mirror that apt itself uses here; on other systems Debian's usual one.
debian_mirror() {
    local mirror
    mirror=$(
        . /etc/os-release
        [ "$ID" = debian ] || exit 0
        apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
            awk -v release="${VERSION_CODENAME:-}" '$1 == release { print $2; exit }'
    )
    printf '%s' "${mirror:-http://deb.debian.org/debian}"
}

# Fetch the packages of Debian release $1 by an apt of its own in folder $2 and unpack them into $2/root.
unpack_orthanc() {
    local release=$1 work=$2 deb
    local apt=(
        apt-get -qq -y
        -o "Dir::State::lists=$work/lists" -o "Dir::State::status=$work/status"
        -o "Dir::State::extended_states=$work/extended" -o "Dir::Cache=$work/cache"
        -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
        -o APT::Sandbox::User= -o APT::Default-Release= -o Debug::NoLocking=1
        -o Acquire::Languages=none -o Acquire::Retries=3 -o Acquire::Check-Valid-Until=false
    )
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/root/usr/lib" "$work/root/usr/lib64" \
        "$work/root/usr/bin" "$work/root/usr/sbin"
    : >"$work/status"
    echo "deb [arch=$(dpkg --print-architecture) signed-by=$KEYRING] $(debian_mirror) $release main" \
        >"$work/sources.list"
    "${apt[@]}" update || return 1
    "${apt[@]}" install --download-only --no-install-recommends orthanc orthanc-dicomweb || return 1
    for deb in lib lib64 bin sbin; do ln -s "usr/$deb" "$work/root/$deb"; done
    for deb in "$work"/cache/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink --no-same-owner -C "$work/root" || return 1
    done
}

# Unpack Orthanc $1 from Debian release $2. A half-made one never gets the final name.
add_orthanc() {
    local version=$1 release=$2 attempt work found
    for attempt in 1 2; do
        say "Unpacking Orthanc $version into $cache (Debian $release; a minute or two)"
        work=$(mktemp -d "$cache/.partial-XXXXXX")
        if unpack_orthanc "$release" "$work"; then
            found=$(unpacked_version "$work/root" || true)
            case $found in
            "$version".*)
                rm -rf "${cache:?}/orthanc-$version"
                mv "$work/root" "$cache/orthanc-$version"
                rm -rf "$work"
                say "Orthanc $found is ready"
                return 0
                ;;
            *) say "Debian $release gave Orthanc ${found:-that does not run}, not $version." ;;
            esac
        fi
        rm -rf "$work"
    done
    fail "Orthanc $version could not be installed (see above)." \
        "It comes from the Debian mirror $(debian_mirror), release $release: check that it can be reached."
}

# Where Orthanc $1 lies unpacked; nothing when it doesn't.
unpacked_orthanc() {
    local folder
    for folder in "$cache" ${DICOM_FERRY_SERVERS:-/opt/dicom-ferry-servers}; do
        case $(unpacked_version "$folder/orthanc-$1" || true) in
        "$1".*)
            printf '%s' "$folder/orthanc-$1"
            return 0
            ;;
        esac
    done
    return 1
}

# A start program "Orthanc" for the one that lies unpacked in folder $1.
add_launcher() {
    if [ -x "$1/launcher/Orthanc" ]; then return 0; fi
    mkdir -p "$1/launcher"
    cat >"$1/launcher/Orthanc" <<'LAUNCHER'
#!/bin/sh
# Runs the Orthanc that lies unpacked here, with its own loader, libraries, dictionary and character sets.
root=$(dirname "$(dirname "$(readlink -f "$0")")")
loader=$(find "$root/usr/" -name 'ld-linux-*.so.*' | head -n 1)
libraries=$(dirname "$loader")
export DCMDICTPATH="$(find "$root/usr/share" -name dicom.dic | head -n 1)" GCONV_PATH="$libraries/gconv"
exec "$loader" --library-path "$libraries:$root/usr/lib" "$root/usr/sbin/Orthanc" "$@"
LAUNCHER
    chmod +x "$1/launcher/Orthanc"
}

prepare_cache() {
    [ -e "$KEYRING" ] || install_packages debian-archive-keyring || fail "Debian's archive keys are missing."
    mkdir -p "$cache" || fail "$cache cannot be made." "Name another folder:  DICOM_FERRY_SERVERS=/path make servers"
    # One at a time: another checkout may be doing the same.
    exec 9>"$cache/.lock"
    flock 9
    # Left over by a run that was killed: nobody else is here now.
    rm -rf "$cache"/.partial-*
}

if [ "${1:-}" = --for-demo ]; then
    unpacked_orthanc 1.12 >/dev/null || { prepare_cache && add_orthanc 1.12 trixie; }
    found=$(unpacked_orthanc 1.12)
    add_launcher "$found"
    printf '%s' "$found/launcher"
    exit 0
fi

# shellcheck disable=SC2086  # lists of words
install_packages $TEST_PACKAGES $QT_PACKAGES || fail "The servers for the tests could not be installed (see above)."

if ! has_orthanc 1.10 || ! has_orthanc 1.12; then
    prepare_cache
    has_orthanc 1.10 || add_orthanc 1.10 bookworm
    has_orthanc 1.12 || add_orthanc 1.12 trixie
fi
if found=$(unpacked_orthanc 1.12); then add_launcher "$found"; fi
