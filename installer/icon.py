"""The program's icon as Windows wants it, drawn from the same SVG file as the window's."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

SIZES = (16, 20, 24, 32, 40, 48, 64, 128, 256)


def write_icon(path: Path) -> None:
    """Write an ICO file with PNG pictures of all sizes that Windows asks for."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from PySide6.QtCore import QBuffer, QIODevice
    from PySide6.QtWidgets import QApplication

    from gui.icons import application_picture

    application = QApplication.instance() or QApplication(["icon"])
    pictures = []
    for size in SIZES:
        buffer = QBuffer()
        buffer.open(QIODevice.OpenModeFlag.WriteOnly)
        application_picture(size).save(buffer, "PNG")
        pictures.append(bytes(buffer.data().data()))
    del application
    path.write_bytes(ico(dict(zip(SIZES, pictures, strict=True))))


def write_side_picture(path: Path) -> None:
    """Write the picture beside the first and last page of the setup's wizard, as a bitmap of 164×314 pixels."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from PySide6.QtGui import QImage, QLinearGradient, QPainter
    from PySide6.QtWidgets import QApplication

    from gui.icons import pixmap
    from gui.theme import Role, theme

    application = QApplication.instance() or QApplication(["picture"])
    image = QImage(164, 314, QImage.Format.Format_RGB888)
    accent = theme().colour(Role.ACCENT)
    shade = QLinearGradient(0, 0, 0, image.height())
    shade.setColorAt(0, accent.lighter(112))
    shade.setColorAt(1, accent.darker(150))
    painter = QPainter(image)
    painter.fillRect(image.rect(), shade)
    painter.drawPixmap(34, 109, pixmap("ferry", theme().colour(Role.ON_ACCENT), 96))
    painter.end()
    image.save(str(path))  # its name says the format
    del application


def ico(pictures: dict[int, bytes]) -> bytes:
    """An ICO file of square PNG pictures, by their size in pixels (256 at most)."""
    offset = 6 + 16 * len(pictures)
    entries, data = b"", b""
    for size, png in pictures.items():
        edge = size % 256  # 0 means 256
        entries += struct.pack("<BBBBHHII", edge, edge, 0, 0, 1, 32, len(png), offset + len(data))
        data += png
    return struct.pack("<HHH", 0, 1, len(pictures)) + entries + data


if __name__ == "__main__":
    write_side_picture(Path(sys.argv[1]))
