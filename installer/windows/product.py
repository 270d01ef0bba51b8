"""The names and numbers that both Windows installers and their tests share."""

from __future__ import annotations

NAME = "DICOM Ferry"
MAKER = "DICOM Ferry contributors"
WINDOW_EXE = "DICOM Ferry.exe"
CONSOLE_EXE = "dicom-ferry.exe"
#: Of the shortcuts; the same as the program's own (gui/taskbar.py), so that a pinned one and the window are one button.
APP_ID = "DICOMFerry.DICOMFerry"
#: Never changed: it says that two versions are the same product.
UPGRADE_CODE = "7D2E6A0C-6B1F-4C0B-9E53-5A2F6E8B41C7"
#: HKLM (for everybody) or HKCU (for one person): Installer ("msi", "setup"), InstallFolder, Version.
REGISTRY_KEY = r"Software\DICOM Ferry"
RUN_KEY = r"Software\Microsoft\Windows\CurrentVersion\Run"
UNINSTALL_KEY = r"Software\Microsoft\Windows\CurrentVersion\Uninstall\DICOM Ferry"
#: Behind the program's name in the Run key.
AT_LOGIN = "--in-tray"

#: The start-up task of the unattended engine (core/unattended), and the value of REGISTRY_KEY that says it was chosen.
TASK = "DICOM Ferry unattended engine"
UNATTENDED = "Unattended"

#: Exit statuses of the setup program and its uninstaller, beyond 0 (done), 1 (cancelled) and 2 (failed).
STILL_RUNNING = 4
NEWER_INSTALLED = 5
OTHER_INSTALLER = 6
FILES_IN_USE = 7
UNATTENDED_FAILED = 9
