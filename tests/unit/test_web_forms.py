"""Forms of the pages: what the model gets, and what comes back beside the fields."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import BaseModel, Field

from sealwright.errors import ConflictError
from sealwright.web.ui.forms import Form, FormError
from sealwright.web.ui.rendering import TEMPLATES


class Given(BaseModel):
    name: Annotated[str, Field(max_length=5)]
    count: int = 3
    on: bool = False
    members: list[str] = []


def test_a_form_as_its_model() -> None:
    form = Form({"name": "a", "count": "", "on": "true", "other": "x"}, {"members": ("u", "v")})
    assert form.parse(Given) == Given(name="a", count=3, on=True, members=["u", "v"])
    assert form.parse(Given, count=7).count == 7


def test_faults_stand_beside_their_fields() -> None:
    form = Form({"name": "too long", "count": "<b>"})
    with pytest.raises(FormError) as caught:
        form.parse(Given)
    assert set(caught.value.fields) == {"name", "count"}
    again = form.refused(caught.value)
    assert again.error("count")
    assert again.value("count") == "<b>"
    with pytest.raises(FormError) as caught:
        Form().parse(Given)
    assert caught.value.fields == {"name": "This is needed."}
    whole = form.refused(ConflictError("There is one already.", advice="Take another name."))
    assert (whole.fault, whole.advice) == ("There is one already.", "Take another name.")


def test_fields_are_labelled_described_and_escaped() -> None:
    macros = TEMPLATES.get_template("macros/forms.html").make_module({"csrf": "token"})
    form = Form({"name": '"><script>'}, errors={"name": "<i>wrong</i>"})
    made = macros.field(form, "name", "Name", help="As people call it.", required=True)  # type: ignore[attr-defined]
    text = str(made)
    assert 'label for="field-name"' in text
    assert 'id="field-name"' in text
    assert 'aria-invalid="true" aria-describedby="help-name error-name"' in text
    assert 'value="&#34;&gt;&lt;script&gt;"' in text
    assert "&lt;i&gt;wrong&lt;/i&gt;" in text
    assert 'value="token"' in str(macros.confirm("/x", "Delete", "Sure?"))  # type: ignore[attr-defined]
