"""One window for each home folder: a second start brings the first one to the front."""

from __future__ import annotations

import hashlib

from PySide6.QtCore import QObject, Signal
from PySide6.QtNetwork import QLocalServer, QLocalSocket

WAIT_MS = 300


class SingleInstance(QObject):
    """Attributes
    ----------
    called : Signal()
        The program was started a second time.
    """

    called = Signal()

    def __init__(self, home_id: str, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._name = "dicom-ferry-" + hashlib.sha256(home_id.encode()).hexdigest()[:16]
        self._server: QLocalServer | None = None

    def is_first(self) -> bool:
        """Whether no other window of this home is open; an open one is asked to come to the front."""
        socket = QLocalSocket()
        socket.connectToServer(self._name)
        if socket.waitForConnected(WAIT_MS):
            socket.write(b"show\n")
            socket.waitForBytesWritten(WAIT_MS)
            socket.disconnectFromServer()
            return False
        server = QLocalServer(self)
        server.setSocketOptions(QLocalServer.SocketOption.UserAccessOption)
        QLocalServer.removeServer(self._name)  # what a killed process left behind
        server.listen(self._name)
        server.newConnection.connect(self._connected)
        self._server = server
        return True

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
