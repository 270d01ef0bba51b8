"""Secrets of the systemd unit: credentials that systemd decrypts when it starts the engine, and hands over in memory.

They lie in files that only root may read, encrypted with the computer's key (systemd-creds(1)); a drop-in of the unit
names them. `core.credentials` reads them.
"""

from __future__ import annotations

from pathlib import Path

from core.credentials import credential_name
from core.secrets import variable_name
from core.unattended.commands import run
from core.unattended.layout import UNIT, Layout, cant_write, make_folder, need, need_root, systemctl, write_file


def give_secret(node: str, field: str, value: str, *, plain: bool = False, layout: Layout | None = None) -> list[str]:
    """Keep a secret as a credential of the unit, and have the running engine take it.

    Parameters
    ----------
    plain : bool
        As a file that only root may read, where this systemd can't encrypt (before 250).

    Raises
    ------
    ConfigurationError
    LocalError
    """
    layout = layout or Layout()
    need_root()
    name = credential_name(variable_name(node, field))
    encrypted, readable = (layout.credentials / f"{name}.{kind}" for kind in ("cred", "plain"))
    target, other = (readable, encrypted) if plain else (encrypted, readable)
    if not plain:
        need(
            "systemd-creds",
            "The systemd of this computer can't encrypt secrets (that came with version 250).",
            "With --plain the secret is kept in a file that only root may read.",
        )
    try:
        make_folder(layout.credentials)
        new = target.with_suffix(".new")
        if plain:
            write_file(new, value, 0o600)
        else:
            new.unlink(missing_ok=True)
            run(["systemd-creds", "encrypt", f"--name={name}", "-", str(new)], stdin=value)
            new.chmod(0o600)
        new.replace(target)
        other.unlink(missing_ok=True)
        write_secrets_conf(layout)
    except OSError as error:
        raise cant_write(error) from error
    kept = "in a file that only root may read" if plain else "encrypted with this computer's key"
    return [f"Kept {target} ({kept}), for the unattended engine alone.", *_taken(layout)]


def forget_secret(node: str, field: str, layout: Layout | None = None) -> list[str]:
    """Remove a credential."""
    layout = layout or Layout()
    need_root()
    path = credential_files(layout).get(credential_name(variable_name(node, field)))
    if path is None:
        return ["There is no such secret."]
    try:
        path.unlink()
        write_secrets_conf(layout)
    except OSError as error:
        raise cant_write(error) from error
    return [f"Removed {path}.", *_taken(layout)]


def _taken(layout: Layout) -> list[str]:
    if not layout.running:
        return ["The engine takes it when it starts."]
    systemctl(layout, "daemon-reload")
    systemctl(layout, "try-restart", UNIT)
    return ["The engine was started anew with it, if it ran."]


def credential_files(layout: Layout) -> dict[str, Path]:
    """By the name of the credential; readable ones end with .plain."""
    try:
        return {p.stem: p for p in sorted(layout.credentials.iterdir()) if p.suffix in (".cred", ".plain")}
    except OSError:
        return {}


def write_secrets_conf(layout: Layout) -> None:
    lines = ["# Written by `dicom-ferry service secret`.", "[Service]"]
    for name, path in sorted(credential_files(layout).items()):
        option = "LoadCredentialEncrypted" if path.suffix == ".cred" else "LoadCredential"
        lines.append(f"{option}={name}:/{path.relative_to(layout.root)}")
    if len(lines) == 2:
        layout.secrets_conf.unlink(missing_ok=True)
        return
    write_file(layout.secrets_conf, "\n".join(lines) + "\n", 0o644)
