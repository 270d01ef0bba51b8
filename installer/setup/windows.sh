#!/bin/bash
# Install what builds and proves the Windows program on Linux: Wine, a compiler, both installers' makers, a screen.
set -euo pipefail
cd "$(dirname "$0")/../.."
. installer/setup/system.sh

[ "$(uname -m)" = x86_64 ] || fail "The Windows program is built on 64-bit Intel or AMD only."
install_packages wine wine64 nsis msitools wixl gcc-mingw-w64-x86-64-win32 osslsigncode openssl ca-certificates \
    xvfb openbox xdotool binutils || fail "What builds the Windows program could not be installed (see above)."
