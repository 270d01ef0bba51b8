"""Identifiers of C-FIND: written in each character set, and read from servers that name a wrong one or none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.wire.dimse.identifier import EXPLICIT, IMPLICIT, MalformedIdentifierError, decode, encode
from tests.support.studies import NAMES

both = pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])


@both
@pytest.mark.parametrize(("character_set", "name"), NAMES.items(), ids=list(NAMES))
def test_names_in_every_script(syntax: str, character_set: str, name: str) -> None:
    for wanted in ("", character_set.removeprefix("\\"), "ISO_IR 192"):
        read = decode(encode({"PatientName": name, "StudyDate": ""}, syntax, wanted), syntax)
        assert read["PatientName"] == name
        assert read["StudyDate"] == ""


def test_a_name_that_does_not_fit_the_character_set_goes_in_unicode() -> None:
    read = decode(encode({"PatientName": "山田"}, IMPLICIT, "ISO_IR 100"), IMPLICIT)
    assert (read["SpecificCharacterSet"], read["PatientName"]) == ("ISO_IR 192", "山田")


def test_plain_questions_name_a_character_set_only_where_one_is_wanted() -> None:
    assert "SpecificCharacterSet" not in decode(encode({"PatientID": "1"}, EXPLICIT), EXPLICIT)
    assert decode(encode({"PatientID": "1"}, EXPLICIT, "ISO_IR 192"), EXPLICIT)["SpecificCharacterSet"] == "ISO_IR 192"


@both
def test_lists_of_uids_and_padding(syntax: str) -> None:
    read = decode(encode({"StudyInstanceUID": "1.2\\1.3\\1.45", "PatientID": "odd"}, syntax), syntax)
    assert read == {"StudyInstanceUID": "1.2\\1.3\\1.45", "PatientID": "odd"}


def element(tag: bytes, value: bytes) -> bytes:
    return tag + len(value).to_bytes(4, "little") + value


NAME, CHARACTER_SET = b"\x10\x00\x10\x00", b"\x08\x00\x05\x00"


@pytest.mark.parametrize(
    ("named", "value", "read"),
    [
        (b"", "Müller".encode(), "Müller"),
        (b"", "Müller".encode("latin-1"), "Müller"),
        (b"ISO_IR 100", "Müller".encode(), "Müller"),
        (b"ISO_IR 100", "Müller".encode("latin-1"), "Müller"),
        (b"ISO_IR 192", "Müller".encode("latin-1"), "Müller"),
        (b"ISO_IR 192", "Müller".encode(), "Müller"),
        (b"ISO_IR 999", "Müller".encode(), "Müller"),
        (b"KLINGON", "Müller".encode("latin-1"), "Müller"),
        (b"ISO_IR 144", "Люкceмбypг".encode("iso8859_5"), "Люкceмбypг"),
        (b"ISO_IR 144 ", "Люкceмбypг".encode("iso8859_5"), "Люкceмбypг"),
        (b"GB18030", "王小东".encode("gb18030"), "王小东"),
        (b"\\ISO 2022 IR 87", b"Yamada=\x1b$B;3ED\x1b(B", "Yamada=山田"),
        (b"\\ISO 2022 IR 87", "山田".encode(), "山田"),
    ],
)
def test_character_sets_that_are_not_what_they_say(named: bytes, value: bytes, read: str) -> None:
    data = (element(CHARACTER_SET, named) if named else b"") + element(NAME, value)
    assert decode(data, IMPLICIT)["PatientName"] == read


def test_the_node_s_own_character_set_where_answers_name_none() -> None:
    data = element(NAME, "Wałęsa".encode("iso8859_2"))
    assert decode(data, IMPLICIT, "ISO_IR 101")["PatientName"] == "Wałęsa"


def test_what_is_no_text_is_passed_over() -> None:
    sequence = b"\x08\x00\x40\x11\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    sequence += element(NAME, b"inner ") + b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    private = element(b"\x09\x00\x01\x10", b"secret")
    number = element(b"\x28\x00\x10\x00", b"\x00\x02")
    read = decode(private + sequence + element(NAME, b"outer\0") + number, IMPLICIT)
    assert read == {"PatientName": "outer", "Rows": "512"}


@pytest.mark.parametrize(
    "data",
    [
        b"\x10",
        b"\x10\x00\x10\x00\xff\x00\x00\x00abc",
        b"\x08\x00\x40\x11\xff\xff\xff\xff",
        b"\x08\x00\x40\x11\xff\xff\xff\xff\x08\x00\x40\x11\0\0\0\0",
        b"\x08\x00\x40\x11\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff\x08\x00\x40\x11\xff\xff\xff\xff" * 40,
    ],
)
def test_bytes_that_are_none_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedIdentifierError):
        decode(data, IMPLICIT)


@given(st.binary(max_size=400), st.sampled_from([IMPLICIT, EXPLICIT]))
def test_any_bytes_give_texts_or_are_refused(data: bytes, syntax: str) -> None:
    try:
        read = decode(data, syntax)
    except MalformedIdentifierError:
        return
    assert all(isinstance(text, str) for text in read.values())
