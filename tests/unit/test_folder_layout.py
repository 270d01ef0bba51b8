"""Where instances are written: always below the folder, on every system, each under a name of its own."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.model.study import InstanceRef, StudyInfo
from core.nodes.folder.dicomdir import is_file_id
from core.nodes.folder.fields import Layout
from core.nodes.folder.layout import component, destination

#: A busy machine is no failure.
calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

RESERVED = {"con", "prn", "aux", "nul", *(f"com{n}" for n in range(10)), *(f"lpt{n}" for n in range(10))}
hostile = st.one_of(
    st.text(max_size=80),
    st.sampled_from(["..", ".", "", "CON", "con.txt", "NUL ", "a/../../b", "C:\\x", "COM1", "x" * 300, "\ud800"]),
)
layouts = pytest.mark.parametrize("layout", list(Layout))


def study(**values: str) -> StudyInfo:
    return StudyInfo(**{"study_uid": "1.2.3", "patient_id": "P1", "patient_name": "Doe^Jane", **values})


@calm
@given(
    layout=st.sampled_from(list(Layout)),
    patient_id=hostile,
    name=hostile,
    date=hostile,
    description=hostile,
    uids=st.tuples(hostile, hostile, hostile),
    attempt=st.integers(0, 7),
)
def test_any_text_gives_a_path_that_every_system_takes(layout, patient_id, name, date, description, uids, attempt):
    info = StudyInfo(
        study_uid=uids[0], patient_id=patient_id, patient_name=name, study_date=date, description=description
    )
    path = destination(layout, info, InstanceRef(uids[2], uids[1], uids[0]), attempt)
    assert not path.is_absolute()
    assert len(str(path)) <= 250
    for part in path.parts:
        assert part not in (".", "..")
        assert not re.search(r'[<>:"/\\|?*\x00-\x1f\x7f]', part)
        assert not part.endswith((" ", "."))
        assert not part.startswith((" ", "."))
        assert part.split(".")[0].strip().lower() not in RESERVED
        assert 0 < len(part.encode()) <= 255


@calm
@given(st.text(max_size=200), st.integers(1, 64))
def test_a_component_is_never_longer_than_asked_but_for_its_guard(text, limit):
    assert len(component(text, limit)) <= limit + 1


@layouts
def test_the_same_question_gives_the_same_path_and_others_give_others(layout):
    one = InstanceRef("1.2.3.1.1", "1.2.3.1", "1.2.3")
    two = InstanceRef("1.2.3.1.2", "1.2.3.1", "1.2.3")
    assert destination(layout, study(), one) == destination(layout, study(), one)
    assert destination(layout, study(), one) != destination(layout, study(), two)
    tries = {destination(layout, study(), one, n) for n in range(8)}
    assert len(tries) == 8


def test_by_uid():
    path = destination(Layout.UID, study(), InstanceRef("1.2.3.1.1", "1.2.3.1", "1.2.3"))
    assert str(path) == "1.2.3/1.2.3.1/1.2.3.1.1.dcm"


def test_readable():
    info = study(patient_id="4711", study_date="20240315", description="CT Thorax / Abdomen")
    path = destination(Layout.PATIENT, info.with_modalities(("CT",)), InstanceRef("1.2.3.1.1", "1.2.3.1", "1.2.3"))
    assert re.fullmatch(
        r"4711_Doe Jane/20240315_CT_CT Thorax _ Abdomen_[0-9a-f]{6}/Series_[0-9a-f]{8}/[0-9a-f]{12}\.dcm", str(path)
    )


def test_patients_whose_names_differ_in_case_or_forbidden_letters_only_stay_apart():
    def folder(patient_id: str) -> str:
        return destination(Layout.PATIENT, study(patient_id=patient_id), InstanceRef("1", "1", "1")).parts[0].casefold()

    ids = ["ab1", "AB1", "Ab1", "a/1", "a_1", "a:1", "A_1", "con", "CON", ""]
    assert len({folder(i) for i in ids}) == len(ids)


@calm
@given(st.text("0123456789.", min_size=1, max_size=64))
def test_short_names_are_file_ids_of_the_standard(uid):
    for attempt in range(3):
        assert is_file_id(str(destination(Layout.DICOMDIR, study(study_uid=uid), InstanceRef(uid, uid, uid), attempt)))


@pytest.mark.parametrize("ref", ["DICOM/A/B/C", "A", "IM_00001/X"])
def test_file_ids(ref):
    assert is_file_id(ref)


@pytest.mark.parametrize("ref", ["a", "A.DCM", "ABCDEFGHI", "/A", "A//B", "A/B/C/D/E/F/G/H/I", "", "Ä"])
def test_no_file_ids(ref):
    assert not is_file_id(ref)
