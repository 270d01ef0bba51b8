"""Who sent images to an Orthanc by C-STORE: `Senders`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.model.study import InstanceRef
from core.nodes.orthanc.base import OrthancBase


class OrthancSenders(OrthancBase):
    """`Senders` of an Orthanc."""

    def senders(self, instances: Sequence[InstanceRef]) -> Mapping[str, str]:
        """``GET /instances/{id}/metadata/RemoteAET``: each of its own, as a series may come from several."""
        paths = [f"/instances/{one.ref}/metadata/RemoteAET" for one in instances]
        found: dict[str, str] = {}
        for one, path, answer in zip(instances, paths, self.rest.pipeline(paths), strict=True):
            if answer.status == 200:
                found[one.sop_uid] = answer.body.decode("ascii", "replace").strip()
            elif answer.status != 404:
                self.rest.refuse(path, answer.status, answer.headers, answer.body)
        return {sop_uid: aet for sop_uid, aet in found.items() if aet}
