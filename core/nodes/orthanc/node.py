"""The Orthanc node: all its capabilities together."""

from __future__ import annotations

from core.nodes.orthanc.confirm import OrthancConfirm
from core.nodes.orthanc.diagnosis import OrthancDiagnosis
from core.nodes.orthanc.dicomweb_side import OrthancDicomweb
from core.nodes.orthanc.disk import OrthancDisk
from core.nodes.orthanc.extras import OrthancExtras
from core.nodes.orthanc.follow import OrthancFollow
from core.nodes.orthanc.inventory import OrthancInventory
from core.nodes.orthanc.marking import OrthancMarking
from core.nodes.orthanc.modalities import OrthancEntity
from core.nodes.orthanc.push import OrthancPush
from core.nodes.orthanc.remotes import OrthancRemotes
from core.nodes.orthanc.senders import OrthancSenders
from core.nodes.orthanc.together import OrthancTogether
from core.nodes.orthanc.transfer import OrthancTransfer


class OrthancNode(
    OrthancDiagnosis,
    OrthancInventory,
    OrthancTransfer,
    OrthancTogether,
    OrthancConfirm,
    OrthancFollow,
    OrthancPush,
    OrthancRemotes,
    OrthancMarking,
    OrthancExtras,
    OrthancEntity,
    OrthancSenders,
    OrthancDicomweb,
    OrthancDisk,
):
    """`Diagnose`, `Inventory`, `Read`, `ReadTogether`, `Write`, `WriteMany`, `Delete`, `Confirm`, `Compare`,
    `Follow`, `Push`, `PushResume`, `PushWords`, `Remotes`, `Label`, `Identity`, `Extras`, `Dimse`, `Senders`, `Stow`,
    `Intermediary` and `DiskUse` of an Orthanc server, by its REST API."""
