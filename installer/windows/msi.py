"""The MSI for hospital IT: per machine, silent, upgraded in place; made by wixl from the frozen folder."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import uuid
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from installer.windows.product import (
    APP_ID,
    AT_LOGIN,
    CONSOLE_EXE,
    MAKER,
    NAME,
    REGISTRY_KEY,
    RUN_KEY,
    UNATTENDED,
    UPGRADE_CODE,
    WINDOW_EXE,
)

_XMLNS = "http://schemas.microsoft.com/wix/2006/wi"
#: Features that are chosen, and the values by which an upgrade knows that they were.
_SHORTCUTS = ("Menu", "Desktop")
_CHOICES = ("StartAtLogin", "DesktopShortcut", UNATTENDED)
_UPGRADE = uuid.UUID(UPGRADE_CODE)


def build_msi(frozen: Path, closing: Path, icon: Path, version: str, target: Path, work: Path) -> Path:
    """Make the MSI.

    Parameters
    ----------
    frozen : Path
        The folder that PyInstaller made.
    closing : Path
        The library that asks running copies to end.
    work : Path
        An empty folder is made here; wixl takes relative names only.
    """
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    (work / "frozen").symlink_to(frozen.resolve())
    shutil.copy2(closing, work / "closing.dll")
    shutil.copy2(icon, work / "dicom-ferry.ico")
    source = work / "dicom-ferry.wxs"
    tree = ElementTree.ElementTree(_product(frozen, version))
    ElementTree.indent(tree)
    tree.write(source, encoding="utf-8", xml_declaration=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["wixl", "-a", "x64", "-o", str(target.resolve()), source.name], cwd=work, check=True, timeout=600)
    _complete(target)
    return target


def _complete(target: Path) -> None:
    """What wixl can't write: properties that must reach the part with the system's rights, conditions of features."""
    queries = [
        "UPDATE `Property` SET `Value` = 'WIX_UPGRADE_DETECTED;WIX_DOWNGRADE_DETECTED;REMOVEDATA;INSTALLFOLDER' "
        "WHERE `Property` = 'SecureCustomProperties'",
        "CREATE TABLE `Condition` (`Feature_` CHAR(38) NOT NULL, `Level` SHORT NOT NULL, `Condition` CHAR(255) "
        "PRIMARY KEY `Feature_`, `Level`)",
        # Windows Installer 5: the shortcuts have the identity that the program has on the taskbar.
        "CREATE TABLE `MsiShortcutProperty` (`MsiShortcutProperty` CHAR(72) NOT NULL, `Shortcut_` CHAR(72) NOT NULL, "
        "`PropertyKey` CHAR(255) NOT NULL, `PropVariantValue` CHAR(255) NOT NULL PRIMARY KEY `MsiShortcutProperty`)",
        *(
            "INSERT INTO `MsiShortcutProperty` (`MsiShortcutProperty`, `Shortcut_`, `PropertyKey`, `PropVariantValue`) "
            f"VALUES ('Identity{where}', 'Shortcut{where}File', 'System.AppUserModel.ID', '{APP_ID}')"
            for where in _SHORTCUTS
        ),
        # An upgrade has what was chosen before.
        *(
            f"INSERT INTO `Condition` (`Feature_`, `Level`, `Condition`) VALUES ('{name}', 1, 'WITH{name.upper()}')"
            for name in _CHOICES
        ),
    ]
    for query in queries:
        subprocess.run(["msibuild", str(target.resolve()), "-q", query], check=True, timeout=60)


def _product(frozen: Path, version: str) -> Element:
    root = Element("Wix", xmlns=_XMLNS)
    product = SubElement(
        root, "Product", Id=_guid(f"product {version}"), Name=NAME, Manufacturer=MAKER, Version=version,
        UpgradeCode=UPGRADE_CODE, Language="1033",
    )  # fmt: skip
    SubElement(
        product, "Package", InstallerVersion="500", Compressed="yes", InstallScope="perMachine",
        Description=f"{NAME} {version}", Manufacturer=MAKER,
    )  # fmt: skip
    # The old version is removed first, so that nothing of it stays behind; a newer one is never replaced.
    SubElement(
        product, "MajorUpgrade", DowngradeErrorMessage=f"A newer version of {NAME} is installed."
    )  # fmt: skip
    SubElement(product, "Media", Id="1", Cabinet="program.cab", EmbedCab="yes")
    SubElement(product, "Icon", Id="FerryIcon", SourceFile="dicom-ferry.ico")
    SubElement(product, "Property", Id="ARPPRODUCTICON", Value="FerryIcon")
    SubElement(product, "Property", Id="ARPNOMODIFY", Value="1")
    _found(product, "INSTALLEDBEFORE", "InstallFolder")
    _found(product, "INSTALLEDBY", "Installer")
    for name in _CHOICES:
        _found(product, f"WITH{name.upper()}", name)
    refused = SubElement(
        product, "Condition",
        Message=f"{NAME} was installed by its setup program. Uninstall that first: settings and records stay.",
    )  # fmt: skip
    refused.text = 'Installed OR INSTALLEDBY <> "setup"'
    _folders_and_features(product, frozen, version)
    _actions(product)
    return root


def _folders_and_features(product: Element, frozen: Path, version: str) -> None:
    top = SubElement(product, "Directory", Id="TARGETDIR", Name="SourceDir")
    programs = SubElement(top, "Directory", Id="ProgramFiles64Folder")
    folder = SubElement(programs, "Directory", Id="INSTALLFOLDER", Name=NAME)
    menu = SubElement(top, "Directory", Id="ProgramMenuFolder")
    desktop = SubElement(top, "Directory", Id="DesktopFolder")

    program = SubElement(
        product, "Feature", Id="Program", Title=NAME, Level="1", Absent="disallow", AllowAdvertise="no",
        ConfigurableDirectory="INSTALLFOLDER",
    )  # fmt: skip
    _files(folder, program, frozen)
    told = _component(folder, program, "Told")
    key = SubElement(told, "RegistryKey", Root="HKLM", Key=REGISTRY_KEY)
    for number, (name, value) in enumerate(
        (("Installer", "msi"), ("InstallFolder", "[INSTALLFOLDER]"), ("Version", version))
    ):
        entry = SubElement(key, "RegistryValue", Name=name, Value=value, Type="string")
        if not number:
            entry.set("KeyPath", "yes")
    _shortcut(menu, program, "Menu")

    at_login = SubElement(product, "Feature", Id="StartAtLogin", Title="Start when anybody logs in", Level="1000")
    run = _component(folder, at_login, "AtLogin")
    SubElement(
        run, "RegistryValue", Root="HKLM", Key=RUN_KEY, Name=NAME, Type="string", KeyPath="yes",
        Value=f'"[INSTALLFOLDER]{WINDOW_EXE}" {AT_LOGIN}',
    )  # fmt: skip
    SubElement(
        run, "RegistryValue", Root="HKLM", Key=REGISTRY_KEY, Name="StartAtLogin", Type="string", Value="1"
    )  # fmt: skip
    unattended = SubElement(
        product, "Feature", Id=UNATTENDED, Title="Run with nobody logged in (start-up task)", Level="1000",
        AllowAdvertise="no",
    )  # fmt: skip
    chosen = _component(folder, unattended, "UnattendedTask")
    SubElement(
        chosen, "RegistryValue", Root="HKLM", Key=REGISTRY_KEY, Name=UNATTENDED, Type="string", Value="1",
        KeyPath="yes",
    )  # fmt: skip
    on_desktop = SubElement(product, "Feature", Id="DesktopShortcut", Title="Shortcut on the desktop", Level="1000")
    _shortcut(desktop, on_desktop, "Desktop")


def _found(product: Element, name: str, value: str) -> None:
    """A property with what an earlier installation wrote down."""
    found = SubElement(product, "Property", Id=name)
    SubElement(
        found, "RegistrySearch", Id=f"Find{value}", Root="HKLM", Key=REGISTRY_KEY, Name=value, Type="raw", Win64="yes"
    )


def _actions(product: Element) -> None:
    """Ask running copies to end before anything is touched, and for the data at an uninstall that shows itself."""
    SubElement(product, "Binary", Id="Closing", SourceFile="closing.dll")
    SubElement(product, "CustomAction", Id="CloseRunning", BinaryKey="Closing", DllEntry="CloseRunning")
    SubElement(product, "CustomAction", Id="AskAboutData", BinaryKey="Closing", DllEntry="AskAboutData")
    # By the program itself, as the person who uninstalls: it knows the passwords in that person's keyring.
    SubElement(
        product, "CustomAction", Id="RemoveData", FileKey=_file_id(CONSOLE_EXE), ExeCommand="remove-data --yes",
        Return="ignore",
    )  # fmt: skip
    # The task of the unattended engine, with the system's rights. Where it can't be registered, a first installation
    # fails and all is as it was; an upgrade goes on, for the older version is gone by then.
    for action, words, how in (
        ("InstallTask", "service install", "check"),
        ("RenewTask", "service install", "ignore"),
        ("DropTask", "service remove", "ignore"),
        ("RemoveTask", "service remove", "ignore"),
        ("RemoveTaskAndData", "service remove --remove-data --yes", "ignore"),
    ):
        SubElement(
            product, "CustomAction", Id=action, FileKey=_file_id(CONSOLE_EXE), ExeCommand=words, Return=how,
            Execute="deferred", Impersonate="no",
        )  # fmt: skip
    SubElement(
        product, "CustomAction", Id="SwitchTaskOn", BinaryKey="Closing", DllEntry="SwitchTaskOn", Execute="rollback",
        Impersonate="no", Return="ignore",
    )  # fmt: skip
    # Upgraded and uninstalled where it is, unless another folder is named.
    SubElement(product, "CustomAction", Id="KeepFolder", Property="INSTALLFOLDER", Value="[INSTALLEDBEFORE]")
    uninstalling = 'REMOVE="ALL" AND NOT UPGRADINGPRODUCTCODE'
    before = f"WITH{UNATTENDED.upper()}"
    goes = f'{before} AND (&{UNATTENDED}=2 OR REMOVE="ALL") AND NOT UPGRADINGPRODUCTCODE'
    order = SubElement(product, "InstallExecuteSequence")
    # By number: wixl's own order of what only stands "after" something is not to be relied on.
    for action, sequence, condition in (
        ("KeepFolder", 799, "INSTALLEDBEFORE AND NOT INSTALLFOLDER"),  # behind AppSearch, before CostInitialize
        ("CloseRunning", 1001, "1"),  # behind CostFinalize
        ("AskAboutData", 1002, uninstalling),
        ("RemoveData", 1003, f"{uninstalling} AND REMOVEDATA"),
        ("SwitchTaskOn", 1501, before),  # behind InstallInitialize
        ("RemoveTask", 1502, f"{goes} AND NOT REMOVEDATA"),
        ("RemoveTaskAndData", 1503, f"{goes} AND REMOVEDATA"),
        ("InstallTask", 5001, f"&{UNATTENDED}=3 AND NOT {before}"),  # behind WriteRegistryValues
        ("RenewTask", 5002, f"&{UNATTENDED}=3 AND {before}"),
        ("DropTask", 5003, f"&{UNATTENDED}<>3 AND {before} AND NOT Installed"),
    ):
        step = SubElement(order, "Custom", Action=action, Sequence=str(sequence))
        step.text = condition


def _files(top: Element, feature: Element, frozen: Path) -> None:
    """Each file a component of its own, as Windows Installer wants it; folders as they are."""
    folders: dict[Path, Element] = {Path(): top}
    for path in sorted(frozen.rglob("*")):
        name = path.relative_to(frozen)
        parent = folders[name.parent]
        if path.is_dir():
            folders[name] = SubElement(parent, "Directory", Id=_identifier("d", name), Name=name.name)
            continue
        component = SubElement(parent, "Component", Id=_identifier("c", name), Guid=_guid(f"file {name.as_posix()}"))
        component.set("Win64", "yes")
        SubElement(
            component, "File", Id=_file_id(name.as_posix()), Source=f"frozen/{name.as_posix()}", Name=name.name,
            KeyPath="yes",
        )  # fmt: skip
        SubElement(feature, "ComponentRef", Id=_identifier("c", name))


def _shortcut(folder: Element, feature: Element, where: str) -> None:
    component = _component(folder, feature, f"Shortcut{where}")
    SubElement(
        component, "Shortcut", Id=f"Shortcut{where}File", Name=NAME, Target=f"[INSTALLFOLDER]{WINDOW_EXE}",
        WorkingDirectory="INSTALLFOLDER", Icon="FerryIcon",
        Description="Carries imaging studies from one place to another, and proves that every image arrived",
    )  # fmt: skip
    SubElement(
        component, "RegistryValue", Root="HKLM", Key=REGISTRY_KEY, Name=f"{where}Shortcut", Type="string", Value="1",
        KeyPath="yes",
    )  # fmt: skip


def _component(folder: Element, feature: Element, name: str) -> Element:
    component = SubElement(folder, "Component", Id=name, Guid=_guid(f"component {name}"), Win64="yes")
    SubElement(feature, "ComponentRef", Id=name)
    return component


def _guid(of: str) -> str:
    return str(uuid.uuid5(_UPGRADE, of)).upper()


def _file_id(name: str) -> str:
    return _identifier("f", Path(name))


def _identifier(kind: str, name: Path) -> str:
    """At most 72 letters, digits, points and underlines; the same for the same file in every version."""
    return f"{kind}{hashlib.sha256(name.as_posix().encode()).hexdigest()[:24]}"
