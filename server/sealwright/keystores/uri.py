"""PKCS#11 URIs (RFC 7512), read strictly: the address of a token or of an object on it.

``pkcs11:token=release;object=code%20signing?module-path=/usr/lib/softhsm/libsofthsm2.so``

A PIN never stands in a URI, which ends up in logs, process lists and shell histories: ``pin-value``
is refused and no message repeats the value of an attribute.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote_from_bytes

from sealwright.errors import ConfigurationError

_MAX_LENGTH = 4096
_UNRESERVED = r"A-Za-z0-9._~\-"
_PATH_VALUE = re.compile(rf"(?:[{_UNRESERVED}:\[\]@!$'()*+,=&]|%[0-9A-Fa-f]{{2}})*")
_QUERY_VALUE = re.compile(rf"(?:[{_UNRESERVED}:\[\]@!$'()*+,=/?|]|%[0-9A-Fa-f]{{2}})*")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")

#: Path attribute -> longest value in bytes: the width of its field in CK_TOKEN_INFO, or our bound.
_PATH_ATTRIBUTES = {
    "token": 32,
    "manufacturer": 32,
    "model": 16,
    "serial": 16,
    "object": 255,
    "id": 255,
    "type": 16,
}
_QUERY_ATTRIBUTES = {"module-path": 1024, "pin-source": 1024}
_TYPES = frozenset({"cert", "data", "private", "public", "secret-key"})


@dataclass(frozen=True)
class Pkcs11Uri:
    """A parsed URI. None: the attribute is absent and so matches anything (RFC 7512, 2.3).

    Attributes:
        token, manufacturer, model, serial: fields of CK_TOKEN_INFO.
        object: CKA_LABEL.
        id: CKA_ID, raw bytes.
        type: CKA_CLASS: ``cert``, ``data``, ``private``, ``public`` or ``secret-key``.
        module_path: absolute path of the PKCS#11 module.
        pin_source: absolute path of the file that holds the PIN.
    """

    token: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    serial: str | None = None
    object: str | None = None
    id: bytes | None = None
    type: str | None = None
    module_path: Path | None = None
    pin_source: Path | None = None

    @classmethod
    def parse(cls, text: str) -> Pkcs11Uri:
        """Read a URI.

        Raises:
            ConfigurationError: it is not a PKCS#11 URI, names an attribute that is unknown, given
                twice or too long, or carries a PIN.
        """
        if len(text) > _MAX_LENGTH:
            _refuse(f"is longer than {_MAX_LENGTH} characters")
        scheme, colon, rest = text.partition(":")
        if not colon or scheme.lower() != "pkcs11":
            _refuse("does not begin with 'pkcs11:'")
        path, _, query = rest.partition("?")
        values = _attributes(path, ";", _PATH_ATTRIBUTES, _PATH_VALUE)
        queried = _attributes(query, "&", _QUERY_ATTRIBUTES, _QUERY_VALUE)
        texts = {name: _text(name, raw) for name, raw in values.items() if name != "id"}
        if texts.get("type", "cert") not in _TYPES:
            _refuse(f"has a 'type' that is none of {', '.join(sorted(_TYPES))}")
        return cls(
            **texts,
            id=values.get("id"),
            module_path=_module_path(queried.get("module-path")),
            pin_source=_pin_source(queried.get("pin-source")),
        )

    def __str__(self) -> str:
        """Write the URI in one canonical way; `parse` reads it back to an equal value."""
        path = [
            f"{name}={quote_from_bytes(value.encode(), safe=':[]@!$()*+,=&')}"
            for name in _PATH_ATTRIBUTES
            if name != "id" and (value := getattr(self, name)) is not None
        ]
        if self.id is not None:
            path.append("id=" + "".join(f"%{byte:02X}" for byte in self.id))
        query = []
        if self.module_path is not None:
            query.append("module-path=" + quote_from_bytes(bytes(self.module_path), safe="/:+,="))
        if self.pin_source is not None:
            query.append(
                "pin-source=file://" + quote_from_bytes(bytes(self.pin_source), safe="/:+,=")
            )
        return "pkcs11:" + ";".join(path) + ("?" + "&".join(query) if query else "")


def _attributes(
    text: str, separator: str, known: dict[str, int], grammar: re.Pattern[str]
) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in text.split(separator) if text else []:
        name, equals, value = part.partition("=")
        if name == "pin-value":
            message = "A PKCS#11 URI must not carry a PIN ('pin-value')."
            advice = "Write the PIN to a file of mode 0600 and name it: 'pin-source=file:/path'."
            raise ConfigurationError(message, advice=advice)
        if not equals or name not in known:
            _refuse(
                f"has an attribute that is not supported: {name[:40]!r}; there are "
                f"{', '.join(_PATH_ATTRIBUTES)}, and after '?' {', '.join(_QUERY_ATTRIBUTES)}"
            )
        if name in found:
            _refuse(f"names {name!r} twice")
        if not grammar.fullmatch(value):
            _refuse(f"has a character in {name!r} that must be percent-encoded")
        raw = _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), value.encode("ascii"))
        if not raw or len(raw) > known[name]:
            _refuse(f"needs 1 to {known[name]} bytes in {name!r}")
        found[name] = raw
    return found


def _text(name: str, raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        _refuse(f"has a {name!r} that is not UTF-8")
    if any(unicodedata.category(character) == "Cc" for character in text):
        _refuse(f"has a control character in {name!r}")
    return text


def _module_path(raw: bytes | None) -> Path | None:
    return None if raw is None else _absolute("module-path", _text("module-path", raw))


def _pin_source(raw: bytes | None) -> Path | None:
    if raw is None:
        return None
    scheme, _, location = _text("pin-source", raw).partition(":")
    if scheme.lower() != "file":
        _refuse("has a 'pin-source' that is not 'file:' and an absolute path")
    return _absolute("pin-source", location.removeprefix("//"))


def _absolute(name: str, text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        _refuse(f"needs an absolute path in {name!r}")
    return path


def _refuse(what: str) -> NoReturn:
    message = f"The PKCS#11 URI {what}."
    raise ConfigurationError(
        message, advice="Write it like 'pkcs11:token=LABEL?module-path=/path/module.so' (RFC 7512)."
    )
