"""Logs: a rotating file in the home, owner-only, without credentials; patient data at most at debug level."""

from __future__ import annotations

import logging
import logging.handlers
import os
import re
import sys
import threading
from io import TextIOWrapper
from pathlib import Path

from core.home import Home, make_private_file

_NOISY = {
    # Their lines hold addresses with query strings, identifiers of requests or SQL parameters: patient data.
    "pynetdicom": logging.ERROR,
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "urllib3": logging.WARNING,
    "sqlalchemy": logging.WARNING,
    "alembic": logging.WARNING,
    "keyring": logging.WARNING,
    "asyncio": logging.WARNING,
    "pydicom": logging.ERROR,
}
_PATTERNS = (
    (
        re.compile(
            r"(?i)(\b(?:proxy-)?authorization\b[\"']?\s*[:=]\s*[\"']?)(?:(?:basic|bearer|digest)\s+)?[^\s\"',;]+"
        ),
        r"\1•••",
    ),
    (re.compile(r"\b([Bb]asic|[Bb]earer)\s+(?=\S*[A-Z0-9=])[A-Za-z0-9+/._~=-]{6,}"), r"\1 •••"),
    (
        re.compile(
            r"(?i)(\b[\w-]*(?:password|passwd|secret|token|api[-_]?key|x-auth[\w-]*)[\"']?\s*[:=]\s*)"
            r"(?:\"[^\"]*\"|'[^']*'|[^\s\"',;&]+)"
        ),
        r"\1•••",
    ),
    (re.compile(r"([a-z][a-z0-9+.-]*://)[^/\s:@]*:[^/\s@]*@", re.IGNORECASE), r"\1•••@"),
)
_known: set[str] = set()
_known_lock = threading.Lock()


def _without_values(record: logging.LogRecord) -> bool:
    """Of a warning of a library only its kind and place: pydicom's quote the values that they are about."""
    text = record.getMessage()
    found = re.match(r"(?s)(.*?:\d+: \w+):", text)
    record.msg, record.args = (found[1] if found else "a warning of a library"), ()
    return True


def conceal(secret: str) -> None:
    """Never write this text to a log from now on. Very short ones are let be: they would blot out words."""
    if len(secret) >= 4:
        with _known_lock:
            _known.add(secret)


def without_credentials(text: str) -> str:
    """The text with everything that is or looks like a credential replaced by dots."""
    # The patterns first: a known secret may be a word that they look for ("secret").
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    with _known_lock:
        known = sorted(_known, key=len, reverse=True)
    for secret in known:
        if secret in text:
            text = text.replace(secret, "•••")
    return text


def forget_concealed() -> None:
    """Begin anew with no known secrets (between tests, which share a process)."""
    with _known_lock:
        _known.clear()


class CleanFormatter(logging.Formatter):
    """Formats a line, traceback included, and removes credentials from the whole of it."""

    def format(self, record: logging.LogRecord) -> str:
        return without_credentials(super().format(record))


class PrivateRotatingFile(logging.handlers.RotatingFileHandler):
    """A rotating log file that only its owner may read, and that several processes may write to.

    While another process has the file open Windows won't rename it: writing then goes on in the same file,
    and a later line tries again.
    """

    def _open(self) -> TextIOWrapper:
        make_private_file(Path(self.baseFilename))
        return super()._open()

    def doRollover(self) -> None:  # noqa: N802 - logging's own name
        try:
            super().doRollover()
        except OSError:
            if self.stream is None:
                self.stream = self._open()


def start_logging(
    home: Home, program: str = "dicom-ferry", *, debug: bool = False, megabytes: int = 5, kept: int = 5
) -> Path:
    """Log to ``logs/<program>.log`` of this home; returns the file. Calling again moves the log.

    Parameters
    ----------
    debug : bool
        Lines of our own at debug level too: these may hold patient data, so it is off unless asked for.
    megabytes, kept : int
        Size at which a new file is begun, and how many old ones are kept.
    """
    path = home.log_folder / f"{program}.log"
    handler = PrivateRotatingFile(path, maxBytes=megabytes << 20, backupCount=kept, encoding="utf-8", delay=True)
    handler.setFormatter(CleanFormatter("%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s"))
    stop_logging()
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    for name in ("core", "gui"):
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.INFO)
    for name, level in _NOISY.items():
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").addFilter(_without_values)
    # A full disk must not bring down a transfer through its log: the ledger speaks up by itself.
    logging.raiseExceptions = False
    logging.getLogger("core.logs").info(
        "started: Python %s on %s, process %d", sys.version.split()[0], sys.platform, os.getpid()
    )
    return path


def stop_logging() -> None:
    """Close and take off the file handlers that `start_logging` put on."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, PrivateRotatingFile):
            root.removeHandler(handler)
            handler.close()
    logging.captureWarnings(False)
