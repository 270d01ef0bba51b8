"""A real Secret Service (D-Bus and gnome-keyring) for one test run, unlocked or locked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Self

if sys.platform != "win32":  # D-Bus is Linux's
    import jeepney  # type: ignore[import-untyped]
    import secretstorage
    from jeepney.io.blocking import DBusConnection, open_dbus_connection  # type: ignore[import-untyped]

from tests.support.processes import Child, clean_environment
from tests.support.servers import required_program
from tests.support.waiting import wait_for

_NAME = "org.freedesktop.secrets"


class SecretService:
    """A session bus of its own with gnome-keyring on it, its keyring file under ``folder``.

    `env` holds the variables that make a process use it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._children: list[Child] = []
        self.env: dict[str, str] = {}

    def start(self) -> Self:
        """Start bus and daemon and unlock the default keyring."""
        runtime = self.folder / "run"
        runtime.mkdir(parents=True, mode=0o700)
        # A socket's path has some hundred characters at most: pytest's folders can be longer than that.
        bus = Child([required_program("dbus-daemon"), "--session", "--nofork", "--print-address"], self.folder)
        self._children.append(bus)
        address = wait_for(lambda: bus.stdout().strip(), what="the address of the session bus")
        self.env = {
            "DBUS_SESSION_BUS_ADDRESS": address,
            "XDG_RUNTIME_DIR": str(runtime),
            "XDG_DATA_HOME": str(self.folder / "data"),
        }
        daemon = Child(
            [required_program("gnome-keyring-daemon"), "--foreground", "--unlock", "--components=secrets"],
            self.folder,
            env=clean_environment(HOME=str(self.folder), **self.env),
            stdin=b"a test's password",
        )
        self._children.append(daemon)
        wait_for(self._unlocked, what="gnome-keyring", interval=0.05)
        return self

    def lock(self) -> None:
        """Lock the default keyring. Nobody is there to answer the prompt that unlocks it."""
        connection = self._connect()
        try:
            secretstorage.get_default_collection(connection).lock()
        finally:
            connection.close()

    def items(self) -> dict[str, str]:
        """What is kept: secrets by their label."""
        connection = self._connect()
        try:
            found = secretstorage.get_default_collection(connection).get_all_items()
            return {item.get_label(): item.get_secret().decode() for item in found}
        finally:
            connection.close()

    def close(self) -> None:
        for child in reversed(self._children):
            child.close()

    def _connect(self) -> DBusConnection:
        return open_dbus_connection(self.env["DBUS_SESSION_BUS_ADDRESS"])

    def _unlocked(self) -> bool:
        connection = self._connect()
        try:
            owned = jeepney.DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")
            question = jeepney.new_method_call(owned, "NameHasOwner", "s", (_NAME,))
            if not connection.send_and_get_reply(question).body[0]:
                return False
            return not secretstorage.get_default_collection(connection).is_locked()
        except secretstorage.exceptions.SecretStorageException:
            return False
        finally:
            connection.close()


def no_keyring(folder: Path) -> dict[str, str]:
    """Variables of a machine without a session bus: no keyring at all."""
    return {"XDG_RUNTIME_DIR": str(folder), "DBUS_SESSION_BUS_ADDRESS": f"unix:path={folder / 'no-bus'}"}
