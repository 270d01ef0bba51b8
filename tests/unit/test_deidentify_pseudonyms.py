"""Pseudonyms, new UIDs and shifted dates: the same in every run with the same key, and only then."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from core.model.errors import ConfigurationError, SecretError
from core.steps.base import StepError, StepSurroundings
from core.steps.deidentify.dates import shifted
from core.steps.deidentify.pseudonyms import Pseudonyms, secret_name
from core.steps.registry import step_kinds
from tests.support.deidentifying import KEY, PATIENT_ID, STUDY_DAY, UID_ROOT, Vault, as_read, ct_image, opened
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
PSEUDONYMS = Pseudonyms(bytes.fromhex(KEY), "ANON", 365)
PROGRAM = """
from tests.support.deidentifying import ct_image, opened
ds = ct_image()
opened(dates="shift").apply(ds)
print(ds.PatientID, ds.PatientName, ds.StudyInstanceUID, ds.SOPInstanceUID, ds.StudyDate)
"""


# the key ---------------------------------------------------------------------------------------------------


def test_two_processes_with_one_key_give_the_same_and_it_never_changes():
    """The literal values hold that no later version gives a patient another pseudonym."""
    # GDCM for Windows warns at its import.
    command = [sys.executable, "-W", "error", "-W", "ignore:builtin type:DeprecationWarning", "-c", PROGRAM]
    said = set()
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True, timeout=60)
        said.add(done.stdout)
    assert said == {
        "ANON-6H6X-5QRD-1KZV ANON-6H6X-5QRD-1KZV 2.25.291746319754034242763242099988989192734 "
        "2.25.273112829503438117556667096981435285322 20230512\n"
    }


def test_the_key_is_made_at_first_use_and_kept():
    vault = Vault()
    first = opened(vault).uid(UID_ROOT + "1")
    assert list(vault.kept) == [secret_name("standard")]
    assert len(bytes.fromhex(vault.kept[secret_name("standard")])) == 32
    assert opened(vault).uid(UID_ROOT + "1") == first
    assert opened(Vault()).uid(UID_ROOT + "1") != first


def test_jobs_that_are_opened_at_once_make_one_key():
    vault, found = Vault(), []
    together = threading.Barrier(4)

    def look(name: str) -> str | None:
        kept = vault.kept.get(name)
        if kept is None:
            with contextlib.suppress(threading.BrokenBarrierError):
                together.wait(0.2)  # all would see that there is none, if they could look at the same time
        return kept

    surroundings = StepSurroundings(secret=look, keep_secret=vault.kept.__setitem__)
    kind = step_kinds.get("deidentify")

    def work() -> None:
        found.append(kind.open(kind.Fields(), surroundings).uid(UID_ROOT + "1"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(found) == 4
    assert len(set(found)) == 1


def test_jobs_share_a_key_by_its_name_or_do_not():
    vault = Vault()
    one, same, other = opened(vault, key="Trial7"), opened(vault, key="trial7"), opened(vault, key="Trial8")
    assert one.uid(UID_ROOT + "1") == same.uid(UID_ROOT + "1") != other.uid(UID_ROOT + "1")


def test_without_a_place_for_the_key_nothing_is_opened():
    def refuse(_name: str, _value: str) -> None:
        raise SecretError("This computer has no keyring.", code="no-keyring")

    kind = step_kinds.get("deidentify")
    with pytest.raises(SecretError):
        kind.open(kind.Fields(), StepSurroundings(keep_secret=refuse))
    with pytest.raises(SecretError, match="can't be kept"):
        kind.open(kind.Fields(), StepSurroundings())


@pytest.mark.parametrize("kept", ["", "password", KEY[:-1], KEY + "00"])
def test_what_is_no_key_is_never_used_as_one(kept: str):
    vault = Vault(**{secret_name("standard"): kept})
    if kept:
        with pytest.raises(ConfigurationError, match="no such key") as caught:
            opened(vault)
        assert kept not in str(caught.value)
    else:
        opened(vault)
        assert vault.kept[secret_name("standard")]


def test_a_lost_key_is_noticed_by_its_fingerprint():
    fingerprint = PSEUDONYMS.fingerprint
    assert opened(fingerprint=fingerprint.lower()).uid(UID_ROOT + "1") == PSEUDONYMS.uid(UID_ROOT + "1")
    empty = Vault()
    with pytest.raises(ConfigurationError, match="there is none on this computer"):
        opened(empty, fingerprint=fingerprint)
    assert not empty.kept, "a new key was made in the place of the lost one"
    with pytest.raises(ConfigurationError, match="the one on this computer has"):
        opened(Vault(**{secret_name("standard"): "00" * 32}), fingerprint=fingerprint)


def test_nothing_that_is_printed_tells_the_key():
    step = opened()
    assert KEY not in repr(step) + repr(vars(step)) + repr(PSEUDONYMS)
    assert KEY not in PSEUDONYMS.fingerprint.lower()


# UIDs ------------------------------------------------------------------------------------------------------


@given(st.from_regex(r"[1-9][0-9]{0,3}(\.(0|[1-9][0-9]{0,8})){1,6}", fullmatch=True))
def test_a_new_uid_is_a_valid_one_of_the_form_of_a_uuid(uid: str):
    new = PSEUDONYMS.uid(uid)
    if uid.startswith("1.2.840.10008."):
        assert new == uid
        return
    assert UID(new).is_valid
    assert len(new) <= 64
    made = uuid.UUID(int=int(new.removeprefix("2.25.")))
    assert (made.version, made.variant) == (8, uuid.RFC_4122)
    assert PSEUDONYMS.uid(uid) == new


@pytest.mark.parametrize("uid", [CTImageStorage, ExplicitVRLittleEndian, "1.2.840.10008.2.16.4", ""])
def test_what_belongs_to_the_standard_is_never_mapped(uid: str):
    assert PSEUDONYMS.uid(uid) == uid


def test_a_hundred_thousand_uids_stay_apart():
    assert len({PSEUDONYMS.uid(f"{UID_ROOT}{n}") for n in range(100_000)}) == 100_000


def test_references_lead_to_the_images_that_they_led_to():
    ds = ct_image()
    ref = ct_image(SOPInstanceUID=UID_ROOT + "3.9")
    series, item = ct_image().__class__(), ct_image().__class__()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, ref.SOPInstanceUID
    series.SeriesInstanceUID, series.ReferencedInstanceSequence = ref.SeriesInstanceUID, [item]
    ds.ReferencedSeriesSequence = [series]
    ds.ConcatenationUID, ds.SOPInstanceUIDOfConcatenationSource = UID_ROOT + "5", UID_ROOT + "3.9"
    ds.RelatedGeneralSOPClassUID = CTImageStorage
    step = opened()
    for image in (ds, ref):
        step.apply(image)
    found = ds.ReferencedSeriesSequence[0]
    assert found.SeriesInstanceUID == ref.SeriesInstanceUID == step.uid(UID_ROOT + "2")
    assert found.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == ref.SOPInstanceUID
    assert found.ReferencedInstanceSequence[0].ReferencedSOPClassUID == CTImageStorage
    assert ds.SOPInstanceUIDOfConcatenationSource == ref.SOPInstanceUID
    assert ds.ConcatenationUID == step.uid(UID_ROOT + "5")
    assert ds.FrameOfReferenceUID == ref.FrameOfReferenceUID == step.uid(UID_ROOT + "4")
    assert ds.SOPClassUID == ds.RelatedGeneralSOPClassUID == CTImageStorage


def test_uids_stay_on_request():
    ds = ct_image()
    step = opened(keep_uids=True)
    step.apply(ds)
    assert not step.maps_uids
    assert step.uid(UID_ROOT + "1") == ds.StudyInstanceUID == UID_ROOT + "1"
    assert opened().maps_uids


# patients --------------------------------------------------------------------------------------------------


def test_a_patient_has_one_readable_pseudonym_in_name_and_number():
    ds = ct_image()
    opened(prefix="T7").apply(ds)
    assert ds.PatientID == str(ds.PatientName) == Pseudonyms(bytes.fromhex(KEY), "T7").patient(f"id\0{PATIENT_ID}")
    assert ds.PatientID.startswith("T7-")
    assert not set(ds.PatientID[3:]) & set("ILOU"), "letters that are read for digits"


def test_a_million_patients_stay_apart():
    """Sixty bits; here a fiftieth of that number, quickly."""
    assert len({PSEUDONYMS.patient(f"id\0{n}") for n in range(20_000)}) == 20_000


def pseudonym(ds, **fields) -> str:
    opened(**fields).apply(ds)
    return ds.PatientID


def test_who_is_the_same_patient():
    here = pseudonym(ct_image(IssuerOfPatientID="HERE"))
    assert here == pseudonym(ct_image(IssuerOfPatientID="THERE"))
    apart = [pseudonym(ct_image(IssuerOfPatientID=i), issuer=True) for i in ("HERE", "THERE", "HERE")]
    assert apart[0] == apart[2] != apart[1]
    assert here != pseudonym(ct_image(PatientID="PID-4711-0816"))
    assert here == pseudonym(ct_image(PatientID=PATIENT_ID + " "))


def test_without_an_id_name_and_birth_date_tell_and_else_the_study():
    nameless = [ct_image(PatientID="", PatientName="", StudyInstanceUID=UID_ROOT + s) for s in ("1", "1", "7")]
    found = [pseudonym(ds) for ds in nameless]
    assert found[0] == found[1] != found[2]
    named = [ct_image(PatientID="", StudyInstanceUID=UID_ROOT + s) for s in ("1", "7")]
    assert pseudonym(named[0]) == pseudonym(named[1])
    nobody = ct_image(PatientID="", PatientName="")
    del nobody.StudyInstanceUID
    with pytest.raises(StepError, match="neither Patient ID nor Study"):
        opened().apply(nobody)


def test_an_image_without_name_and_number_gets_both():
    ds = ct_image()
    del ds.PatientName, ds.PatientID
    opened().apply(ds)
    assert ds.PatientID == str(ds.PatientName)
    assert ds.PatientID.startswith("ANON-")


def test_given_pseudonyms(tmp_path: Path):
    table = tmp_path / "given.csv"
    table.write_text(f"\ufeffPatient ID;Pseudonym\n{PATIENT_ID};CASE 12\n0001;CASE 13\n", encoding="utf-8")
    assert pseudonym(ct_image(), pseudonyms=str(table)) == "CASE 12"
    assert pseudonym(ct_image(PatientID="0001"), pseudonyms=str(table)) == "CASE 13"
    stranger = ct_image(PatientID="0002")
    with pytest.raises(StepError, match="not in the table") as caught:
        opened(pseudonyms=str(table)).apply(stranger)
    assert "0002" not in str(caught.value) + caught.value.detail
    made = pseudonym(ct_image(PatientID="0002"), pseudonyms=str(table), unlisted="make")
    assert made == pseudonym(ct_image(PatientID="0002"))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "it is empty"),
        ("Patient ID,Pseudonym\n", "names no patient"),
        ("A,B\nC,\n", "line 2: no new patient ID"),
        ("A,B\n,D\n", "line 2: no patient ID"),
        ("A,B\nA,C\n", "once more, with something else"),
        ("A,A\n", "the own Patient ID"),
        ("A,M\u00fcller\n", "ASCII"),
        ("A,X^Y\n", "ASCII"),
        ("A," + "B" * 65 + "\n", "64"),
        ("A\0,B\n", "no CSV file"),
    ],
)
def test_a_table_that_can_not_be_used_is_told_before_anything_is_sent(tmp_path: Path, text: str, wrong: str):
    table = tmp_path / "given.csv"
    table.write_text(text, encoding="utf-8")
    kind = step_kinds.get("deidentify")
    for look in (lambda: opened(pseudonyms=str(table)), lambda: kind.look(kind.Fields(pseudonyms=str(table)))):
        with pytest.raises(ConfigurationError, match=wrong):
            look()
    with pytest.raises(ConfigurationError, match="can't be read"):
        opened(pseudonyms=str(tmp_path / "missing.csv"))


# dates -----------------------------------------------------------------------------------------------------


@given(st.text(min_size=1), st.integers(1, 5000))
def test_dates_move_to_the_past_and_never_stay(identity: str, most: int):
    days = Pseudonyms(bytes.fromhex(KEY), "A", most).days(identity)
    assert -most <= days <= -1


@given(st.dates(dt.date(1800, 1, 1), dt.date(9999, 12, 31)), st.integers(-40000, -1))
def test_a_moved_date_lies_that_many_days_before(day: dt.date, days: int):
    digits = f"{day.year:04}{day.month:02}{day.day:02}"
    moved = day + dt.timedelta(days=days)
    expected = f"{moved.year:04}{moved.month:02}{moved.day:02}"
    assert shifted(digits, "DA", days) == expected
    assert shifted(digits + "101112.123456+0100", "DT", days) == expected + "101112.123456+0100"


@pytest.mark.parametrize(
    ("value", "vr", "moved"),
    [
        ("2024.03.17", "DA", "2024.03.07"),
        ("20240317 ", "DA", "20240307"),
        ("202403", "DT", "202403"),
        ("2024", "DT", "2024"),
        ("202401", "DT", "202401"),
        ("2024031710", "DT", "2024030710"),
        ("", "DA", ""),
        ("20240230", "DA", None),
        ("2024", "DA", None),
        ("yesterday", "DA", None),
        ("00010103", "DA", None),
        ("20240317-20240318", "DA", None),
        ("17.03.2024", "DT", None),
    ],
)
def test_dates_as_they_are_written(value: str, vr: str, moved: str | None):
    assert shifted(value, vr, -10) == moved


def test_time_between_a_patients_studies_stays_and_patients_differ():
    days = [("20240101", PATIENT_ID), ("20240131", PATIENT_ID), ("20240101", "ANOTHER-1"), ("20240101", "ANOTHER-2")]
    found = []
    for day, number in days:
        ds = as_read(ct_image(StudyDate=day, PatientID=number, AcquisitionDateTime=day + "120000"))
        opened(dates="shift").apply(ds)
        assert ds.AcquisitionDateTime == ds.StudyDate + "120000"
        assert (ds.StudyTime, ds.LongitudinalTemporalInformationModified) == ("101112", "MODIFIED")
        assert ds.PatientBirthDate == ""
        found.append(dt.datetime.strptime(ds.StudyDate, "%Y%m%d"))
    assert (found[1] - found[0]).days == 30
    assert len({found[0], found[2], found[3]}) == 3
    assert all(day < dt.datetime(2024, 1, 1) for day in (found[0], found[2], found[3]))


def test_dates_are_removed_or_kept():
    ds = ct_image()
    opened().apply(ds)
    assert (ds.StudyDate, ds.StudyTime, ds.LongitudinalTemporalInformationModified) == ("", "", "REMOVED")
    ds = ct_image()
    opened(dates="keep").apply(ds)
    assert (ds.StudyDate, ds.StudyTime) == (STUDY_DAY, "101112")
    assert (ds.LongitudinalTemporalInformationModified, ds.PatientBirthDate) == ("UNMODIFIED", "")


def test_what_is_no_date_is_not_carried_as_one():
    ds = as_read(ct_image())
    ds["StudyDate"]._value = "MARCH 17"
    ds.ContentDate = "20240317"
    opened(dates="shift").apply(ds)
    assert ds.StudyDate == "19000101"
    assert ds.ContentDate not in ("20240317", "19000101")
