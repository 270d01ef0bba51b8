"""The table of what a node takes: made from a profile's facts, usual kinds first, families of encodings."""

from __future__ import annotations

from datetime import UTC, datetime

from core.accepted import Cover, accepted_table
from core.model.diagnosis import AcceptedContexts, Profile

CT, MR, BASIC_TEXT_SR = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("2", "4", "88.11"))
IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
JPEG_BASELINE, RLE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.5"


def _profile(*groups: AcceptedContexts) -> Profile:
    facts = tuple(group.as_fact(number) for number, group in enumerate(groups, 1))
    return Profile(datetime.now(UTC), (), (("kind", "dicom"), *facts))


def test_there_is_no_table_where_nothing_was_found_out() -> None:
    assert accepted_table(_profile()) is None


def test_families_are_whole_partial_or_missing() -> None:
    table = accepted_table(
        _profile(
            AcceptedContexts((BASIC_TEXT_SR,), ()),
            AcceptedContexts((MR,), (IMPLICIT,)),
            AcceptedContexts((CT,), (EXPLICIT, IMPLICIT, RLE, JPEG_BASELINE, BIG)),
        )
    )
    assert table is not None
    assert [kind.name for kind in table.kinds] == ["CT Image", "MR Image", "Basic Text SR"], "what is refused is last"
    assert table.taken == 2
    found = {f.title: cover for f, cover in zip(table.families, table.kinds[0].covers, strict=True)}
    assert found["Uncompressed"] is Cover.ALL
    assert found["RLE"] is Cover.ALL
    assert found["JPEG, lossy"] is Cover.SOME
    assert found["JPEG 2000"] is Cover.NONE
    assert found["Others"] is Cover.SOME
    assert table.kinds[0].encodings[2] == ("JPEG Baseline (Process 1)",)
    assert table.kinds[1].covers[0] is Cover.SOME
    assert set(table.kinds[2].covers) == {Cover.NONE}
    assert "CT Image" in table.text


def test_an_encoding_of_tomorrow_is_among_the_others() -> None:
    table = accepted_table(_profile(AcceptedContexts(("1.2.3.4",), (EXPLICIT, "1.2.3.4.5"))))
    assert table is not None
    assert table.kinds[0].name == "1.2.3.4"
    assert table.kinds[0].covers[0] is Cover.SOME
