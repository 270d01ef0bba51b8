"""What installers, frozen program and source tree must agree on; the whole is proved by `make windows`."""

from __future__ import annotations

import re
import struct
import tomllib
from importlib import import_module
from pathlib import Path
from xml.etree import ElementTree

import pytest
from packaging.requirements import Requirement

from core.asked_to_end import event_name
from core.cli import IN_TRAY
from core.jobs.registry import job_kinds
from core.nodes.registry import node_kinds
from core.steps.registry import step_kinds
from gui.taskbar import APP_ID
from installer import freezing
from installer.icon import SIZES, ico
from installer.windows import product
from installer.windows.msi import _product as msi_source
from installer.windows.windows_python import LOCK, ROOT, TEST_LOCK

WINDOWS = ROOT / "installer" / "windows"
SETUP = (WINDOWS / "setup.nsi").read_text(encoding="utf-8")
CLOSING = (WINDOWS / "closing.c").read_text(encoding="utf-8")
WIX = "{http://schemas.microsoft.com/wix/2006/wi}"


def test_every_kind_is_frozen() -> None:
    modules = freezing.kind_modules()
    for kind in (*node_kinds.all().values(), *job_kinds.all().values(), *step_kinds.all().values()):
        where = type(kind).__module__
        assert any(where == module or where.startswith(f"{module}.") for module in modules), where


@pytest.mark.parametrize(
    ("path", "left_out"),
    [
        ("PySide6\\opengl32sw.dll", True),
        ("PySide6/plugins/tls/qopensslbackend.dll", True),
        ("PySide6/plugins/tls/qschannelbackend.dll", False),
        ("PySide6/plugins/platforms/qwindows.dll", False),
        ("PySide6/plugins/platforms/qoffscreen.dll", False),
        ("PySide6/plugins/imageformats/qsvg.dll", False),
        ("_gdcm\\gdcmconv.exe", True),
        ("_gdcm\\_gdcmswig.pyd", False),
        ("resources/status_policy.toml", False),
        ("resources/pictures/transfers.png", True),
    ],
)
def test_what_is_left_out(path: str, left_out: bool) -> None:
    assert freezing.is_unused(path) is left_out


def test_nothing_of_ours_is_left_out() -> None:
    modules = [
        ("core.cli", "", ""),
        ("gui.app", "", ""),
        ("pygments.lexers.fortran", "", ""),
        ("pygments.lexers", "", ""),
    ]
    assert [m[0] for m in freezing.needed(modules)] == ["core.cli", "gui.app", "pygments.lexers"]


def test_an_icon_holds_its_pictures() -> None:
    pictures = {size: bytes([size % 256]) * (size + 1) for size in SIZES}
    data = ico(pictures)
    assert struct.unpack_from("<HHH", data) == (0, 1, len(SIZES))
    for number, size in enumerate(SIZES):
        edge, _, _, _, _, bits, length, offset = struct.unpack_from("<BBBBHHII", data, 6 + 16 * number)
        assert (edge or 256, bits) == (size, 32)
        assert data[offset : offset + length] == pictures[size]


# --- names that several languages share


def test_names_of_the_program() -> None:
    assert f"{freezing.WINDOW_NAME}.exe" == product.WINDOW_EXE
    assert f"{freezing.CONSOLE_NAME}.exe" == product.CONSOLE_EXE
    for name in (product.WINDOW_EXE, product.CONSOLE_EXE):
        assert f'"{name}"' in SETUP
        assert f'L"{name}"' in CLOSING
    assert product.AT_LOGIN == IN_TRAY
    assert f"{IN_TRAY}'" in SETUP


def test_the_identity_on_the_taskbar() -> None:
    assert product.APP_ID == APP_ID
    assert f'!define APP_ID "{APP_ID}"' in SETUP
    assert SETUP.count("CreateShortcut ") == SETUP.count("!insertmacro Identify ")


def test_the_event_that_ends_a_copy() -> None:
    asked = re.search(r'L"(Global[^"]*-)%lu"', CLOSING)
    assert asked is not None
    assert asked.group(1).replace("\\\\", "\\") == event_name(7).removesuffix("7")


def test_exit_statuses_of_the_setup() -> None:
    told = {name: int(value) for name, value in re.findall(r"^!define (\w+) (\d)$", SETUP, re.MULTILINE)}
    for name in ("STILL_RUNNING", "NEWER_INSTALLED", "OTHER_INSTALLER", "FILES_IN_USE"):
        assert told[name] == getattr(product, name)


def test_the_registry_is_written_where_both_installers_look() -> None:
    for key in (product.REGISTRY_KEY, product.RUN_KEY, product.UNINSTALL_KEY):
        assert f'"{key}"' in SETUP


def test_the_manifest_is_well_formed() -> None:
    text = (WINDOWS / "dicom-ferry.manifest").read_text(encoding="utf-8")
    ElementTree.fromstring(text)
    for wanted in ("longPathAware", "PerMonitorV2", "asInvoker", "Common-Controls"):
        assert wanted in text


# --- the MSI


@pytest.fixture
def frozen(tmp_path: Path) -> Path:
    for name in (product.WINDOW_EXE, product.CONSOLE_EXE, "_internal/a/b.dll", "_internal/a/ü ü.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


def test_each_component_belongs_to_one_feature(frozen: Path) -> None:
    tree = ElementTree.fromstring(ElementTree.tostring(msi_source(frozen, "1.2.3")))
    components = [element.attrib["Id"] for element in tree.iter(f"{WIX}Component")]
    chosen = [element.attrib["Id"] for element in tree.iter(f"{WIX}ComponentRef")]
    assert sorted(components) == sorted(chosen)
    assert len(set(components)) == len(components) >= 4
    identifiers = [e.attrib["Id"] for e in tree.iter() if "Id" in e.attrib and e.tag != f"{WIX}Media"]
    assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]{0,71}|[0-9A-F-]{36}", name) for name in identifiers)


def test_two_versions_are_one_product(frozen: Path) -> None:
    old, new = (ElementTree.fromstring(ElementTree.tostring(msi_source(frozen, v))) for v in ("1.2.3", "1.3.0"))
    guids = [[e.attrib["Guid"] for e in tree.iter(f"{WIX}Component")] for tree in (old, new)]
    assert guids[0] == guids[1]
    products = [next(tree.iter(f"{WIX}Product")).attrib for tree in (old, new)]
    assert products[0]["UpgradeCode"] == products[1]["UpgradeCode"]
    assert products[0]["Id"] != products[1]["Id"]


# --- pinned packages


def pinned(lock: Path) -> dict[str, str]:
    found = {}
    for line in lock.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            match = re.fullmatch(r"([a-z0-9-]+)==(\S+) --hash=sha256:[0-9a-f]{64}", line)
            assert match is not None, line
            found[match.group(1)] = match.group(2)
    return found


def test_what_is_pinned_is_what_is_asked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    versions = pinned(LOCK)
    for line in (*project["dependencies"], *project["optional-dependencies"]["freeze"]):
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"sys_platform": "win32"}):
            continue
        name = wanted.name.lower().replace("_", "-").replace(".", "-")
        assert name in versions, f"{name}: run python -m installer.windows.lock"
        assert wanted.specifier.contains(versions[name]), f"{name}: run python -m installer.windows.lock"
    assert "pywin32-ctypes" in versions  # keyring's way to the Credential Manager
    assert not set(versions) & {"pytest", "hypothesis"}
    assert "pytest" in pinned(TEST_LOCK)


def test_the_entry_is_the_command_line() -> None:
    assert "from core.cli import main" in (ROOT / "installer" / "entry.py").read_text(encoding="utf-8")
    assert callable(import_module("core.cli").main)
