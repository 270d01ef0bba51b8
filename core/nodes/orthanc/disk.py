"""How full an Orthanc is: `DiskUse`."""

from __future__ import annotations

from core.nodes.base import DiskLevel
from core.nodes.orthanc.answers import number
from core.nodes.orthanc.base import OrthancBase

_MEGABYTE = 1024 * 1024


class OrthancDisk(OrthancBase):
    """`DiskUse` of an Orthanc: ``TotalDiskSize`` of ``/statistics``, and the ``MaximumStorageSize`` it was set to."""

    def disk_use(self) -> DiskLevel:
        """What its files take; the most they may take only where it was limited, and says so (since 1.11.3)."""
        used = number(self.rest.get_object("/statistics"), "TotalDiskSize")
        if used is None:
            self.rest.unexpected("/statistics", "no TotalDiskSize")
        most = number(self.rest.get_object("/system"), "MaximumStorageSize")
        return DiskLevel(used, most * _MEGABYTE if most else None)
