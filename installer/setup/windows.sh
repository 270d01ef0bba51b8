#!/bin/bash
# Install what builds and proves the Windows program on Linux: Wine, a compiler, both installers' makers, a screen.
set -euo pipefail
cd "$(dirname "$0")/../.."
. installer/setup/system.sh

[ "$(uname -m)" = x86_64 ] || fail "The Windows program is built on 64-bit Intel or AMD only."
install_packages wine wine64 nsis msitools wixl gcc-mingw-w64-x86-64-win32 osslsigncode openssl ca-certificates \
    xvfb openbox xdotool binutils fonts-dejavu-core ||
    fail "What builds the Windows program could not be installed (see above)."
# PyInstaller wants Python's shared library, which Debian has in a package of its own.
if [ "$(.venv/bin/python -c 'import sys; print(sys.base_prefix)')" = /usr ]; then
    install_packages "libpython$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')" ||
        fail "Python's shared library could not be installed (see above)."
fi
