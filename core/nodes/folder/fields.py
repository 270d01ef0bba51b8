"""The declared fields of a folder node."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path, PureWindowsPath

from pydantic import field_validator

from core.model.fields import FieldType, declared
from core.model.node import NodeFields

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Layout(StrEnum):
    """How files are named when images are written into the folder."""

    UID = "uid"
    PATIENT = "patient"
    DICOMDIR = "dicomdir"


class FolderFields(NodeFields):
    """A folder on this computer, a share, or a ZIP file."""

    path: str = declared(
        title="Folder or ZIP file",
        help="A folder on this computer, a share such as \\\\server\\exchange, or a file that ends in .zip.",
        type=FieldType.FOLDER,
        min_length=1,
        max_length=4096,
        placeholder="D:\\Export",
        group="Where",
    )
    layout: Layout = declared(
        Layout.UID,
        title="Names of written files",
        help="Used when images are written here. Reading finds every image, whatever its name.",
        labels={
            "uid": "By UID (study, series, image)",
            "patient": "Readable (patient, date and description, series)",
            "dicomdir": "Short names for media, with a DICOMDIR",
        },
        group="Writing",
    )
    dicomdir: bool = declared(
        True,
        title="Keep a DICOMDIR",
        help="With the short names: write the file DICOMDIR (PS3.10) and keep it current.",
        advanced=True,
        group="Writing",
    )
    create: bool = declared(
        True,
        title="Create when missing",
        help="Make the folder when it isn't there yet. The folder that it lies in must exist.",
        advanced=True,
        group="Writing",
    )

    @field_validator("path")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if _CONTROL.search(value):
            raise ValueError("the path has a character that no path can have")
        if PureWindowsPath(value).is_absolute():
            return value
        try:
            return str(Path(value).expanduser().absolute())
        except RuntimeError as error:
            raise ValueError("there is no home folder of that name") from error

    @property
    def is_zip(self) -> bool:
        return self.path.lower().endswith(".zip")
