"""Warnings of libraries, silenced or caught by one thread at a time: the filters of `warnings` are the whole program's.

Two threads that each change and restore them, without knowing of each other, leave the one's filters behind for good.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_filters = threading.RLock()
_PYDICOM = re.compile(r"pydicom(\.|\Z)")


@contextmanager
def quietly() -> Iterator[None]:
    """No warning gets out: pydicom's quote values."""
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def caught() -> Iterator[list[warnings.WarningMessage]]:
    """What is warned of meanwhile. Not as errors: they would strike whatever other threads are doing."""
    with _filters, warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield found


def silence_pydicom() -> None:
    """Ignore pydicom's warnings from here on, in all threads: they quote values. What is wrong is told otherwise."""
    if not any(one[0] == "ignore" and one[3] == _PYDICOM for one in warnings.filters):
        with _filters:
            warnings.filterwarnings("ignore", module=_PYDICOM.pattern)
