"""Forms come from declared fields, for every kind that there is; mistakes are shown beside the field."""

from __future__ import annotations

import pytest
from pydantic import field_validator
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QComboBox, QLineEdit, QWidget
from pytestqt.qtbot import QtBot

from core.app import App
from core.model.errors import LocalError
from core.model.fields import Declared, FieldType, Suggestion, declared, form_fields, secret_fields
from core.settings import Settings
from gui.widgets.form import Form
from gui.widgets.rows import RowsEditor


class _Fields(Declared):
    url: str = declared(title="Address", help="Where it is.")
    password: str = declared("", title="Password", type=FieldType.SECRET)
    port: int = declared(104, title="Port", ge=1, le=65535, advanced=True, group="More")
    folder: str = declared("", title="Folder", type=FieldType.FOLDER, advanced=True)
    waits: tuple[float, ...] = declared((5.0, 20.0), title="Delays", advanced=True)

    @field_validator("url")
    @classmethod
    def _scheme(cls, value: str) -> str:
        if not value.startswith("http"):
            raise ValueError("the address begins with http")
        return value


def _shown(qtbot: QtBot, form: QWidget) -> None:
    qtbot.addWidget(form)
    form.show()


def _type(qtbot: QtBot, form: Form, name: str, text: str) -> None:
    edit = form.editors[name].main
    assert isinstance(edit, QLineEdit)
    edit.clear()
    qtbot.keyClicks(edit, text)


def test_values_secrets_and_defaults(qtbot: QtBot) -> None:
    form = Form(_Fields)
    _shown(qtbot, form)
    assert form.problems() == {"url": "This is needed."}
    _type(qtbot, form, "url", "http://a")
    _type(qtbot, form, "password", " se cret ")
    assert form.check()
    assert form.secrets() == {"password": " se cret "}
    assert form.values() == {"url": "http://a", "port": 104, "folder": "", "waits": [5, 20]}
    assert _Fields.model_validate(form.values()).waits == (5.0, 20.0)


def test_a_mistake_is_a_sentence_beside_its_field(qtbot: QtBot) -> None:
    form = Form(_Fields)
    _shown(qtbot, form)
    _type(qtbot, form, "url", "ftp://a")
    editor = form.editors["url"]
    assert editor.problem.isHidden(), "nobody is told off while typing"
    qtbot.keyClick(editor.main, Qt.Key.Key_Tab)
    editor.left.emit()
    assert editor.problem.text() == "The address begins with http."
    assert editor.problem.isVisible()
    _type(qtbot, form, "url", "http://a")
    assert editor.problem.isHidden()
    _type(qtbot, form, "port", "99999")
    assert not form.check()
    assert form.more.isChecked(), "a mistake under More options is shown"
    assert form.editors["port"].problem.isVisible()


def test_secrets_are_hidden_until_shown(qtbot: QtBot) -> None:
    form = Form(_Fields)
    _shown(qtbot, form)
    edit = form.editors["password"].main
    assert isinstance(edit, QLineEdit)
    assert edit.echoMode() is QLineEdit.EchoMode.Password
    form.mark_saved_secret("password")
    assert "Saved" in edit.placeholderText()
    assert form.secrets() == {}


class _Depending(Declared):
    through: str = declared("", title="Through", type=FieldType.NODE, among="x", empty="Directly", group="Way")
    known_as: str = declared("", title="Name there", needs="through", suggested_by=("through",), group="Way")
    tls: bool = declared(False, title="TLS", unless="through", group="Encryption")
    certificate: str = declared("", title="Certificate", type=FieldType.FILE, needs="tls", group="Encryption")
    key: str = declared("", title="Key", type=FieldType.SECRET, needs="certificate", group="Encryption")
    host: str = declared("h", title="Host", group="Address")
    callers: tuple[str, ...] = declared(
        (), title="Callers", columns=(("AE title", "CT1"), ("Address", "10.4.2.17")), separator="@", empty="Closed."
    )


def _depending(qtbot: QtBot) -> Form:
    form = Form(_Depending, nodes=("A", "B"), headings=True)
    _shown(qtbot, form)
    return form


def test_what_does_not_apply_is_hidden_or_says_why_and_is_not_kept(qtbot: QtBot) -> None:
    form = _depending(qtbot)
    editors = form.editors
    assert editors["certificate"].isHidden()
    form.set_values({"tls": True, "certificate": "/a.pem"})
    assert editors["certificate"].isVisible()
    assert editors["key"].isVisible()
    editors["key"].set_value("secret")
    assert form.secrets() == {"key": "secret"}
    form.set_values({"through": "B"})
    assert not editors["tls"].main.isEnabled()
    assert editors["tls"].help.text() == "Not used: “Through” is set."
    assert editors["certificate"].isHidden()
    assert editors["key"].isHidden(), "it goes with what is hidden itself"
    assert form.values() == {
        "through": "B", "known_as": "", "tls": False, "certificate": "", "host": "h", "callers": []
    }  # fmt: skip
    assert form.secrets() == {}
    form.set_values({"through": ""})
    assert form.values()["certificate"] == "/a.pem", "what was typed is not lost meanwhile"


def test_suggestions_are_asked_for_and_fill_what_goes_with_them(qtbot: QtBot) -> None:
    form = _depending(qtbot)
    asked: list[str] = []
    form.wondered.connect(asked.append)
    form.set_values({"through": "A"})
    form.set_values({"host": "other"})
    assert asked == ["known_as"], "once for each choice"
    form.suggest("known_as", [Suggestion("west", "west (WEST@10.4.2.17:104)", (("host", "10.4.2.17"),))])
    box = form.editors["known_as"].main
    assert isinstance(box, QComboBox)
    box.setCurrentIndex(0)
    box.activated.emit(0)
    assert form.values()["known_as"] == "west"
    assert form.values()["host"] == "10.4.2.17"
    form.suggest("known_as", LocalError("A does not answer."))
    assert "A does not answer." in form.editors["known_as"].help.text()
    assert form.values()["known_as"] == "west", "what was typed stays"


def test_a_node_that_is_not_offered_any_more_is_not_lost(qtbot: QtBot) -> None:
    form = _depending(qtbot)
    form.set_values({"through": "Gone"})
    assert form.values()["through"] == "Gone"
    form.set_nodes(lambda field: ["A"] if field.among == "x" else [])
    assert form.values()["through"] == "Gone"


def test_entries_in_parts_are_typed_pasted_and_removed(qtbot: QtBot) -> None:
    form = _depending(qtbot)
    rows = form.editors["callers"].main
    assert isinstance(rows, RowsEditor)
    assert rows.empty.isVisible()
    qtbot.mouseClick(rows.add, Qt.MouseButton.LeftButton)
    assert not rows.empty.isVisible()
    assert form.values()["callers"] == [], "an empty line is no entry"
    QGuiApplication.clipboard().setText("CT1@10.4.2.17")
    rows.lines[0].parts[0].paste()
    assert [edit.text() for edit in rows.lines[0].parts] == ["CT1", "10.4.2.17"]
    form.set_values({"callers": ["A B@fd00::1", "*@*"]})
    assert form.values()["callers"] == ["A B@fd00::1", "*@*"]
    qtbot.mouseClick(rows.lines[0].remove, Qt.MouseButton.LeftButton)
    assert form.values()["callers"] == ["*@*"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, type[Declared]]:
    app = App.open(tmp_path_factory.mktemp("kinds") / "home")
    found: dict[str, type[Declared]] = {"settings": Settings}
    found |= {f"node {n}": k.Fields for n, k in app.node_kinds().items()}
    found |= {f"job {n}": k.Fields for n, k in app.job_kinds().items()}
    found |= {f"step {n}": k.Fields for n, k in app.steps.kinds().items()}
    app.close()
    return found


def test_every_kind_has_a_form_whose_defaults_are_right(models: dict[str, type[Declared]], qtbot: QtBot) -> None:
    assert len(models) > 4
    for name, model in models.items():
        form = Form(model, nodes=("A", "B"))
        _shown(qtbot, form)
        fields = {f.name: f for f in form_fields(model)}
        assert set(form.editors) == set(fields), name
        wrong = form.problems()
        assert {n for n, f in fields.items() if f.required} >= set(wrong), (name, wrong)
        for editor in form.editors.values():
            assert editor.main.accessibleName(), (name, editor.field.name)
        values = form.values()
        assert not set(secret_fields(model)) & set(values)
        for field_name, value in values.items():
            # What a form shows of a default is that default again.
            field = fields[field_name]
            if not field.required and field.type not in (FieldType.NODES, FieldType.LIST, FieldType.STEPS):
                assert value == getattr(field.default, "value", field.default), (name, field_name)
