"""Forms of the pages: read, checked by a pydantic model, shown again with errors beside fields."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError

from sealwright.errors import ConflictError, InvalidInputError, SealwrightError
from sealwright.model.identifiers import is_id
from sealwright.web import auth, bodies
from sealwright.web.routes import Call

Model = TypeVar("Model", bound=BaseModel)
_MAX_FIELDS = 2000
_MAX_TOLD = 200  #: characters of a field that is told of


class FormError(InvalidInputError):
    """A form whose fields do not fit. `fields`: name -> what is wrong with it."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__("The form has faults.", advice="They are named beside the fields.")
        self.fields = fields


class StaleFormError(ConflictError):
    """A form about what was changed meanwhile. `form`: to be shown again."""

    def __init__(self, message: str, *, advice: str, form: Form) -> None:
        super().__init__(message, advice=advice)
        self.form = form


@dataclass(frozen=True)
class Form:
    """What a form holds, and what is wrong with it.

    Attributes:
        values: field -> text.
        lists: field that may be given several times (check boxes) -> its values.
        errors: field -> fault.
        fault: what is wrong with the whole, with `advice`.
    """

    values: Mapping[str, str] = field(default_factory=dict)
    lists: Mapping[str, Sequence[str]] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""
    advice: str = ""

    def value(self, name: str, otherwise: str = "") -> str:
        """A field's text."""
        return self.values.get(name, otherwise)

    def chosen(self, name: str) -> Sequence[str]:
        """The values of a field of check boxes."""
        return self.lists.get(name, ())

    def checked(self, name: str) -> bool:
        """Whether a single check box is on."""
        return bool(self.values.get(name))

    def error(self, name: str) -> str:
        """What is wrong with a field."""
        return self.errors.get(name, "")

    def require(self, *names: str) -> None:
        """Refuse a form that lacks what it always has: the model of a change leaves out anything,
        but an unchecked box is as good as a change.

        Raises:
            FormError: a field is empty.
        """
        lacking = {name: "This is needed." for name in names if not self.value(name).strip()}
        if lacking:
            raise FormError(lacking)

    def parse(self, model: type[Model], **more: Any) -> Model:
        """The form as the model; `more` overrides and adds. Fields that the model does not have
        are left out, and so are empty ones, so that its defaults hold.

        Raises:
            FormError: it does not fit.
        """
        given: dict[str, Any] = {
            name: value
            for name, value in (*self.values.items(), *self.lists.items())
            if name in model.model_fields and value != ""
        }
        try:
            return model.model_validate(given | more)
        except ValidationError as error:
            raise FormError(_faults(error)) from None

    def refused(self, error: SealwrightError) -> Form:
        """The form to show again with `error`."""
        if isinstance(error, StaleFormError):
            return dataclasses.replace(error.form, fault=error.message, advice=error.advice)
        if isinstance(error, FormError):
            return dataclasses.replace(self, errors=error.fields)
        return dataclasses.replace(self, fault=error.message, advice=error.advice)


def stamped(filled: Form) -> Form:
    """The form with a mark of each field's content as it is filled in, for `check_unchanged`."""
    stamp = json.dumps(_marks(filled), separators=(",", ":"))
    return dataclasses.replace(filled, values={**filled.values, "seen": stamp})


def _marks(form: Form) -> dict[str, str]:
    shown: dict[str, Any] = {k: v for k, v in form.values.items() if k != "seen"}
    shown |= {name: sorted(values) for name, values in form.lists.items()}
    return {
        name: hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
        for name, value in shown.items()
    }


def check_unchanged(form: Form, now: Form) -> None:
    """Refuse what was filled in before somebody else changed the thing.

    Args:
        now: the form filled in with what is there, and stamped.

    Raises:
        StaleFormError: it was, and each field that differs says so; sent again as it is then
            shown, it replaces the other's changes.
    """
    seen = form.value("seen")
    if seen in {"", now.value("seen")}:
        return
    message = "Somebody else has changed this since you opened it. Nothing was changed."
    advice = "Compare with what is there now; to replace it by what stands here, save again."
    again = dataclasses.replace(
        form,
        values={**form.values, "seen": now.value("seen")},
        errors={name: _changed_to(now, name) for name in _differing(seen, now)},
    )
    raise StaleFormError(message, advice=advice, form=again)


def _differing(seen: str, now: Form) -> list[str]:
    try:
        marks = json.loads(seen)
    except (ValueError, RecursionError):
        marks = None
    if not isinstance(marks, dict):
        return []
    return [name for name, mark in _marks(now).items() if marks.get(name) != mark]


def _changed_to(now: Form, name: str) -> str:
    text = now.value(name)
    if name in now.lists or is_id(text) or len(text) > _MAX_TOLD:
        return "Somebody else has changed this meanwhile."
    return f"Somebody else has changed this meanwhile; it is now: {text or 'empty'}."


async def read_form(
    call: Call, lists: Collection[str] = (), limit: int = bodies.MAX_FORM_BYTES
) -> Form:
    """A form that a page of this session sent (``application/x-www-form-urlencoded``).

    Args:
        lists: fields that may be given several times.
        limit: most bytes of the body.

    Raises:
        InvalidInputError: malformed, or a field twice that is no list.
        ForbiddenError: it is not one of this session's.
        TooLargeError: more than `limit` bytes.
    """
    body = await bodies.read(call.request, limit)
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict"
        )
    except ValueError:
        message = "The form is malformed."
        raise InvalidInputError(message) from None
    single = [(name, value) for name, value in pairs if name not in lists]
    values = dict(single)
    if len(values) != len(single) or any("\x00" in value for _, value in pairs):
        message = "The form is malformed: a field is given twice or holds a NUL."
        raise InvalidInputError(message)
    auth.check_csrf(call.services, call.request, values.pop("csrf", ""))
    # browsers end the lines of a text area with CR LF (HTML, 4.10.21.5)
    values = {name: value.replace("\r\n", "\n") for name, value in values.items()}
    several = {name: tuple(value for key, value in pairs if key == name) for name in lists}
    return Form(values, several)


def taken_away(form: Form) -> dict[str, str]:
    """Credentials that are to be taken away, by the boxes named ``taken``: empty ones."""
    return dict.fromkeys(form.chosen("taken"), "")


def choices_of(names: Sequence[str]) -> list[tuple[str, str]]:
    """Names, such as those of credentials, as choices of a form."""
    return [(name, name.replace("_", " ").capitalize()) for name in names]


def _faults(error: ValidationError) -> dict[str, str]:
    faults: dict[str, str] = {}
    for one in error.errors(include_url=False, include_context=False, include_input=False):
        name = str(one["loc"][0]) if one["loc"] else ""
        text = "This is needed." if one["type"] == "missing" else one["msg"]
        text = text.removeprefix("Value error, ")[:300]
        faults.setdefault(name, text[:1].upper() + text[1:])
    return faults
