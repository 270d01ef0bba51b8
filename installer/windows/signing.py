"""Signing what is shipped, when the environment names a certificate.

``DICOM_FERRY_SIGN_PFX`` names a PKCS#12 file, ``DICOM_FERRY_SIGN_PASSWORD_FILE`` a file with its password (nothing
of it is seen in the list of processes), ``DICOM_FERRY_SIGN_TIMESTAMP`` a timestamp server (without one, signatures
end with the certificate). Without a certificate nothing is signed, and Windows warns whoever downloads the setup.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PFX = "DICOM_FERRY_SIGN_PFX"
PASSWORD_FILE = "DICOM_FERRY_SIGN_PASSWORD_FILE"
TIMESTAMP = "DICOM_FERRY_SIGN_TIMESTAMP"
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Certificate:
    """Who signs.

    Attributes
    ----------
    pfx, password_file : Path
    timestamp : str
        URL of an RFC 3161 timestamp server; empty for none.
    """

    pfx: Path
    password_file: Path | None
    timestamp: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Certificate | None:
        """What the environment names; None where it names none."""
        if not environment.get(PFX):
            return None
        password = environment.get(PASSWORD_FILE)
        return cls(Path(environment[PFX]), Path(password) if password else None, environment.get(TIMESTAMP, ""))

    def sign(self, files: Iterable[Path]) -> None:
        """Sign the files in place."""
        for file in files:
            signed = file.with_name(file.name + ".signed")
            command = [
                "osslsigncode", "sign", "-pkcs12", str(self.pfx), "-h", "sha256", "-n", "DICOM Ferry",
                *(["-readpass", str(self.password_file)] if self.password_file else []),
                *(["-ts", self.timestamp] if self.timestamp else []),
                "-in", str(file), "-out", str(signed),
            ]  # fmt: skip
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=300)
            signed.chmod(file.stat().st_mode)
            signed.replace(file)

    def command(self) -> list[str]:
        """A command that signs the file behind it."""
        told = {PFX: self.pfx, PASSWORD_FILE: self.password_file or "", TIMESTAMP: self.timestamp, "PYTHONPATH": ROOT}
        words = [f"{name}={value}" for name, value in told.items()]
        return ["env", *words, sys.executable, "-m", "installer.windows.signing"]


def self_signed(folder: Path) -> tuple[Certificate, Path]:
    """A certificate that nobody trusts, for tests, and the file that says who it is (PEM)."""
    key, certificate, pfx = folder / "test.key", folder / "test.pem", folder / "test.pfx"
    password = folder / "test.password"
    password.write_text("for a test", encoding="ascii")
    subject = ["-subj", "/CN=A test of DICOM Ferry", "-addext", "extendedKeyUsage=codeSigning"]
    request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, "-keyout", key]
    export = ["pkcs12", "-export", "-inkey", key, "-in", certificate, "-passout", f"file:{password}", "-out", pfx]
    for words in ([*request, "-out", certificate], export):
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=120)
    return Certificate(pfx, password), certificate


def is_signed(file: Path, by: Path) -> bool:
    """Whether a file was signed by the certificate in the PEM file `by`, and not changed since."""
    said = subprocess.run(
        ["osslsigncode", "verify", "-CAfile", by, "-in", file], capture_output=True, text=True, check=False, timeout=120
    )
    return said.returncode == 0 and "Signature verification: ok" in said.stdout + said.stderr


if __name__ == "__main__":
    chosen = Certificate.from_environment()
    if chosen is None:
        sys.exit(f"{PFX} names no certificate")
    chosen.sign(Path(name) for name in sys.argv[1:])
