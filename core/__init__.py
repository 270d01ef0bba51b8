"""The core of DICOM Ferry: everything but the window. Needs no Qt outside `core/qt.py`."""

__version__ = "0.1.0"
