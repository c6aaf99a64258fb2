"""The publisher of an app package: a distinguished name as text, as Windows writes it.

The form is that of CertNameToStr with CERT_X500_NAME_STR and CERT_NAME_STR_REVERSE_FLAG, and of the
type ST_Publisher in the package manifest's schema: the last component of the name comes first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from cryptography import x509

from sealwright.errors import ArtifactError
from sealwright.signing.x509 import Certificate

_KEYWORDS = {
    "CN": "2.5.4.3",
    "SN": "2.5.4.4",
    "SERIALNUMBER": "2.5.4.5",
    "C": "2.5.4.6",
    "L": "2.5.4.7",
    "S": "2.5.4.8",
    "STREET": "2.5.4.9",
    "O": "2.5.4.10",
    "OU": "2.5.4.11",
    "T": "2.5.4.12",
    "Description": "2.5.4.13",
    "PostalCode": "2.5.4.17",
    "POBox": "2.5.4.18",
    "Phone": "2.5.4.20",
    "X21Address": "2.5.4.24",
    "G": "2.5.4.42",
    "I": "2.5.4.43",
    "dnQualifier": "2.5.4.46",
    "E": "1.2.840.113549.1.9.1",
    "DC": "0.9.2342.19200300.100.1.25",
}
_BY_OID = {oid: keyword for keyword, oid in _KEYWORDS.items()}
_BY_KEYWORD = {keyword.upper(): oid for keyword, oid in _KEYWORDS.items()} | {"ST": "2.5.4.8"}
_COMPONENT = re.compile(
    r"""\s*(?P<type>[A-Za-z][A-Za-z0-9]*|OID\.[0-9.]{3,80})\s*=\s*"""
    r"""(?:"(?P<quoted>(?:[^"]|"")*)"|(?P<plain>[^,;+"<>\#=]*?))\s*(?:,|\Z)"""
)
_SPECIAL = re.compile(r'[,;+"<>#=\n]|^\s|\s$|^$')
_MAX_TEXT = 8192


def subject_text(certificate: Certificate) -> str:
    """The certificate's subject as it belongs into a manifest."""
    parts = []
    for oid, value in _components(certificate):
        shown = '"' + value.replace('"', '""') + '"' if _SPECIAL.search(value) else value
        parts.append(f"{_BY_OID.get(oid, 'OID.' + oid)}={shown}")
    return ", ".join(parts)


def is_publisher(publisher: str, certificate: Certificate) -> bool:
    """Whether the text names the certificate's subject, component by component.

    Raises:
        ArtifactError: the text is no distinguished name.
    """
    return list(_parse(publisher)) == list(_components(certificate))


def _components(certificate: Certificate) -> Iterator[tuple[str, str]]:
    """Object identifiers and values, the last of the name first."""
    name: x509.Name = certificate.loaded.subject
    for component in reversed(list(name.rdns)):
        for attribute in component:
            value = attribute.value
            text = value if isinstance(value, str) else value.hex()
            yield attribute.oid.dotted_string, text


def _parse(publisher: str) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(publisher) or not position:
        match = _COMPONENT.match(publisher, position) if len(publisher) <= _MAX_TEXT else None
        kind = match["type"].upper() if match else ""
        oid = kind[4:] if kind.startswith("OID.") else _BY_KEYWORD.get(kind)
        if match is None or oid is None:
            shown = publisher[:200]
            message = f'The manifest\'s Publisher "{shown}" is no distinguished name.'
            raise ArtifactError(message, advice='Write it as in "CN=Name, O=Organization, C=US".')
        quoted = match["quoted"]
        yield oid, match["plain"] if quoted is None else quoted.replace('""', '"')
        position = match.end()
