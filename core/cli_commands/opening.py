"""How a command opens the home, and tells when that can't be done."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from core.app import App
from core.cli_commands.manner import manner
from core.logs import start_logging


@contextmanager
def opened() -> Iterator[App]:
    """The application on the home of this environment, logging to it; closed at the end.

    Raises
    ------
    ConfigurationError, LedgerError
    """
    app = App.open()
    try:
        settings = app.settings
        start_logging(
            app.home,
            "command-line",
            debug=manner.debug or settings.debug_log,
            megabytes=settings.log_megabytes,
            kept=settings.log_files,
        )
        yield app
    finally:
        app.close()
        logging.getLogger(__name__).debug("closed")


def engine_runs(app: App) -> bool:
    """Whether another process runs this home's engine right now."""
    lock = FileLock(app.home.lock_file, mode=app.home.file_mode, is_singleton=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False
