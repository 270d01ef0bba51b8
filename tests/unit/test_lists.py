"""Lists as people have them: every encoding, separator and spreadsheet habit, and what is refused with which reason."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from openpyxl import Workbook
from openpyxl.worksheet.worksheet import Worksheet

from core.jobs.lists import Identifier, ListPreview, Refusal, read_list, typed_list
from core.model.errors import ConfigurationError


def values(preview: ListPreview) -> list[str]:
    return [entry.value for entry in preview.accepted]


def refusals(preview: ListPreview) -> dict[int, Refusal]:
    return {one.row: one.refusal for one in preview.refused}


def text(path: Path, content: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(content.encode(encoding))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "studies.csv"


def sheet(path: Path) -> tuple[Workbook, Worksheet]:
    book = Workbook()
    assert isinstance(book.active, Worksheet)
    return book, book.active


TABLE = "Name;Accession Number;Datum\nMüller;00123;2024-01-01\nÅström;A-77;2024-01-02\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252"])
@pytest.mark.parametrize("separator", [";", ",", "\t", "|"])
def test_every_encoding_and_separator(file: Path, encoding: str, separator: str) -> None:
    found = read_list(text(file, TABLE.replace(";", separator), encoding))
    assert values(found) == ["00123", "A-77"]
    assert (found.identifier, found.column) == (Identifier.ACCESSION, "Accession Number")
    assert found.columns == ("Name", "Accession Number", "Datum")


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_every_end_of_line(file: Path, ending: str) -> None:
    assert values(read_list(text(file, TABLE.replace("\n", ending)))) == ["00123", "A-77"]


def test_one_value_a_line_without_a_heading(file: Path) -> None:
    found = read_list(text(file, "1.2.840.1\n1.2.840.2\n\n  1.2.840.3  \n"))
    assert values(found) == ["1.2.840.1", "1.2.840.2", "1.2.840.3"]
    assert found.identifier is Identifier.STUDY_UID
    assert refusals(found) == {3: Refusal.BLANK}


def test_what_is_refused_is_counted_with_its_reason(file: Path) -> None:
    rows = ["accession", "1", "A*", "", "1", "B?", "C\\D", "x" * 65, "1,23457E+12", "2", "   ", "#N/A"]
    found = read_list(text(file, "\n".join(f'"{r}"' for r in rows)))
    assert values(found) == ["1", "2"]
    assert refusals(found) == {
        1: Refusal.HEADER, 3: Refusal.WILDCARD, 4: Refusal.BLANK, 5: Refusal.DUPLICATE, 6: Refusal.WILDCARD,
        7: Refusal.INVALID, 8: Refusal.INVALID, 9: Refusal.INVALID, 11: Refusal.BLANK, 12: Refusal.INVALID,
    }  # fmt: skip
    assert found.counts()[Refusal.WILDCARD] == 2
    assert [one.row for one in found.lost] == [3, 6, 7, 8, 9, 12]
    assert "row 2" in next(one.reason for one in found.refused if one.row == 5)


@pytest.mark.parametrize(
    ("typed", "kept"),
    [('="00123"', "00123"), ("'=77", "=77"), ("12345.0", "12345"), ("\xa0 9 ", "9"), ("1.5", "1.5"), ("007", "007")],
)
def test_what_spreadsheets_put_around_a_value(file: Path, typed: str, kept: str) -> None:
    quoted = '"' + typed.replace('"', '""') + '"'
    assert values(read_list(text(file, f"accession\n{quoted}\n"))) == [kept]


def test_quoted_fields_keep_rows_and_separators_apart(file: Path) -> None:
    found = read_list(text(file, 'Name,Accession\n"Doe, ""J""\nand more",17\nX,18\n'))
    assert [(e.row, e.value) for e in found.accepted] == [(2, "17"), (4, "18")]


def test_excels_own_hint_for_the_separator(file: Path) -> None:
    assert values(read_list(text(file, "sep=;\nAccession;Name\n5;a,b,c\n6;d,e,f\n"))) == ["5", "6"]


@pytest.mark.parametrize("column", ["Befund Nr", "befund nr", "befundnr", "2", "B"])
def test_a_column_by_its_heading_number_or_letter(file: Path, column: str) -> None:
    text(file, "Name;Befund Nr;Notiz\nx;11;a\ny;12;b\n")
    found = read_list(file, column, Identifier.ACCESSION)
    assert values(found) == ["11", "12"]
    assert refusals(found) == {1: Refusal.HEADER}


@pytest.mark.parametrize(
    ("column", "identifier"),
    [("accession", Identifier.ACCESSION), ("study-uid", Identifier.STUDY_UID), ("patient_id", Identifier.PATIENT_ID)],
)
def test_a_column_by_what_it_means(file: Path, column: str, identifier: Identifier) -> None:
    text(file, "PatientID,StudyInstanceUID,AccessionNumber\nP1,1.2.3,A1\n")
    found = read_list(file, column)
    assert found.identifier is identifier
    assert len(found.accepted) == 1


def test_the_studys_uid_says_most(file: Path) -> None:
    found = read_list(text(file, "MRN,Study UID,Acc.-Nr.\nP1,1.2.3,A1\nP1,1.2.4,A2\n"))
    assert values(found) == ["1.2.3", "1.2.4"]


@pytest.mark.parametrize(
    ("content", "column", "words"),
    [
        ("Name;Nr\nx;11\n", "Befund", "There is no column “Befund”"),
        ("Name;Nr\nx;11\n", "7", "There is no column “7”"),
        ("a;b\n1;2\n3;4\n", "", "Which column"),
        ("11\n12\n", "", "accession numbers or patient IDs"),
        ("", "", "is empty"),
        ("\n\n;;\n", "", "is empty"),
    ],
)
def test_what_is_not_clear_is_asked(file: Path, content: str, column: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        read_list(text(file, content), column)


def test_a_list_of_study_uids_is_no_list_of_anything_else(file: Path) -> None:
    found = read_list(text(file, "Study UID\n1.2.3\nA77\n1..2\n"))
    assert values(found) == ["1.2.3"]
    assert [one.row for one in found.lost] == [3, 4]


def test_an_excel_file_with_everything_people_do(tmp_path: Path) -> None:
    book, page = sheet(tmp_path)
    rows: list[object] = [
        "Accession", 12345, 12345.0, "00077", 88.0, None, 1.5, 12345678901234567, dt.date(2024, 1, 2), True, "A*",
    ]  # fmt: skip
    for n, value in enumerate(rows, 1):
        page.cell(n, 1, "Müller")
        page.cell(n, 2, value)  # type: ignore[arg-type]
    page.cell(12, 2, 42).number_format = "00000"
    page.cell(13, 2, "M1")
    page.merge_cells("B13:B15")
    path = tmp_path / "list.xlsx"
    book.save(path)
    found = read_list(path)
    assert values(found) == ["12345", "00077", "88", "00042", "M1"]
    assert refusals(found) == {
        1: Refusal.HEADER, 3: Refusal.DUPLICATE, 6: Refusal.BLANK, 7: Refusal.INVALID, 8: Refusal.INVALID,
        9: Refusal.INVALID, 10: Refusal.INVALID, 11: Refusal.WILDCARD, 14: Refusal.MERGED, 15: Refusal.MERGED,
    }  # fmt: skip
    assert "15 digits" in next(one.reason for one in found.refused if one.row == 8)


def test_an_excel_file_without_a_heading_and_its_name_does_not_matter(tmp_path: Path) -> None:
    book, page = sheet(tmp_path)
    for n, value in enumerate(["1.2.3.1", "1.2.3.2"], 3):
        page.cell(n, 2, value)
    path = tmp_path / "list.csv"
    book.save(path)
    found = read_list(path)
    assert [(e.row, e.value) for e in found.accepted] == [(3, "1.2.3.1"), (4, "1.2.3.2")]


def test_a_merged_heading(tmp_path: Path) -> None:
    book, page = sheet(tmp_path)
    page.cell(1, 1, "Accession")
    page.merge_cells("A1:B1")
    page.cell(2, 1, "7")
    book.save(tmp_path / "list.xlsx")
    assert values(read_list(tmp_path / "list.xlsx")) == ["7"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 500, "old Excel file, or one with a password"),
        (b"PK\x03\x04 and then nothing of the kind", "damaged, or no Excel workbook"),
        (b"\x00\x01\x02\x03" * 300, "is no text"),
    ],
)
def test_what_is_no_list(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "list.xlsx"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=words):
        read_list(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"can't be read"):
        read_list(tmp_path / "none.csv")


def test_typed_entries() -> None:
    found = typed_list(["A1", " ", "A1", "B*", " A2 "], Identifier.PATIENT_ID)
    assert values(found) == ["A1", "A2"]
    assert refusals(found) == {2: Refusal.BLANK, 3: Refusal.DUPLICATE, 4: Refusal.WILDCARD}
    assert typed_list(["1.2.3", "1.2.4"]).identifier is Identifier.STUDY_UID
    with pytest.raises(ConfigurationError):
        typed_list(["A1"])


def test_a_hundred_thousand_rows(file: Path) -> None:
    found = read_list(text(file, "accession\n" + "\n".join(f"{n:08}" for n in range(100_000))))
    assert len(found.accepted) == 100_000
