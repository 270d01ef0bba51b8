"""De-identification of whole images: nothing of the original is left in the file, or it is refused in words."""

from __future__ import annotations

import io
import re
import string
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom.data
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID

from core.engine.changed_file import encoded, parse
from core.model.errors import ConfigurationError
from core.model.steps import StepChoice
from core.steps.base import LargeValue, StepError
from core.steps.deidentify.doubts import BLANK_PAGE
from core.steps.deidentify.pseudonyms import Pseudonyms
from core.steps.registry import normalised
from tests.support.deidentifying import (
    ACCESSION,
    BIRTH,
    KEY,
    NAME,
    PATIENT_ID,
    STUDY_DAY,
    UID_ROOT,
    as_bytes,
    as_read,
    ct_image,
    opened,
    traces,
)
from tests.support.waiting import PATIENCE

EVERYTHING = {
    "keep_patient": True,
    "keep_device": True,
    "keep_institution": True,
    "keep_descriptors": True,
    "keep_content": True,
    "keep_graphics": True,
    "keep_private": True,
    "burned_in": "pass",
    "documents": "blank",
}
SECRETS = ("ZEBRA", "QUAGGA", "OKAPI", PATIENT_ID, ACCESSION, BIRTH, "29.02.1952", STUDY_DAY, UID_ROOT)
FILES = sorted(
    path
    for path in Path(pydicom.data.__file__).parent.rglob("*")
    if path.is_file() and path.suffix in (".dcm", "") and "dicomdir" not in str(path).lower()
)


def sent(data: bytes, **fields: Any) -> bytes:
    """The file as the engine would send it."""
    content = parse(io.BytesIO(data), None)
    opened(**fields).apply(content.dataset)
    segments, _files = encoded(content, None)
    return segments.whole()


def tried(data: bytes, **fields: Any) -> tuple[bytes, StepError | None]:
    """The file as it would be sent, or why it isn't."""
    try:
        return sent(data, **fields), None
    except StepError as error:
        return b"", error


def items(*values: Dataset) -> list[Dataset]:
    return list(values)


def made(**values: Any) -> Dataset:
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def code(value: str, scheme: str, meaning: str) -> Dataset:
    return made(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


# nothing is left -------------------------------------------------------------------------------------------


def telltale() -> Dataset:
    """An image that tells whose it is wherever an image can."""
    ds = ct_image(
        OtherPatientIDs=[PATIENT_ID, "X-" + PATIENT_ID],
        PatientComments=f"{NAME} born 29.02.1952",
        ReferringPhysicianName="GNU^KUDU",
        InstitutionName="Zoo of QUAGGA",
        StudyDescription=f"CT HEAD {ACCESSION} Zebra",
        SeriesDescription=f"AX 5mm {PATIENT_ID} {STUDY_DAY}",
        ProtocolName="Zebra, Quagga 29.02.1952",
        ManufacturerModelName="Scanner of Mr ZEBRA",
        SoftwareVersions=["VB40", "OKAPI build"],
        StationName="CT1",
        AcquisitionDateTime=f"{STUDY_DAY}101112",
        DeidentificationMethod=f"removed {NAME}",
    )
    ds.AnatomicRegionSequence = [code("T-A0100", "99LOCAL", "Head of ZEBRA")]
    ds.RequestAttributesSequence = [
        made(RequestedProcedureID=ACCESSION, ScheduledProcedureStepDescription=f"for {PATIENT_ID}")
    ]
    ds.ReferencedSeriesSequence = [
        made(
            SeriesInstanceUID=UID_ROOT + "2",
            PatientName=NAME,
            PatientID=PATIENT_ID,
            AccessionNumber=ACCESSION,
            OperatorsName="ZEBRA",
            StudyDate=STUDY_DAY,
            ReferencedInstanceSequence=items(made(ReferencedSOPInstanceUID=UID_ROOT + "3.1", TextValue=NAME)),
        )
    ]
    for creator, group in (("ZEBRA WORKS", 0x0009), ("SIEMENS MR HEADER", 0x0019), ("TRAILER", 0x7FE1)):
        block = ds.private_block(group, creator, create=True)
        block.add_new(0x0C, "LO", PATIENT_ID)
        block.add_new(0x77, "UN", NAME.encode())
    ds.add_new((0x5000, 0x2500), "LO", NAME)
    ds.add_new((0x6000, 0x0010), "US", 2)
    ds.add_new((0x6000, 0x3000), "OW", NAME.encode().ljust(20))
    ds.add_new((0x6000, 0x4000), "LT", NAME)
    ds.add_new((0x0009, 0x1199), "LO", "no creator for " + PATIENT_ID)
    ds.add_new((0x0008, 0x0777), "LO", "unknown to the standard: " + PATIENT_ID)
    ds.EncryptedAttributesSequence = [made(EncryptedContent=NAME.encode().ljust(20))]
    ds.OriginalAttributesSequence = [
        made(ModifiedAttributesSequence=items(made(PatientID=PATIENT_ID)), AttributeModificationDateTime=STUDY_DAY)
    ]
    ds.DataSetTrailingPadding = NAME.encode().ljust(20)
    ds.IconImageSequence = [made(Rows=1, BitsAllocated=8, PixelData=NAME.encode().ljust(20))]
    ds.RetrieveURL = f"https://pacs.example/{PATIENT_ID}"
    ds.GraphicAnnotationSequence = [
        made(
            GraphicLayer="L1",
            TextObjectSequence=items(made(UnformattedTextValue=f"{NAME} {PATIENT_ID}")),
            GraphicObjectSequence=items(made(GraphicData=[1.0, 1.0])),
        )
    ]
    ds.ContentSequence = [
        made(
            ValueType="TEXT",
            TextValue=f"Seen {NAME} on 17.03.2024",
            ConceptNameCodeSequence=items(code("121071", "DCM", "Finding")),
            ContentSequence=items(made(ValueType="PNAME", PersonName=NAME)),
        )
    ]
    ds.file_meta.SourceApplicationEntityTitle = "ZEBRA_AE"
    ds.file_meta.PrivateInformationCreatorUID = UID_ROOT + "99"
    ds.file_meta.PrivateInformation = NAME.encode().ljust(20)
    ds.preamble = b"II*\0" + NAME.encode().ljust(124)
    return ds


@pytest.mark.parametrize("implicit", [False, True], ids=["explicit", "implicit"])
@pytest.mark.parametrize(
    "fields",
    [{}, {"dates": "shift"}, EVERYTHING, {**EVERYTHING, "dates": "shift"}, {"keep_private": True}],
    ids=["basic", "shifted", "everything", "everything, shifted", "private"],
)
def test_nothing_of_the_original_is_anywhere_in_the_file(fields: dict[str, Any], implicit: bool):
    before = as_bytes(telltale(), implicit=implicit)
    assert not set(SECRETS) - set(traces(before, *SECRETS)), "the test itself sees nothing"
    after = sent(before, **fields)
    wanted = SECRETS if not fields.get("keep_institution") else [s for s in SECRETS if s != "QUAGGA"]
    assert not traces(after, *wanted)
    ds = dcmread(io.BytesIO(after))
    assert ds.PatientIdentityRemoved == "YES"
    assert ds.PixelData == bytes(range(8))


@pytest.mark.parametrize(
    ("charset", "family", "given_name", "description"),
    [
        ("ISO_IR 100", "Müller", "Jörg", "Kopf Jörg MÜLLER axial"),
        ("ISO_IR 192", "Ångström", "Zoë", "Thorax ZOË Angstrom"),
        ("ISO_IR 144", "Люкceмбypг", "Анна", "КТ Анна грудь"),
        ("GB18030", "王", "小东", "头部 王小东 平扫"),
        ("ISO_IR 192", "홍", "길동", "흉부 홍길동"),
        ("ISO_IR 166", "สมชาย", "ใจดี", "CT สมชาย"),
    ],
)
def test_names_in_any_alphabet_are_cut_from_descriptions(charset, family, given_name, description):
    ds = ct_image(SpecificCharacterSet=charset, PatientName=f"{family}^{given_name}", StudyDescription=description)
    after = dcmread(io.BytesIO(sent(as_bytes(ds), keep_descriptors=True)))
    left = after.StudyDescription.casefold()
    assert family.casefold() not in left
    assert given_name.casefold() not in left
    assert not {"müller", "angstrom"} & set(left.split())
    assert left.split()[0] == description.casefold().split()[0], "the rest of the description stays"


def test_japanese_with_escape_sequences_is_read_and_cleaned():
    ds = ct_image(SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう")
    ds.StudyDescription = "頭部 山田 CT Yamada"
    data = as_bytes(ds)
    assert b"\x1b$B" in data
    after = dcmread(io.BytesIO(sent(data, keep_descriptors=True)))
    assert "山田" not in after.StudyDescription
    assert "yamada" not in after.StudyDescription.lower()
    assert "CT" in after.StudyDescription


def test_text_that_its_character_set_does_not_know_is_not_sent():
    ds = as_read(ct_image(SpecificCharacterSet="ISO_IR 192", ManufacturerModelName="X"))
    raw = ds.get_item("ManufacturerModelName")
    ds._dict[raw.tag] = raw._replace(value=b"\xff\xfe\xfa ", length=4)
    with pytest.raises(StepError, match="character set") as caught:
        opened().apply(ds)
    assert caught.value.code == "deidentify-charset"
    assert caught.value.__suppress_context__


def test_without_a_character_set_every_byte_is_a_letter():
    ds = ct_image(PatientName="X")
    del ds.SpecificCharacterSet
    data = as_bytes(ds).replace(b"PN\x02\x00X ", b"PN\x06\x00M\xdcLLER").replace(b"XYZ", b"")
    after = dcmread(io.BytesIO(sent(data)))
    assert str(after.PatientName).startswith("ANON-")


# what is kept ----------------------------------------------------------------------------------------------


def test_the_picture_and_what_describes_it_stay():
    ds = ct_image(KVP="120", SliceThickness="5", PixelSpacing=[0.5, 0.5], WindowCenter="40", ManufacturerModelName="X9")
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [1, 2, 3], [1, 0, 0, 0, 1, 0]
    after = dcmread(io.BytesIO(sent(as_bytes(ds))))
    for keyword in ("KVP", "SliceThickness", "PixelSpacing", "WindowCenter", "ManufacturerModelName", "PixelData",
                    "ImagePositionPatient", "Rows", "Modality", "ImageType", "SOPClassUID"):  # fmt: skip
        assert after[keyword].value == ds[keyword].value, keyword


def test_descriptions_are_cleaned_and_comments_removed():
    ds = ct_image(
        StudyDescription="CT HEAD W/O CONTRAST Dr. Gnu 12/03/2024",
        SeriesDescription="AX 5.0 BONE ID 4711-0815 tel 030-1234567",
        ProtocolName=NAME.replace("^", " "),
        ImageComments="all is well",
        PatientSex="F",
    )
    opened(keep_descriptors=True).apply(ds)
    assert ds.StudyDescription == "CT HEAD W/O CONTRAST"
    assert ds.SeriesDescription.startswith("AX 5.0 BONE")
    assert not re.search(r"\d{4}", ds.SeriesDescription)
    assert ds.ProtocolName == "REMOVED"
    assert "ImageComments" not in ds
    basic = ct_image(StudyDescription="CT HEAD", ProtocolName="HEAD")
    opened().apply(basic)
    assert "StudyDescription" not in basic
    assert "ProtocolName" not in basic  # of type 3 in a CT


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("T2_TSE_2024-03-17_sag", "T2_TSE_ _sag"),
        ("AX5mm20240317", "AX5mm"),
        ("HEAD_29021952", "HEAD_"),
        ("spine Frau Dr. Gnu lat", "spine"),
        ("Dr_Gnu HEAD", "REMOVED"),
        ("knee (id: 55) left", "knee ( left"),
        ("call 030-1234567 now", "call now"),
        ("see http://pacs/x?y=1", "see"),
        ("to a.gnu@zoo.example today", "to today"),
        ("uid 1.2.3.4.5.6", "uid"),
        ("T1 SE 3.0 5x5 FA90", "T1 SE 3.0 5x5 FA90"),
        ("Abdomen + Becken KM 120 ml", "Abdomen + Becken KM 120 ml"),
        ("CT 1.5-2.0 B30f", "CT 1.5-2.0 B30f"),
    ],
)
def test_what_looks_like_an_identity_is_cut_from_a_description(text: str, left: str):
    ds = ct_image(SeriesDescription=text)
    opened(keep_descriptors=True).apply(ds)
    assert ds.SeriesDescription == left


def test_words_of_the_image_are_not_cut_for_their_parts():
    ds = ct_image(PatientName="HAN^LI", StudyDescription="HAND links, LI und HAN", ManufacturerModelName="LIGHT HANDLE")
    opened(keep_descriptors=True).apply(ds)
    assert ds.StudyDescription == "HAND links, und"
    assert ds.ManufacturerModelName == "LIGHT HANDLE"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "piece", ["a", "1", "1-", "1.", "id ", "dr ", " ", "a@", "1_", "id:", "\u00e9", "http://", "a.b"]
)
def test_no_text_takes_longer_than_it_is_long(piece: str):
    ds = ct_image(TrackingID=piece * (200_000 // len(piece)), PatientName="AAAA^A A")
    opened(keep_descriptors=True).apply(as_read(ds))


def test_codes_of_published_schemes_stay_even_if_a_patient_is_called_so():
    ds = ct_image(PatientName="HEAD^THE")
    ds.AnatomicRegionSequence = [code("69536005", "SCT", "Head")]
    ds.ViewCodeSequence = [code("HEAD", "99LOCAL", "Head of somebody")]
    opened().apply(ds)
    assert ds.AnatomicRegionSequence[0].CodeMeaning == "Head"
    assert "head" not in ds.ViewCodeSequence[0].CodeMeaning.lower()


def test_the_birth_date_goes_in_every_calendar():
    ds = ct_image(PatientBirthDateInAlternativeCalendar="27 Showa 2 29", PatientAlternativeCalendar="JAPANESE")
    opened(keep_patient=True).apply(ds)
    assert "PatientBirthDateInAlternativeCalendar" not in ds


def test_what_is_kept_of_an_institution_does_not_tell_the_patient():
    ds = ct_image(
        PatientName="MARIA^ANNA", InstitutionName="St. Maria Hospital", InstitutionAddress=f"for {PATIENT_ID}"
    )
    opened(keep_institution=True).apply(ds)
    assert (ds.InstitutionName, ds.InstitutionAddress) == ("St. Maria Hospital", "for")


# what was done is in the image -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "codes"),
    [
        ({}, {"113100"}),
        ({"dates": "shift"}, {"113100", "113107"}),
        ({"dates": "keep", "keep_uids": True}, {"113100", "113106", "113110"}),
        (EVERYTHING, {"113100", "113103", "113104", "113105", "113108", "113109", "113111", "113112"}),
        ({"exceptions": "keep StationName"}, set()),
    ],
)
def test_what_was_done_is_in_the_image_with_the_codes_of_the_standard(fields: dict[str, Any], codes: set[str]):
    ds = ct_image()
    said = opened(**fields).apply(ds)
    assert {i.CodeValue for i in ds.get("DeidentificationMethodCodeSequence", ())} == codes
    assert all(i.CodingSchemeDesignator == "DCM" for i in ds.get("DeidentificationMethodCodeSequence", ()))
    assert ds.PatientIdentityRemoved == "YES"
    fingerprint = Pseudonyms(bytes.fromhex(KEY)).fingerprint
    assert any(fingerprint in method for method in ds.DeidentificationMethod)
    assert all(len(method) <= 64 for method in ds.DeidentificationMethod)
    assert any("PS3.15" in sentence and fingerprint in sentence for sentence in said)


def test_an_earlier_de_identification_stays_told():
    ds = ct_image(PatientIdentityRemoved="YES", DeidentificationMethod="CTP")
    ds.DeidentificationMethodCodeSequence = [
        code("113100", "DCM", "Basic Application Confidentiality Profile"),
        code("113101", "DCM", "Clean Pixel Data Option"),
    ]
    step = opened()
    step.apply(ds)
    step.apply(ds)
    assert [i.CodeValue for i in ds.DeidentificationMethodCodeSequence] == ["113101", "113100"]
    assert next(iter(ds.DeidentificationMethod)) == "CTP"
    assert len(ds.DeidentificationMethod) == 3


def test_keeping_who_it_is_is_not_called_identity_removed():
    ds = ct_image()
    opened(exceptions="keep PatientBirthDate").apply(ds)
    assert (ds.PatientBirthDate, ds.PatientIdentityRemoved) == (BIRTH, "NO")
    assert any("kept on request" in method for method in ds.DeidentificationMethod)


# exceptions ------------------------------------------------------------------------------------------------


def test_exceptions_keep_and_change_attributes():
    ds = ct_image(StationName="CT7", ProtocolName="HEAD", ManufacturerModelName="X9", InstitutionName="Zoo")
    ds.ReferencedSeriesSequence = [made(StationName="CT8")]
    said = opened(
        exceptions="keep StationName, AccessionNumber; remove ManufacturerModelName; set InstitutionName=Trial 7; "
        "prefix AccessionNumber=T7-"
    ).apply(ds)
    assert (ds.StationName, ds.ReferencedSeriesSequence[0].StationName) == ("CT7", "CT8")
    assert "ManufacturerModelName" not in ds
    assert "ProtocolName" not in ds
    assert (ds.InstitutionName, ds.AccessionNumber) == ("Trial 7", "T7-" + ACCESSION)
    assert "OriginalAttributesSequence" not in ds, "former values would be told there"
    assert any("kept on request" in s for s in said)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("keep PatientID", "pseudonyms in a table"),
        ("keep StudyInstanceUID", "Keep UIDs"),
        ("keep (0009,0010)", "private"),
        ("keep (0009,xx10)", "named by one tag"),
        ("keep (6000,3000)", "can't be kept"),
        ("keep OriginalAttributesSequence", "original values"),
        ("hold StationName", "none of"),
        ("keep StatonName", "StationName"),
        ("set StudyDate=yesterday", "can't be"),
    ],
)
def test_an_exception_that_makes_no_sense_is_told_at_once(text: str, wrong: str):
    with pytest.raises(ConfigurationError, match=re.escape(wrong)):
        normalised(StepChoice(kind="deidentify", fields={"exceptions": text}))


# private ---------------------------------------------------------------------------------------------------


def with_private() -> Dataset:
    ds = ct_image()
    safe = ds.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    safe.add_new(0x0C, "IS", "1000")
    safe.add_new(0x0D, "CS", "DIRECTIONAL")
    safe.add_new(0x99, "LO", "not listed")
    own = ds.private_block(0x0029, "ACME", create=True)
    own.add_new(0x01, "LO", f"table 3, {PATIENT_ID}")
    own.add_new(0x02, "DS", "42")
    own.add_new(0x03, "SQ", [made(PatientName=NAME, KVP="80")])
    own.add_new(0x04, "UI", UID_ROOT + "8")
    ds.private_block(0x0031, "UNLISTED", create=True).add_new(0x01, "LO", "x")
    return ds


def test_private_attributes_are_removed_unless_they_are_safe():
    ds = with_private()
    said = opened().apply(ds)
    assert not [e.tag for e in ds if e.tag.is_private]
    assert "8 private attributes removed." in said or any("private attributes removed" in s for s in said)
    ds = as_read(with_private())
    opened(keep_private=True).apply(ds)
    left = {(e.tag.group, e.tag.element & 0xFF) for e in ds if e.tag.is_private and not e.tag.is_private_creator}
    assert left == {(0x0019, 0x0C), (0x0019, 0x0D)}
    assert [e.value for e in ds if e.tag.is_private_creator] == ["SIEMENS MR HEADER"]


def declared(status: str, *elements: int, group: int = 0x0029, creator: str = "ACME") -> Dataset:
    said = made(PrivateGroupReference=group, PrivateCreatorReference=creator, BlockIdentifyingInformationStatus=status)
    if elements:
        said.NonidentifyingPrivateElements = list(elements)
    return said


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize(
    ("status", "elements", "left"),
    [("SAFE", (), {1, 2, 3, 4}), ("MIXED", (2, 3), {2, 3}), ("MIXED", (), set()), ("UNSAFE", (), set())],
)
def test_what_the_image_declares_safe_is_kept_and_cleaned(status, elements, left, implicit):
    ds = with_private()
    ds.PrivateDataElementCharacteristicsSequence = [
        declared(status, *elements),
        made(
            PrivateGroupReference=0x0031, PrivateCreatorReference="UNLISTED", BlockIdentifyingInformationStatus="UNSAFE"
        ),
    ]
    ds = as_read(ds, implicit=implicit)
    opened(keep_private=True).apply(ds)
    if implicit:  # nobody knows there what is a sequence or a text: nothing can be cut out of it
        left = left - {1, 3}
    found = {e.tag.element & 0xFF: e for e in ds if e.tag.group == 0x29 and not e.tag.is_private_creator}
    assert set(found) == left
    assert not traces(as_bytes(ds, implicit=implicit), "ZEBRA", PATIENT_ID)
    if 3 in left:
        assert found[3].value[0].KVP == 80
    blocks = [i.PrivateCreatorReference for i in ds.get("PrivateDataElementCharacteristicsSequence", ())]
    assert blocks == (["ACME"] if left else [])


# structured content, graphics, documents -------------------------------------------------------------------


def report() -> Dataset:
    ds = ct_image(Modality="SR", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.22")
    del ds.PixelData, ds.Rows, ds.Columns

    def item(kind: str, concept: Dataset, **values: Any) -> Dataset:
        return made(RelationshipType="CONTAINS", ValueType=kind, ConceptNameCodeSequence=items(concept), **values)

    image = made(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID=UID_ROOT + "3.1")
    ds.ContentSequence = [
        item("PNAME", code("121008", "DCM", "Person Observer Name"), PersonName="GNU^KUDU"),
        item("TEXT", code("121022", "DCM", "Accession Number"), TextValue=ACCESSION),
        item("PNAME", code("121029", "DCM", "Subject Name"), PersonName=NAME),
        item("TEXT", code("121030", "DCM", "Subject ID"), TextValue=PATIENT_ID),
        item("DATE", code("121031", "DCM", "Subject Birth Date"), Date=BIRTH),
        item("TEXT", code("121071", "DCM", "Finding"), TextValue="Zebra has a 5 mm nodule"),
        item("TEXT", code("1", "99ACME", "Own"), TextValue="free words"),
        item("DATETIME", code("111526", "DCM", "DateTime Started"), DateTime=STUDY_DAY + "0900"),
        item("UIDREF", code("112040", "DCM", "Tracking UID"), UID=UID_ROOT + "6"),
        item("UIDREF", code("1", "99ACME", "Own"), UID=UID_ROOT + "6"),
        item("IMAGE", code("121112", "DCM", "Source of Measurement"), ReferencedSOPSequence=items(image)),
        item(
            "CONTAINER",
            code("125007", "DCM", "Measurement Group"),
            ContentSequence=items(
                item(
                    "NUM",
                    code("81827009", "SCT", "Diameter"),
                    MeasuredValueSequence=items(made(NumericValue="5")),
                    ContentSequence=items(item("TEXT", code("R-42B89", "SRT", "Clinical Report"), TextValue=NAME)),
                )
            ),
        ),
    ]
    return ds


def concepts(ds: Dataset) -> Iterator[tuple[str, Dataset]]:
    for item in ds.get("ContentSequence", ()):
        yield item.ConceptNameCodeSequence[0].CodeMeaning, item
        yield from concepts(item)


def test_structured_content_is_cleaned_by_concept():
    ds = as_read(report())
    step = opened(keep_content=True, dates="shift")
    step.apply(ds)
    found = dict(concepts(ds))
    assert not {"Accession Number", "Subject Birth Date", "Clinical Report"} & set(found)
    assert found["Person Observer Name"].PersonName == "ANONYMIZED"
    assert str(found["Subject Name"].PersonName) == found["Subject ID"].TextValue == ds.PatientID
    assert found["Finding"].TextValue == "REMOVED"
    days = Pseudonyms(bytes.fromhex(KEY)).days(f"id\0{PATIENT_ID}")
    assert found["DateTime Started"].DateTime.startswith(step_day(days))
    assert found["Tracking UID"].UID == found["Own"].UID == step.uid(UID_ROOT + "6")
    reference = found["Source of Measurement"].ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == step.uid(UID_ROOT + "3.1")
    assert found["Diameter"].MeasuredValueSequence[0].NumericValue == 5
    assert not traces(as_bytes(ds), *SECRETS, "free words", "GNU")


def step_day(days: int) -> str:
    import datetime as dt

    return (dt.date(2024, 3, 17) + dt.timedelta(days=days)).strftime("%Y%m%d")


def test_findings_stay_cleaned_where_descriptions_do():
    ds = as_read(report())
    opened(keep_content=True, keep_descriptors=True, keep_uids=True, dates="keep").apply(ds)
    found = dict(concepts(ds))
    assert found["Finding"].TextValue == "has a 5 mm nodule"
    assert found["DateTime Started"].DateTime == STUDY_DAY + "0900"
    assert found["Tracking UID"].UID == UID_ROOT + "6"


def test_without_the_option_a_report_has_no_content():
    ds = as_read(report())
    opened().apply(ds)
    (only,) = ds.ContentSequence
    assert (only.ValueType, only.TextValue) == ("TEXT", "REMOVED")
    assert not traces(as_bytes(ds), *SECRETS, "nodule", "free words")


def test_drawings_become_a_point_or_lose_their_texts():
    def drawing() -> Dataset:
        return made(
            GraphicLayer="L1",
            ReferencedImageSequence=items(made(ReferencedSOPInstanceUID=UID_ROOT + "3.1")),
            TextObjectSequence=items(made(UnformattedTextValue=NAME, AnchorPoint=[1.0, 2.0])),
            GraphicObjectSequence=items(made(GraphicData=[3.0, 4.0, 5.0, 6.0], GraphicType="POLYLINE")),
        )

    ds = ct_image(GraphicAnnotationSequence=[drawing()])
    step = opened()
    step.apply(ds)
    (only,) = ds.GraphicAnnotationSequence
    assert "TextObjectSequence" not in only
    assert [g.GraphicType for g in only.GraphicObjectSequence] == ["POINT"]
    assert only.ReferencedImageSequence[0].ReferencedSOPInstanceUID == step.uid(UID_ROOT + "3.1")
    ds = ct_image(GraphicAnnotationSequence=[drawing()])
    opened(keep_graphics=True).apply(ds)
    (only,) = ds.GraphicAnnotationSequence
    assert only.GraphicObjectSequence[0].GraphicData == [3, 4, 5, 6]
    assert only.TextObjectSequence[0].UnformattedTextValue not in ("", NAME)


def document(**more: Any) -> Dataset:
    pdf = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1",
        "EncapsulatedDocument": b"%PDF-1.4 " + NAME.encode() + b" ",
        "MIMETypeOfEncapsulatedDocument": "application/pdf",
        "DocumentTitle": NAME,
    }
    ds = ct_image(**{**pdf, **more})
    del ds.PixelData
    return ds


def test_a_document_is_refused_or_becomes_an_empty_page():
    with pytest.raises(StepError, match="can't be cleaned") as caught:
        opened().apply(document())
    assert caught.value.code == "deidentify-document"
    after = sent(as_bytes(document()), documents="blank")
    ds = dcmread(io.BytesIO(after))
    assert ds.EncapsulatedDocument == BLANK_PAGE
    assert not traces(after, *SECRETS)
    model = document(SOPClassUID="1.2.840.10008.5.1.4.1.1.104.3", MIMETypeOfEncapsulatedDocument="model/stl")
    with pytest.raises(StepError, match="can't be cleaned"):
        opened(documents="blank").apply(model)


def test_a_large_document_that_is_not_in_memory_is_replaced_as_well():
    ds = document(EncapsulatedDocument=NAME.encode() * 200_000)
    content = parse(io.BytesIO(as_bytes(ds)), None)
    assert isinstance(content.dataset.get_item("EncapsulatedDocument").value, LargeValue)
    opened(documents="blank").apply(content.dataset)
    segments, _files = encoded(content, None)
    after = segments.whole()
    assert len(after) < 10_000
    assert not traces(after, *SECRETS)


def test_large_private_values_and_what_follows_the_pixels_are_removed():
    ds = ct_image(PixelData=bytes(3 << 20))
    ds.Rows, ds.Columns = 1536, 1024
    ds.private_block(0x0029, "SIEMENS CSA", create=True).add_new(0x10, "OB", NAME.encode() * 200_000)
    ds.private_block(0x7FE1, "SIEMENS CSA NON-IMAGE", create=True).add_new(0x10, "OB", NAME.encode() * 200_000)
    ds.DataSetTrailingPadding = NAME.encode() * 200_000
    after = sent(as_bytes(ds))
    assert not traces(after, *SECRETS)
    assert dcmread(io.BytesIO(after)).PixelData == bytes(3 << 20)


# refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"BurnedInAnnotation": "YES"}, "burned-in text"),
        ({"RecognizableVisualFeatures": "YES"}, "recognisable face"),
        ({"Modality": "US"}, "modality US"),
        ({"Modality": "ES"}, "modality ES"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "captured"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.4"}, "captured"),
        ({"ConversionType": "SD"}, "captured"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.4", "Modality": "XC"}, "photograph"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "screen"),
        ({"ImageType": ["DERIVED", "SECONDARY", "OTHER", "CT_SOM7 PROT"]}, "screen"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LABEL"], "Modality": "SM"}, "screen, a report or a label"),
        ({"SpecimenLabelInImage": "YES"}, "label of the specimen"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"], "BurnedInAnnotation": "NO"}, "screen"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.9.4.1"}, "voice recording"),
    ],
)
def test_an_image_that_may_show_who_it_is_is_not_sent(more: dict[str, Any], why: str):
    with pytest.raises(StepError, match=why) as caught:
        opened().apply(ct_image(**more))
    assert caught.value.code == "deidentify-burned-in"
    assert caught.value.next_step
    said = opened(burned_in="pass").apply(ct_image(**more))
    assert any(why in sentence for sentence in said)


@pytest.mark.parametrize(
    "more", [{}, {"Modality": "US", "BurnedInAnnotation": "NO"}, {"Modality": "MG"}, {"Modality": "MR"}]
)
def test_other_images_are_sent(more: dict[str, Any]):
    opened().apply(ct_image(**more))


def test_an_overlay_in_the_bits_of_the_pixels_and_pixels_elsewhere_are_refused_in_any_case():
    ds = ct_image()
    ds.add_new((0x6000, 0x0010), "US", 2)
    ds.add_new((0x6000, 0x0100), "US", 16)
    ds.add_new((0x6000, 0x0102), "US", 12)
    with pytest.raises(StepError, match="unused bits"):
        opened(burned_in="pass").apply(ds)
    with pytest.raises(StepError, match="another server"):
        opened(burned_in="pass").apply(ct_image(PixelDataProviderURL="https://pacs.example/jpip?x"))


@pytest.mark.parametrize("garbage", [b"no item at all!!", NAME.encode().ljust(24), b"\xfe\xff\x00\xe0\xff\xff\xff\x0f"])
def test_a_sequence_that_can_not_be_taken_apart_is_not_sent(garbage: bytes):
    data = as_bytes(ct_image(ReferencedSeriesSequence=[]))
    head = b"\x08\x00\x15\x11"
    assert head + b"SQ\0\0" + bytes(4) in data
    broken = head + b"UN\0\0" + len(garbage).to_bytes(4, "little") + garbage
    with pytest.raises(StepError) as caught:
        sent(data.replace(head + b"SQ\0\0" + bytes(4), broken))
    assert caught.value.code == "deidentify-unreadable"
    assert not traces(f"{caught.value} {caught.value.detail}".encode(), *SECRETS)


def test_a_number_that_is_none_is_replaced():
    ds = as_read(ct_image(KVP="120"))
    raw = ds.get_item("KVP")
    ds._dict[raw.tag] = raw._replace(value=PATIENT_ID.encode(), length=len(PATIENT_ID))
    opened().apply(ds)
    assert ds.KVP == 0


def test_no_error_tells_the_patient():
    """Whatever is wrong with an image: sentence, detail and chain of errors stay free of what is in it."""
    for change in (
        {"StudyInstanceUID": ""},
        {"BurnedInAnnotation": "YES"},
        {"PixelDataProviderURL": f"https://{PATIENT_ID}"},
    ):
        ds = ct_image(**change)
        ds.PatientID = "" if "StudyInstanceUID" in change else PATIENT_ID
        ds.PatientBirthDate = ""
        with pytest.raises(StepError) as caught:
            opened().apply(ds)
        said = f"{caught.value} {caught.value.detail} {caught.value.code} {caught.value.__cause__}"
        assert not traces(said.encode(), *SECRETS)


def test_what_was_done_is_told_without_the_patient():
    said = opened(**EVERYTHING).apply(telltale())
    assert not traces(" ".join(said).encode(), *SECRETS)


# any image -------------------------------------------------------------------------------------------------

WORDS = st.text(string.ascii_letters + " ", max_size=12)
VALUES = {
    "LO": WORDS, "SH": WORDS, "ST": WORDS, "UT": WORDS, "CS": st.just("A"), "IS": st.just("7"), "DS": st.just("1.5"),
    "US": st.integers(0, 9), "DA": st.just("20200101"), "TM": st.just("101010"), "UI": st.just(UID_ROOT + "9"),
    "PN": WORDS.map(lambda w: f"{w}^X"), "OB": st.just(b"\0\1"), "FD": st.just(1.5), "AE": st.just("NODE"),
}  # fmt: skip


@st.composite
def data_sets(draw, depth: int = 3) -> Dataset:
    from pydicom.datadict import DicomDictionary

    ds = Dataset()
    usable = USABLE if USABLE else USABLE.extend(
        tag for tag, entry in DicomDictionary.items()
        if entry[0] in (*VALUES, "SQ") and tag >> 16 >= 0x0008 and tag not in NEVER
    ) or USABLE  # fmt: skip
    for tag in draw(st.lists(st.sampled_from(usable), max_size=6, unique=True)):
        vr = DicomDictionary[tag][0]
        if vr == "SQ":
            if depth:
                ds.add_new(tag, "SQ", draw(st.lists(data_sets(depth=depth - 1), max_size=2)))
        else:
            value = draw(VALUES[vr])
            hide = draw(st.booleans()) and vr in ("LO", "ST", "UT", "PN")
            ds.add_new(tag, vr, f"{value} ZEBRA {PATIENT_ID}" if hide else value)
    if draw(st.booleans()):
        ds.private_block(0x0011, "ANY", create=True).add_new(1, "LO", PATIENT_ID)
    return ds


USABLE: list[int] = []
NEVER = {0x00080005, 0x00080016, 0x00080018, 0x0020000D, 0x0020000E, 0x00287FE0, 0x00420011, 0x7FE00010, 0x00280301,
         0x00280302, 0x00480010, 0x00080008, 0x00080060, 0x00080064, 0x00100010, 0x00100020, 0x00080050}  # fmt: skip


@settings(
    max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
)
@given(data_sets(), st.sampled_from([{}, {"dates": "shift"}, EVERYTHING, {"dates": "keep", "keep_uids": True}]))
def test_any_nested_data_set_comes_out_clean(inner: Dataset, fields: dict[str, Any]):
    ds = ct_image(ReferencedSeriesSequence=[inner])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the made-up values break limits of length
        after, error = tried(as_bytes(ds), **{"burned_in": "pass", "documents": "blank", **fields})
        if error is not None:
            assert not traces(str(error).encode(), *SECRETS)
            return
        assert not traces(after, "ZEBRA", PATIENT_ID)
        out = dcmread(io.BytesIO(after))
        assert list(out.iterall())


def strings_of(ds: Dataset) -> set[str]:
    """Names, numbers and instance UIDs of an image, long enough to be looked for."""
    found: set[str] = set()
    for keyword in ("PatientName", "PatientID", "AccessionNumber", "StudyInstanceUID", "SOPInstanceUID",
                    "SeriesInstanceUID", "OtherPatientIDs", "ReferringPhysicianName"):  # fmt: skip
        value = ds.get(keyword)
        if value and len(str(value)) >= 6:
            found.add(str(value))
    return {f for f in found if not f.startswith("1.2.840.10008.")}


@pytest.mark.filterwarnings("ignore")  # these files are broken in many ways
@pytest.mark.parametrize("fields", [{}, {**EVERYTHING, "dates": "shift"}], ids=["basic", "everything"])
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_images_of_all_kinds_go_through_or_are_refused_in_words(path: Path, fields: dict[str, Any]):
    data = path.read_bytes()
    after, error = tried(data, **{"burned_in": "pass", "documents": "blank", **fields})
    if error is not None:
        assert error.sentence.endswith(".")
        assert error.code != "deidentify-unreadable", error.detail
        return
    before, ds = dcmread(io.BytesIO(data), force=True), dcmread(io.BytesIO(after))
    assert ds.PatientIdentityRemoved == "YES"
    assert UID(ds.SOPInstanceUID).is_valid
    assert ds.SOPInstanceUID != before.SOPInstanceUID
    assert ds.SOPInstanceUID == ds.file_meta.MediaStorageSOPInstanceUID
    assert ds.file_meta.TransferSyntaxUID == before.file_meta.TransferSyntaxUID
    assert ds.get("PixelData") == before.get("PixelData")
    body = after if ds.file_meta.TransferSyntaxUID != "1.2.840.10008.1.2.1.99" else str(ds).encode()
    assert not traces(body, *strings_of(before))


VALIDATOR = Path(sys.executable).parent / "dciodvfy"


@pytest.mark.skipif(not VALIDATOR.exists(), reason="dicom3tools is for Linux")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fields", [{}, {**EVERYTHING, "dates": "shift"}], ids=["basic", "everything"])
@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small.dcm", "rtplan.dcm", "rtdose_1frame.dcm", "test-SR.dcm", "waveform_ecg.dcm",
             "JPEG2000.dcm", "examples_palette.dcm"],
)  # fmt: skip
def test_the_result_is_as_valid_as_the_original(name: str, fields: dict[str, Any], tmp_path: Path):
    """By dciodvfy of dicom3tools: no error of a kind that the original doesn't have at that place."""
    data = next(path for path in FILES if path.name == name).read_bytes()
    (tmp_path / "before.dcm").write_bytes(data)
    (tmp_path / "after.dcm").write_bytes(sent(data, **{"burned_in": "pass", **fields}))
    assert faults(tmp_path / "after.dcm") <= faults(tmp_path / "before.dcm")


def faults(path: Path) -> set[str]:
    done = subprocess.run([VALIDATOR, "-new", path], capture_output=True, timeout=60, check=False)
    lines = (done.stdout + done.stderr).decode("latin-1").splitlines()
    # without values and places within sequences: the same error of another value is no new one
    return {re.sub(r"\[\d+\]|= <[^>]*>", "", line) for line in lines if line.startswith("Error")}


def test_many_threads_make_the_same():
    step = opened(dates="shift")
    found: set[str] = set()

    def work() -> None:
        for _ in range(20):
            ds = ct_image()
            step.apply(ds)
            found.add(f"{ds.PatientID} {ds.StudyDate} {ds.SOPInstanceUID} {ds.StudyInstanceUID}")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(found) == 1
