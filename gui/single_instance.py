"""One window of a person for each home folder: a second start brings the first one to the front."""

from __future__ import annotations

import getpass
import hashlib
import logging
import sys

from PySide6.QtCore import QDeadlineTimer, QObject, QThread, Signal
from PySide6.QtNetwork import QLocalServer, QLocalSocket

if sys.platform == "win32":
    from core.running_mark import NamedMutex

WAIT_MS = 300
FIRST_MS = 5000  # for so long a first copy that has just started, or is ending, may not answer

_log = logging.getLogger(__name__)


class SingleInstance(QObject):
    """Attributes
    ----------
    called : Signal()
        The program was started a second time.
    """

    called = Signal()

    def __init__(self, home_id: str, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._name = "dicom-ferry-" + hashlib.sha256(f"{_account()}/{home_id}".encode()).hexdigest()[:16]
        self._server: QLocalServer | None = None
        if sys.platform == "win32":
            self._mutex: NamedMutex | None = None

    def is_first(self) -> bool:
        """Whether no other window of this home is open; an open one is asked to come to the front."""
        if self._calls():
            return False
        if sys.platform == "win32" and not self._alone():
            return False
        server = QLocalServer(self)
        server.setSocketOptions(QLocalServer.SocketOption.UserAccessOption)
        QLocalServer.removeServer(self._name)  # what a killed process left behind
        server.listen(self._name)
        server.newConnection.connect(self._connected)
        self._server = server
        return True

    if sys.platform == "win32":

        def _alone(self) -> bool:
            """Whether this is the only copy. Two that start together would both listen: pipes have no single owner."""
            deadline = QDeadlineTimer(FIRST_MS)
            while True:
                try:
                    mutex = NamedMutex(f"Global\\{self._name}")
                except OSError as error:
                    _log.warning("%s", error)
                    return True
                if mutex.first:
                    self._mutex = mutex
                    return True
                mutex.close()
                if self._calls():
                    return False
                if deadline.hasExpired():
                    _log.warning("another copy doesn't answer: this one shows its window beside it")
                    return True
                QThread.msleep(50)

    def _calls(self) -> bool:
        """Ask another copy to show its window; False where none answers."""
        socket = QLocalSocket()
        socket.connectToServer(self._name)
        if socket.waitForConnected(WAIT_MS):
            socket.write(b"show\n")
            socket.waitForBytesWritten(WAIT_MS)
            socket.disconnectFromServer()
            return True
        return False

    def _connected(self) -> None:
        assert self._server is not None
        socket = self._server.nextPendingConnection()
        if socket is not None:
            socket.disconnected.connect(socket.deleteLater)
            self.called.emit()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        if sys.platform == "win32" and self._mutex is not None:
            self._mutex.close()
            self._mutex = None


def _account() -> str:
    """Several people may have a window open on the home of an unattended engine."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
