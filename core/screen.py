"""Whether there is a screen that a window can be shown on."""

from __future__ import annotations

import os
import sys


def has_display() -> bool:
    """Whether a window can be shown. Qt itself would abort the process without a screen."""
    if sys.platform in ("win32", "darwin"):
        return True
    named = os.environ.get("QT_QPA_PLATFORM", "")
    if named:
        return True  # the person (or a test) chose one, "offscreen" for instance
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
