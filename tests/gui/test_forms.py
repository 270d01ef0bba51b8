"""Forms come from declared fields, for every kind that there is; mistakes are shown beside the field."""

from __future__ import annotations

import pytest
from pydantic import field_validator
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLineEdit, QWidget
from pytestqt.qtbot import QtBot

from core.app import App
from core.model.fields import Declared, FieldType, declared, form_fields, secret_fields
from core.settings import Settings
from gui.widgets.form import Form


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


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, type[Declared]]:
    app = App.open(tmp_path_factory.mktemp("kinds") / "home")
    found: dict[str, type[Declared]] = {"settings": Settings}
    found |= {f"node {n}": k.Fields for n, k in app.node_kinds().items()}
    found |= {f"job {n}": k.Fields for n, k in app.job_kinds().items()}
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
            if not field.required and field.type not in (FieldType.NODES, FieldType.LIST):
                assert value == getattr(field.default, "value", field.default), (name, field_name)
