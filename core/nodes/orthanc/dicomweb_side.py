"""The DICOMweb side of an Orthanc: where others send to it by STOW-RS."""

from __future__ import annotations

from core.model.errors import NotSupportedError
from core.nodes.base import DicomwebAddress
from core.nodes.orthanc.base import OrthancBase
from core.nodes.orthanc.plugins import dicomweb_root


class OrthancDicomweb(OrthancBase):
    """`Stow` of an Orthanc with the DICOMweb plugin."""

    _dicomweb_root: str | None = None

    def dicomweb_address(self) -> DicomwebAddress:
        """The plugin's root below the server's address; asked once.

        Raises
        ------
        NotSupportedError
            It has no such plugin.
        """
        if self._dicomweb_root is None:
            self._dicomweb_root = dicomweb_root(self.rest)
        if not self._dicomweb_root:
            raise NotSupportedError(
                f"“{self.name}” has no DICOMweb plugin.", "Install it there, or reach the server in another way."
            )
        return DicomwebAddress(self.fields.url + self._dicomweb_root)
