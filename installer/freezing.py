"""What goes into the frozen program and what is left out; used by the PyInstaller specification."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from importlib import import_module

WINDOW_NAME = "DICOM Ferry"
CONSOLE_NAME = "dicom-ferry"

#: Never imported by the program, but within reach of a library that can do more.
EXCLUDED = [
    "IPython", "PIL", "PyInstaller", "_pytest", "hypothesis", "matplotlib", "numpy", "pandas", "pytest", "pytestqt",
    "setuptools", "pip", "mypy", "pydantic.mypy", "cffi", "tkinter", "unittest", "lib2to3", "pydoc_data", "test",
    "PySide6.QtQml", "PySide6.QtQuick", "PySide6.QtOpenGL", "PySide6.QtDBus", "PySide6.QtTest", "PySide6.QtSql",
    "pynetdicom.apps", "pynetdicom.tests", "alembic.testing",
    "sqlalchemy.testing", "sqlalchemy.dialects.mssql", "sqlalchemy.dialects.mysql", "sqlalchemy.dialects.oracle",
]  # fmt: skip

#: Modules that a library imports only when it is asked for what the program never asks: colours for the source
#: code of five hundred languages, pydantic's old self.
UNUSED_MODULES = ("pygments.lexers.*", "pygments.styles.*", "pygments.formatters.*", "pydantic.v1.*", "pydantic.v1")
KEPT_MODULES = (
    "pygments.lexers._mapping", "pygments.lexers.python", "pygments.lexers.special", "pygments.lexers.text",
    "pygments.formatters._mapping", "pygments.styles._mapping", "pygments.styles.default",
)  # fmt: skip

#: Files that libraries bring and the program never opens. Paths in the frozen folder, with slashes.
UNUSED = (
    # Qt: software OpenGL (20 MB), the OpenSSL way of TLS (ours is Python's), formats and inputs that we don't show.
    "*/opengl32sw.dll", "*/libEGL*", "*/libGLESv2*", "*/d3dcompiler*.dll",
    "*/plugins/tls/*openssl*", "*/plugins/platforms/*qdirect2d*", "*/plugins/platforms/*qminimal*",
    "*/plugins/platforms/*qvnc*", "*/plugins/platforms/*qlinuxfb*", "*/plugins/platforms/*eglfs*",
    "*/plugins/platforms/*vkkhr*", "*/plugins/egldeviceintegrations/*",
    "*/plugins/imageformats/*qgif*", "*/plugins/imageformats/*qicns*", "*/plugins/imageformats/*qpdf*",
    "*/plugins/imageformats/*qtga*", "*/plugins/imageformats/*qtiff*", "*/plugins/imageformats/*qwbmp*",
    "*/plugins/imageformats/*qwebp*", "*/plugins/imageformats/*qjpeg*",
    "*/plugins/platforminputcontexts/*qtvirtualkeyboard*", "*/plugins/generic/*", "*/plugins/networkinformation/*",
    "*/plugins/qmltooling/*",
    "*/Qt6Pdf*", "*/Qt6Qml*", "*/Qt6Quick*", "*/Qt6VirtualKeyboard*", "*/Qt6OpenGL.dll", "*/Qt6WaylandCompositor*",
    "*/libQt6Pdf*", "*/libQt6Qml*", "*/libQt6Quick*", "*/libQt6VirtualKeyboard*",
    "*/translations/qt_help_*", "*/translations/qtdeclarative_*", "*/translations/qtmultimedia_*",
    "*/translations/*.qm",
    # GDCM: its command line tools and link libraries (110 MB).
    "_gdcm/*.exe", "_gdcm/*.lib",
    # Examples and tests.
    "pydicom/data/test_files/*", "pydicom/data/charset_files/*", "pydicom/data/palettes/*", "pynetdicom/apps/*",
    "pynetdicom/tests/*", "resources/pictures/*", "*/__pycache__/*",
    # What pip has written down, such as the hashes of scripts that name the Python of whoever builds.
    "*.dist-info/RECORD",
)  # fmt: skip


def kind_modules() -> list[str]:
    """All modules that may register a kind of node, job or step: found by the program's own walk."""
    found = []
    for package, name in (("nodes", "node_kinds"), ("jobs", "job_kinds"), ("steps", "step_kinds")):
        kinds = getattr(import_module(f"core.{package}.registry"), name)
        kinds.all()  # one that can't be imported must end the build, not be missing from the program
        found += kinds.modules()
    return found


def slim(entries: Iterable[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """The entries of PyInstaller's table that are kept."""
    return [entry for entry in entries if not is_unused(entry[0])]


def newest_runtime(entries: Iterable[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """The entries, with each of Microsoft's run-time libraries in its newest version, wherever it is put.

    Several packages bring their own, and Windows uses the one that was loaded first for all of them: a library
    that was built for a newer one may crash with an older one (Python 3.11's is of 2024, GDCM's and Qt's are newer).
    """
    entries = list(entries)
    newest: dict[str, tuple[tuple[int, ...], str]] = {}
    for destination, source, _ in entries:
        name = destination.replace("\\", "/").rsplit("/", 1)[-1].lower()
        if name.startswith(("msvcp140", "vcruntime140", "concrt140")):
            newest[name] = max(newest.get(name, ((), "")), (_file_version(source), source))
    found = []
    for destination, source, kind in entries:
        name = destination.replace("\\", "/").rsplit("/", 1)[-1].lower()
        found.append((destination, newest[name][1] if name in newest else source, kind))
    return found


def _file_version(path: str) -> tuple[int, ...]:
    """The version in a Windows library's resources."""
    import pefile  # type: ignore[import-untyped]

    image = pefile.PE(path, fast_load=True)
    try:
        image.parse_data_directories([pefile.DIRECTORY_ENTRY["IMAGE_DIRECTORY_ENTRY_RESOURCE"]])
        told = image.VS_FIXEDFILEINFO[0]
        return (
            told.FileVersionMS >> 16,
            told.FileVersionMS & 0xFFFF,
            told.FileVersionLS >> 16,
            told.FileVersionLS & 0xFFFF,
        )
    finally:
        image.close()


def needed(modules: Iterable[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """The modules of PyInstaller's table that are kept."""
    return [entry for entry in modules if entry[0] in KEPT_MODULES or not _is_unused_module(entry[0])]


def _is_unused_module(name: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in UNUSED_MODULES)


def is_unused(destination: str) -> bool:
    """Whether a file is left out, by its path in the frozen folder."""
    path = destination.replace("\\", "/")
    return any(fnmatch.fnmatch(path, pattern) or fnmatch.fnmatch(f"/{path}", pattern) for pattern in UNUSED)
