"""What each Windows program and library of the frozen folder is: 64-bit, ours or Windows', nothing of Wine's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from installer.windows.product import CONSOLE_EXE, WINDOW_EXE

#: Libraries of Windows 10 that ours may ask for. Anything else must lie in the frozen folder.
OF_WINDOWS = frozenset(
    """
    advapi32 authz bcrypt bcryptprimitives comctl32 comdlg32 crypt32 cryptbase d3d9 d3d11 d3d12 dcomp dnsapi dwmapi
    dwrite d2d1 dxgi gdi32 gdiplus icuuc imm32 iphlpapi kernel32 mpr msi msimg32 msvcrt netapi32 ncrypt ntdll ole32
    oleaut32 powrprof propsys psapi rpcrt4 secur32 setupapi shcore shell32 shlwapi uiautomationcore user32 userenv
    uxtheme version winhttp winmm winspool ws2_32 wtsapi32
    """.split()  # noqa: SIM905 - a list of words
)
_AMD64 = 0x8664
_WINE_MARKS = (b"Wine builtin DLL", b"Wine placeholder DLL")
_GUI, _CONSOLE = 2, 3


def check_folder(folder: Path) -> list[str]:
    """What is wrong with the programs and libraries of a frozen folder; nothing, if all is well."""
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in (".exe", ".dll", ".pyd")]
    here = {path.name.lower() for path in files}
    wrong = [f"{path.relative_to(folder)}: {what}" for path in files for what in _check(path, here)]
    for name, subsystem in ((WINDOW_EXE, _GUI), (CONSOLE_EXE, _CONSOLE)):
        if name.lower() not in here:
            wrong.append(f"{name} is missing")
        else:
            wrong += [f"{name}: {what}" for what in _check_program(folder / name, subsystem)]
    if len(files) < 30:
        wrong.append(f"only {len(files)} programs and libraries were found")
    print(f"{len(files)} programs and libraries, {len(wrong)} findings")
    return wrong


def _check(path: Path, here: set[str]) -> Iterator[str]:
    import pefile  # type: ignore[import-untyped]

    if any(mark in path.read_bytes()[:4096] for mark in _WINE_MARKS):
        yield "it is Wine's"
    image = pefile.PE(str(path), fast_load=True)
    try:
        if image.FILE_HEADER.Machine != _AMD64:
            yield f"it is for another processor ({image.FILE_HEADER.Machine:04X}h)"
        image.parse_data_directories(
            [
                pefile.DIRECTORY_ENTRY["IMAGE_DIRECTORY_ENTRY_IMPORT"],
                pefile.DIRECTORY_ENTRY["IMAGE_DIRECTORY_ENTRY_DELAY_IMPORT"],
            ]
        )
        for entry in (
            *getattr(image, "DIRECTORY_ENTRY_IMPORT", ()),
            *getattr(image, "DIRECTORY_ENTRY_DELAY_IMPORT", ()),
        ):
            name = entry.dll.decode().lower()
            stem = name.rsplit(".", 1)[0]
            if name not in here and stem not in OF_WINDOWS and not name.startswith("api-ms-win-"):
                yield f"it asks for {name}, which is neither here nor part of Windows 10"
    finally:
        image.close()


def _check_program(path: Path, subsystem: int) -> Iterator[str]:
    """The resources of one of our own two programs."""
    import pefile

    image = pefile.PE(str(path))
    try:
        if image.OPTIONAL_HEADER.Subsystem != subsystem:
            yield "it has a console where it should have none, or none where it needs one"
        texts = {
            entry.id: image.get_data(found.data.struct.OffsetToData, found.data.struct.Size)
            for entry in image.DIRECTORY_ENTRY_RESOURCE.entries
            for name in entry.directory.entries
            for found in name.directory.entries
        }
        manifest = texts.get(pefile.RESOURCE_TYPE["RT_MANIFEST"], b"")
        for wanted in (b"longPathAware", b"PerMonitorV2", b"asInvoker"):
            if wanted not in manifest:
                yield f"its manifest lacks {wanted.decode()}"
        for kind in ("RT_GROUP_ICON", "RT_VERSION"):
            if pefile.RESOURCE_TYPE[kind] not in texts:
                yield f"it has no {kind}"
    finally:
        image.close()
