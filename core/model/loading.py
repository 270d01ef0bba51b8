"""pydicom, loaded by one thread at a time.

It takes a third of a second, so that it is loaded only where it is needed, and that may be in several threads at once.
Two that begin with different parts of it (one with ``pydicom``, the other with ``pydicom.dataset``) wait for each
other; Python then lets one of them go on with a half-loaded package, and its import fails.
"""

from __future__ import annotations

import threading

_lock = threading.Lock()


def load_pydicom() -> None:
    """Load it whole before any part of it is imported."""
    with _lock:
        import pydicom  # noqa: F401
