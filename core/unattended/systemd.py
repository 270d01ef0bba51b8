"""The unattended engine as a systemd unit of the computer: written, started, removed.

It runs under an account of its own (`SERVICE`), which has no login, no session and no keyring; its secrets are
systemd's credentials (`core.unattended.unit_secrets`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from core.model.errors import ConfigurationError
from core.unattended.commands import answer, refusal, run
from core.unattended.layout import UNIT, Choice, Layout, cant_write, make_folder, need, need_root, systemctl, write_file
from core.unattended.mark import MARK, Unattended, mark_text, read_mark
from core.unattended.place import SERVICE, machine_folder
from core.unattended.program import program
from core.unattended.unit_secrets import credential_files, write_secrets_conf
from core.unattended.units import unit_text

#: What of a home may be opened to a group. Received images stay with the account.
_SHARED_FILES = ("ledger*.sqlite*", "engine.lock", "settings.json*", "home-id", "engine-process", MARK, "logs/*.log*")
_SHARED_FOLDERS = ("logs", "spool", "scratch")


def chosen(account: str | None, group: str | None, folders: tuple[Path, ...]) -> Choice:
    """What is to be installed; what is not given (None) is as it was at the last installation."""
    mark = _mark(Layout().home)
    before = Choice() if mark is None else Choice(mark.account, mark.group)
    return Choice(before.account if account is None else account, before.group if group is None else group, folders)


def install(choice: Choice, layout: Layout | None = None) -> list[str]:
    """Make account and home, write the unit, and start it where systemd runs; what was done, in sentences.

    Raises
    ------
    ConfigurationError
        No root, no systemd, an unusable name, or a program that the account can't run.
    LocalError
        A file can't be written, or systemd refuses.
    """
    layout = layout or Layout()
    need_root()
    need("systemctl", "This computer is not run by systemd.")
    for folder in choice.folders:
        if not folder.is_absolute():
            raise ConfigurationError(f"{folder} is no absolute path.", "Give the whole path.", code="service")
    done = [_make_account(choice)]
    _may_run_program(choice.account)
    try:
        _make_home(layout.home, choice)
        make_folder(layout.credentials)
        write_file(layout.unit, unit_text(choice, home=machine_folder()), 0o644)
        write_secrets_conf(layout)
    except OSError as error:
        raise cant_write(error) from error
    done.append(f"Wrote {layout.unit}; the home is {layout.home}, for {_who(choice)} alone.")
    systemctl(layout, "enable", UNIT)
    if layout.running:
        systemctl(layout, "daemon-reload")
        systemctl(layout, "restart", UNIT)
        done.append("It runs, and starts with the computer.")
    else:
        done.append("It starts with the computer. systemd does not run here now, so it was not started.")
    return done


def remove(*, data: bool, layout: Layout | None = None) -> list[str]:
    """Stop and remove the unit; with `data` also home, credentials and account.

    Raises
    ------
    ConfigurationError
    LocalError
    """
    layout = layout or Layout()
    need_root()
    mark = _mark(layout.home)
    done = []
    if layout.unit.exists():
        if layout.running:
            systemctl(layout, "stop", UNIT)
        systemctl(layout, "disable", UNIT)
    try:
        for path in (layout.secrets_conf, layout.unit):
            if path.exists():
                path.unlink()
                done.append(f"Removed {path}.")
        with contextlib.suppress(OSError):  # drop-ins of the administrator's own stay
            layout.secrets_conf.parent.rmdir()
        if layout.running:
            systemctl(layout, "daemon-reload")
        if not data:
            if layout.home.exists():
                done.append(f"{layout.home} stays: nodes, jobs, records, received images; so do its credentials.")
            return done or ["Nothing was installed."]
        for folder in (layout.credentials.parent, layout.home):
            if folder.exists():
                shutil.rmtree(folder)
                done.append(f"Removed {folder}.")
    except OSError as error:
        raise cant_write(error) from error
    if mark is not None and mark.account == SERVICE and _account_exists(SERVICE):
        run(["userdel", SERVICE])
        done.append(f"Removed the account {SERVICE}.")
    return done or ["Nothing was installed."]


def status(layout: Layout | None = None) -> list[str]:
    """Whether it is installed and runs, in sentences."""
    layout = layout or Layout()
    if not layout.unit.exists():
        return ["No unattended engine is installed on this computer."]
    mark = _mark(layout.home)
    account = f" under the account {mark.account}" if mark else ""
    said = [f"{layout.unit} is installed; its home is {layout.home}{account}."]
    if layout.running:
        state = answer(["systemctl", "show", "--property=ActiveState,StatusText", "--value", UNIT]).split("\n")
        text = f" ({state[1]})" if len(state) > 1 and state[1] else ""
        said.append(f"systemd says: {state[0] or 'unknown'}{text}.")
    else:
        said.append("systemd does not run here.")
    names = sorted(credential_files(layout))
    if names:
        said.append(f"Secrets: {', '.join(names)}.")
    return said


def _who(choice: Choice) -> str:
    return f"{choice.account} and the group {choice.group}" if choice.group else choice.account


def _make_account(choice: Choice) -> str:
    import grp

    if choice.group:
        try:
            grp.getgrnam(choice.group)
        except KeyError:
            raise ConfigurationError(
                f"There is no group {choice.group} on this computer.",
                f"Make it (groupadd {choice.group}) and put into it who may open the window.",
                code="service",
            ) from None
    if _account_exists(choice.account):
        return f"It runs under the account {choice.account}."
    run(
        [
            "useradd", "--system", "--user-group", "--no-create-home", "--home-dir", str(machine_folder()),
            "--shell", shutil.which("nologin") or "/usr/sbin/nologin", "--comment", "DICOM Ferry, unattended",
            choice.account,
        ]
    )  # fmt: skip
    return f"Made the account {choice.account}, which can't log in."


def _account_exists(account: str) -> bool:
    import pwd

    try:
        pwd.getpwnam(account)
    except KeyError:
        return False
    return True


def _may_run_program(account: str) -> None:
    """A program in somebody's own folder can't be started by another account; better known now than in the night."""
    words = program()
    reason = refusal(["runuser", "-u", account, "--", *words, "--version"], seconds=60)
    if reason:
        raise ConfigurationError(
            f"The account {account} can't run {words[0]}.",
            "Install DICOM Ferry where every account may read it, such as /opt/dicom-ferry, and call it from there.",
            detail=reason,
            code="service",
        )


def _make_home(home: Path, choice: Choice) -> None:
    """The home with its mark, owned by the account; what is there already is opened to the group or closed to it."""
    import grp
    import pwd

    account = pwd.getpwnam(choice.account)
    owner, group = account.pw_uid, grp.getgrnam(choice.group).gr_gid if choice.group else account.pw_gid
    home.mkdir(parents=True, exist_ok=True)
    os.chown(home, owner, group)
    home.chmod(0o2770 if choice.group else 0o700)
    write_file(home / MARK, mark_text(Unattended(choice.account, choice.group)), 0o660 if choice.group else 0o600)
    for name in _SHARED_FOLDERS:
        folder = home / name
        if folder.is_dir() and not folder.is_symlink():
            os.chown(folder, owner, group)
            folder.chmod(0o2770 if choice.group else 0o700)
    for pattern in _SHARED_FILES:
        for path in home.glob(pattern):
            if path.is_file() and not path.is_symlink():
                os.chown(path, owner, group)
                path.chmod(0o660 if choice.group else 0o600)


def _mark(home: Path) -> Unattended | None:
    try:
        return read_mark(home)
    except (OSError, ValueError):
        return None
