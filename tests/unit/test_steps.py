"""Processing steps by themselves: as text, what they do to a data set, what they refuse."""

from __future__ import annotations

import ast
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence

from core.model.errors import ConfigurationError
from core.model.job import ProcessingFields
from core.model.steps import StepChoice, parse_step
from core.steps.base import LargeValue, Step, StepError, StepSurroundings, WholeFile
from core.steps.registry import checked_fields, described, normalised, open_steps, step_kinds
from tests.support.studies import make_study
from tests.support.waiting import wait_for


def opened(text: str, **surroundings: Any) -> Step:
    (step,) = open_steps([parse_step(text)], StepSurroundings(**surroundings))
    return step


def image(**tags: Any) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.SpecificCharacterSet = "ISO_IR 100"
    made.Modality, made.PatientID, made.PatientName = "CT", "P1", "Müller^Anna"
    made.StudyDate, made.PatientBirthDate = "20240315", "19700102"
    made.AccessionNumber = "A1"
    for keyword, value in tags.items():
        setattr(made, keyword, value)
    made.add_new(0x7FE00010, "OW", LargeValue())
    return made


# as text --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("tags actions=remove", {"actions": "remove"}),
        (r"lookup table=C:\data\ids.csv header=no", {"table": r"C:\data\ids.csv", "header": "no"}),
        (r'lookup table="C:\my data\ids.csv"', {"table": r"C:\my data\ids.csv"}),
        ('tags actions="set PatientComments=""so"" called; remove StudyID"',
         {"actions": 'set PatientComments="so" called; remove StudyID'}),
        ("tags note-former=no actions=", {"note_former": "no", "actions": ""}),
    ],
)  # fmt: skip
def test_a_step_as_text_is_read_and_written_again(text: str, fields: dict[str, str]) -> None:
    found = parse_step(text)
    assert (found.kind, found.fields) == (text.split()[0], fields)
    assert parse_step(str(found)) == found


@pytest.mark.parametrize("text", ["", "=x", 'tags actions="open', "tags actions", "tags a=1 a=2", 'tags a="x"y'])
def test_a_step_that_cannot_be_read_says_so_with_an_example(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_step(text)
    assert "tags actions=" in caught.value.next_step


def test_a_job_takes_steps_as_text_and_as_data() -> None:
    text = ProcessingFields.model_validate({"step": ['tags actions="remove StudyID"']})
    saved = text.model_dump(mode="json")
    assert saved["step"] == [{"kind": "tags", "fields": {"actions": "remove StudyID"}}]
    assert ProcessingFields.model_validate(saved) == text
    assert hash(text.step[0])


def test_fields_of_the_wrong_kind_name_the_step_and_the_field() -> None:
    with pytest.raises(ConfigurationError, match=r"Run a program.*Time limit"):
        checked_fields(StepChoice(kind="external", fields={"program": "x", "time_limit": "never"}))
    with pytest.raises(ConfigurationError, match="no kind of step"):
        checked_fields(StepChoice(kind="nothing"))
    same = normalised(parse_step("external program=/bin/true time-limit=120"))
    assert same.fields == {"program": str(Path("/bin/true").absolute())}
    assert described(same) == "Run true"


# tags -----------------------------------------------------------------------------------------------------------


def tags(actions: str, dataset: Dataset, **more: str) -> tuple[str, ...]:
    fields = {"actions": actions, **more}
    (step,) = open_steps([StepChoice(kind="tags", fields=fields)], StepSurroundings())
    return step.apply(dataset)


def test_tags_are_set_replaced_lengthened_emptied_and_removed() -> None:
    one = image(StudyID="7", ImageComments="long", OtherPatientNames=["A^B", "C^D"])
    said = tags(
        'set InstitutionName="Radiology; West"; replace StudyID=8; replace StationName=X; prefix AccessionNumber=W-\n'
        "suffix OtherPatientNames= jr; empty (0008,0020); remove ImageComments; set SeriesNumber=12; set Rows=4",
        one,
    )
    assert (one.InstitutionName, one.StudyID, one.AccessionNumber) == ("Radiology; West", "8", "W-A1")
    assert "StationName" not in one
    assert one["StudyDate"].is_empty
    assert [str(n) for n in one.OtherPatientNames] == ["A^Bjr", "C^Djr"]
    assert "ImageComments" not in one
    assert (one.SeriesNumber, one.Rows) == (12, 4)
    assert len(said) == 8
    assert not any("Radiology" in s or "W-" in s for s in said), "no values: they may be patient data"
    former = one.OriginalAttributesSequence[0]
    noted = former.ModifiedAttributesSequence[0]
    assert {e.keyword for e in noted} == {"StudyID", "AccessionNumber", "OtherPatientNames"}
    assert former.ReasonForTheAttributeModification == "CORRECT"
    assert former.AttributeModificationDateTime


def test_what_is_already_so_is_no_change() -> None:
    one = image()
    assert tags("set Modality=CT; remove ImageComments; empty StationName; prefix StudyID=X", one) == ()
    assert one == image()


def test_tags_in_sequences_private_tags_and_patterns() -> None:
    item, other = Dataset(), Dataset()
    item.AccessionNumber, other.AccessionNumber = "1", "2"
    one = image(RequestAttributesSequence=Sequence([item, other]))
    block = one.private_block(0x0019, "MAKER", create=True)
    block.add_new(0x10, "LO", "a")
    block.add_new(0x11, "LO", "b")
    one.private_block(0x0021, "MAKER", create=True).add_new(0x10, "LO", "c")
    tags(
        "prefix RequestAttributesSequence.AccessionNumber=X; set RequestAttributesSequence[1].StudyDate=20200101;"
        "remove (0019,xx10); replace (0021,1010)=d",
        one,
    )
    assert [i.AccessionNumber for i in one.RequestAttributesSequence] == ["X1", "X2"]
    assert "StudyDate" not in one.RequestAttributesSequence[0]
    assert one.RequestAttributesSequence[1].StudyDate == "20200101"
    assert (0x0019, 0x1010) not in one
    assert one[0x0019, 0x1011].value == "b"
    assert one[0x0021, 0x1010].value == "d"
    assert (
        one.OriginalAttributesSequence[0].ModifiedAttributesSequence[0].RequestAttributesSequence[0].AccessionNumber
        == "1"
    )


def test_keep_removes_all_others_but_what_an_image_is_made_of() -> None:
    one = image(StudyInstanceUID="1.2", SeriesInstanceUID="1.3", SOPInstanceUID="1.4", SOPClassUID="1.5", Rows=2)
    block = one.private_block(0x0019, "MAKER", create=True)
    block.add_new(0x10, "LO", "a")
    block.add_new(0x11, "LO", "b")
    said = tags("keep Modality, StudyDate, (0019,xx10)", one)
    left = {int(e.tag) for e in one}
    assert {0x00080060, 0x00080020, 0x0020000D, 0x7FE00010, 0x00280010, 0x00190010, 0x00191010} <= left
    assert not {0x00100010, 0x00100020, 0x00191011} & left
    assert said == ("5 other tags removed.",)


@pytest.mark.parametrize(
    ("actions", "words"),
    [
        ("set PatientBirthDate=1970-01-02", "a date such as 20240315"),
        ("set StudyInstanceUID=1.2.3", "de-identification"),
        ("remove SOPInstanceUID", "de-identification"),
        ("remove PixelData", "pixels as they are"),
        ("set TransferSyntaxUID=1.2", "belongs to the file"),
        ("set (0019,1010)=x", "private tag"),
        ("set (0019,xx10)=x", "several tags"),
        ("set PatientWeight=heavy", "a number"),
        ("set Modality=ct", "capitals"),
        ("set AccessionNumber=12345678901234567", "at most 16 characters"),
        ("prefix StudyDate=2", "no text of any length"),
        ("set PatientNam=x", "perhaps PatientName is meant"),
        ("set PatientName", "takes a tag and a value"),
        ("remove PatientName=x", "no value"),
        ("set Modality.StudyDate=1", "no sequence"),
        ("change PatientName=x", "none of set"),
        ('set PatientName="x', "not closed"),
        ("set RequestAttributesSequence=x", "hold no text"),
        (";;", "nothing to do"),
    ],
)  # fmt: skip
def test_actions_that_cannot_be_are_refused_before_anything_is_sent(actions: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        checked_fields(StepChoice(kind="tags", fields={"actions": actions}))
    assert words in caught.value.sentence


def test_a_result_that_is_too_long_fails() -> None:
    with pytest.raises(StepError, match=r"AccessionNumber.*at most 16 characters"):
        tags("prefix AccessionNumber=ABCDEFGH", image(AccessionNumber="123456789"))


def test_only_images_that_a_rule_takes() -> None:
    where = 'Modality = CT and RequestAttributesSequence.AccessionNumber = "7"'
    inner = Dataset()
    inner.AccessionNumber = "7"
    taken, left = image(RequestAttributesSequence=Sequence([inner])), image()
    assert tags("remove StudyDate", taken, where=where)
    assert not tags("remove StudyDate", left, where=where)
    with pytest.raises(ConfigurationError, match="Only where"):
        checked_fields(StepChoice(kind="tags", fields={"actions": "remove StudyID", "where": "Modality ="}))


def test_letters_that_the_character_set_lacks() -> None:
    assert tags("set PatientName=Weiß^Jörg", image())  # ISO_IR 100 has them
    with pytest.raises(StepError, match="ISO_IR 100"):
        tags("set PatientName=Łukasz^Ż", image())
    plain = image(PatientName="Plain^Name", SpecificCharacterSet="")
    tags("set PatientName=Łukasz^Ż", plain)
    assert plain.SpecificCharacterSet == "ISO_IR 192"
    unsaid = image()
    del unsaid.SpecificCharacterSet
    with pytest.raises(StepError, match="without saying in which character set"):
        tags("set PatientComments=Łódź", unsaid)
    with pytest.raises(StepError, match="may not have all of its letters"):
        tags('set SpecificCharacterSet="ISO_IR 101"', image())
    changed = image()
    tags('set SpecificCharacterSet="ISO_IR 192"', changed)
    assert str(changed.PatientName) == "Müller^Anna"


def test_former_values_are_not_noted_where_that_is_switched_off() -> None:
    one = image()
    tags("set PatientID=X", one, note_former="no")
    assert "OriginalAttributesSequence" not in one


# look-up --------------------------------------------------------------------------------------------------------


def lookup(path: Path, **more: str) -> Step:
    fields = {"table": str(path), **more}
    (step,) = open_steps([StepChoice(kind="lookup", fields=fields)], StepSurroundings())
    return step


@pytest.mark.parametrize(
    "table",
    [
        "old,new,issuer,name,birth date\nP1,N1,WEST,New^Name,1971-03-04\n",
        "P1;N1;WEST;New^Name;19710304\r\n",
        "\ufeffPatient ID\tNew Patient ID\tNew issuer\tPatient Name\tDOB\nP1\tN1\tWEST\tNew^Name\t1971.03.04\n",
        '"new","old","issuer","name","dateofbirth"\n"N1","P1","WEST","New^Name","19710304"\n',
    ],
)
def test_a_table_with_and_without_names_of_columns(table: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(table, encoding="utf-8", newline="")
    one = image(IssuerOfPatientID="EAST")
    (said,) = lookup(path).apply(one)
    assert (one.PatientID, one.IssuerOfPatientID, one.PatientName, one.PatientBirthDate) == (
        "N1", "WEST", "New^Name", "19710304",
    )  # fmt: skip
    assert "N1" not in said
    noted = one.OriginalAttributesSequence[0]
    assert noted.ReasonForTheAttributeModification == "COERCE"
    assert noted.ModifiedAttributesSequence[0].PatientID == "P1"
    assert lookup(path, unknown="pass").apply(one) == (), "a new ID is not looked up again"


def test_a_former_issuer_does_not_stay_with_a_new_id(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("P1,N1\n")
    one = image(IssuerOfPatientID="EAST")
    lookup(path).apply(one)
    assert "IssuerOfPatientID" not in one
    assert one.OriginalAttributesSequence[0].ModifiedAttributesSequence[0].IssuerOfPatientID == "EAST"


def test_the_same_id_of_two_issuers(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("old,old issuer,new\nP1,EAST,N1\nP1,WEST,N2\n")
    for issuer, new in (("EAST", "N1"), ("WEST", "N2")):
        one = image(IssuerOfPatientID=issuer)
        lookup(path).apply(one)
        assert one.PatientID == new
    with pytest.raises(StepError, match="not in the table"):
        lookup(path).apply(image())


def test_unknown_patients_fail_pass_or_get_a_given_id(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("X,N1\n")
    with pytest.raises(StepError) as caught:
        lookup(path).apply(image())
    assert "P1" not in str(caught.value)
    assert lookup(path, unknown="pass").apply(image()) == ()
    one = image()
    lookup(path, unknown="default", default_id="UNKNOWN").apply(one)
    assert one.PatientID == "UNKNOWN"
    with pytest.raises(ConfigurationError, match="ID for unknown patients"):
        lookup(path, unknown="default")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("old,new\nP1,N1\nP2,N2\nP1,N3\n", "line 4: the patient ID of line 2 once more"),
        ("old,new\n,N1\nP2,\n", "line 2: no patient ID; line 3: no new patient ID"),
        ("old,new,dob\nP1,N1,31.2.1970\n", "line 2: a new birth date that can't be"),
        ("old,new\n", "names no patient"),
        ("", "it is empty"),
        ("P1\n", "one column only"),
        ("old,new,new id\nP1,N1,N2\n", "two columns hold the new patient ID"),
        ("new,issuer\nN1,W\n", "no column with the patient ID"),
        ("a\0b,c\n", "no CSV file"),
        ('P1,"N1\n', "quotation marks"),
        ("P1," + "N" * 65 + "\n", "at most 64 characters"),
    ],
)  # fmt: skip
def test_a_wrong_table_is_refused_by_its_lines(table: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(table)
    with pytest.raises(ConfigurationError) as caught:
        lookup(path)
    assert words in caught.value.sentence


def test_the_same_line_twice_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("P1,N1\n\nP1,N1\n")
    one = image()
    lookup(path).apply(one)
    assert one.PatientID == "N1"


def test_a_table_that_changes_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("core.steps.lookup_table.time.monotonic", lambda: now[0])
    path = tmp_path / "t.csv"
    path.write_text("P1,N1\n")
    step = lookup(path)
    path.write_text("P1,OTHER\n")
    first, second = image(), image()
    step.apply(first)
    now[0] += 2
    step.apply(second)
    assert (first.PatientID, second.PatientID) == ("N1", "OTHER")
    path.write_text("P1,A\nP1,B\n")
    now[0] += 2
    with pytest.raises(StepError, match="line 2"):
        step.apply(image())
    path.unlink()
    now[0] += 2
    with pytest.raises(StepError, match="can't be read"):
        step.apply(image())
    path.write_text("P1,BACK\n")
    now[0] += 2
    last = image()
    step.apply(last)
    assert last.PatientID == "BACK"


# a program ------------------------------------------------------------------------------------------------------

Program = Callable[[str], Path]
posix = pytest.mark.skipif(sys.platform == "win32", reason="a script with a first line that names its interpreter")


@pytest.fixture
def program(tmp_path: Path) -> Program:
    def made(text: str) -> Path:
        path = tmp_path / "my program.py"
        path.write_text(f"#!{sys.executable}\nimport os, sys, shutil, subprocess, time\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return made


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "input.dcm").write_bytes(make_study(instances=1)[0])
    return folder / "input.dcm", folder / "output.dcm"


def transform(path: Path, files: tuple[Path, Path], more: str = "", **surroundings: Any) -> tuple[str, ...]:
    step = opened(f'external program="{path}" {more}', **surroundings)
    assert isinstance(step, WholeFile)
    return step.transform(*files)


CHANGE = "d = __import__('pydicom').dcmread(sys.argv[1]); d.StationName = 'X'; d.save_as(sys.argv[-1])"


@posix
def test_a_program_gets_the_file_and_little_of_the_environment(
    program: Program, files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DICOM_FERRY_SECRET_PACS", "hidden")
    seen = tmp_path / "seen"
    path = program(f"open({str(seen)!r}, 'w').write(repr((sys.argv[1:], dict(os.environ), os.getcwd())))\n{CHANGE}")
    said = transform(path, files, 'arguments="{input} ""two words"" --to={output} {output}"')
    assert said == ("Changed by my program.py.",)
    arguments, environment, place = ast.literal_eval(seen.read_text())
    assert arguments == [str(files[0]), "two words", f"--to={files[1]}", str(files[1])]
    assert "hidden" not in str(environment)
    assert Path(place).parent == files[0].parent == Path(environment["TMPDIR"]).parent


@posix
def test_a_program_that_changes_the_file_in_place(program: Program, files: tuple[Path, Path]) -> None:
    before = files[0].read_bytes()
    assert transform(program(CHANGE), files, "arguments={input}")
    assert files[0].read_bytes() == before
    assert files[1].read_bytes() != before


@posix
def test_a_program_that_changes_nothing(program: Program, files: tuple[Path, Path]) -> None:
    assert transform(program("shutil.copy(sys.argv[1], sys.argv[2])"), files) == ()
    assert transform(program("sys.exit(3)"), files, 'where="Modality = MG"') == ()


@posix
@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("sys.stderr.write('\\nMüller^Anna is bad\\nmore'); sys.exit(4)", "external-failed", "status 4"),
        ("os.kill(os.getpid(), 9)", "external-failed", "signal 9"),
        ("pass", "external-no-output", "wrote no image"),
        ("open(sys.argv[2], 'w').write('hello')", "external-output", "no DICOM file"),
        ("d = __import__('pydicom').dcmread(sys.argv[1]); d.SOPInstanceUID = '1.2'; d.save_as(sys.argv[2])",
         "external-uids", "changed UIDs"),
    ],
)  # fmt: skip
def test_a_program_that_fails(text: str, code: str, words: str, program: Program, files: tuple[Path, Path]) -> None:
    with pytest.raises(StepError) as caught:
        transform(program(text), files)
    assert (caught.value.code, words in caught.value.sentence) == (code, True)
    assert "Müller" not in caught.value.sentence
    if code == "external-failed" and "status" in words:
        assert caught.value.detail == "Müller^Anna is bad"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("how", ["time", "stop"])
def test_a_program_is_ended_with_its_children(
    how: str, program: Program, files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = tmp_path / "child"
    sleeper = f"import os, time; open({str(child)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    path = program(f"subprocess.Popen([sys.executable, '-c', {sleeper!r}])\ntime.sleep(600)")

    def has_child() -> bool:
        return child.exists() and bool(child.read_text())

    if how == "time":  # which passes once it has one, however slow this computer is
        monkeypatch.setattr("core.steps.external.time.monotonic", lambda: 1e6 if has_child() else 0.0)
    options: dict[str, Any] = {} if how == "time" else {"stopped": has_child}
    with pytest.raises(StepError) as caught:
        transform(path, files, **options)
    assert caught.value.code == ("external-timeout" if how == "time" else "stopped")
    wait_for(lambda: not is_alive(int(child.read_text())), what="the end of the program's child")


def is_alive(pid: int) -> bool:
    """Whether it still runs; one that has ended and that nobody has asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (OSError, IndexError):
        return False


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not there"):
        opened(f"external program={tmp_path / 'none'}")
    with pytest.raises(ConfigurationError, match="\\{input\\}"):
        opened(f'external program={tmp_path} arguments="-x"')


def test_every_kind_says_in_a_line_what_it_does() -> None:
    examples = {
        "tags": {"actions": "set PatientID=X; remove StudyID; empty StudyDate; remove SeriesDate"},
        "lookup": {"table": "/data/ids.csv"},
        "external": {"program": "/opt/clean", "where": "Modality = US"},
    }
    assert described(StepChoice(kind="tags", fields=examples["tags"])) == (  # type: ignore[arg-type]
        "Set PatientID, remove StudyID, empty StudyDate and 1 more"
    )
    assert described(StepChoice(kind="lookup", fields=examples["lookup"])) == "Patients by ids.csv"  # type: ignore[arg-type]
    assert described(StepChoice(kind="external", fields=examples["external"])) == "Run clean, where Modality = US"  # type: ignore[arg-type]
    assert set(examples) <= set(step_kinds.all())
