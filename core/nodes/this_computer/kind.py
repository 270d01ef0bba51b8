"""The node kind "this-computer": this computer as a DICOM node that others send to and ask."""

from __future__ import annotations

from core.model.loading import load_pydicom
from core.model.node import NodeFields
from core.nodes.base import Node, NodeKind, OpenContext
from core.nodes.this_computer.fields import ThisComputerFields


class ThisComputerKind(NodeKind):
    name = "this-computer"
    title = "This computer"
    summary = "Receives images by DICOM, keeps them, and gives them out again."
    icon = "computer"
    Fields = ThisComputerFields
    listens = True

    def open(self, fields: NodeFields, context: OpenContext) -> Node:
        load_pydicom()
        from core.nodes.this_computer.node import ThisComputerNode  # with it pydicom: a third of a second

        assert isinstance(fields, ThisComputerFields)
        return ThisComputerNode(fields, context)

    def address(self, fields: NodeFields) -> str:
        assert isinstance(fields, ThisComputerFields)
        where = f"[{fields.bind}]" if ":" in fields.bind else fields.bind or "*"
        return f"{fields.aet}@{where}:{fields.port}"

    def receives(self, fields: NodeFields) -> str:
        assert isinstance(fields, ThisComputerFields)
        return f"receives images as {fields.aet} on port {fields.port}"

    def warnings(self, fields: NodeFields, *, has_secret: bool) -> list[str]:
        assert isinstance(fields, ThisComputerFields)
        found = []
        if not fields.callers:
            who = "Nobody but the nodes registered here" if fields.known_nodes else "Nobody"
            found.append(f"{who} may call: add the devices that shall send to it.")
        if any(entry == "*@*" for entry in fields.callers):
            found.append("Anybody in the network may send to this computer and read what it holds.")
        elif any(entry.endswith("@*") for entry in fields.callers):
            found.append("An AE title alone is no protection: anybody can call himself by it. Add the addresses.")
        if not fields.tls and any(entry.rpartition("@")[2] not in ("127.0.0.1", "::1") for entry in fields.callers):
            found.append("Images and names travel unencrypted in the network.")
        return found
