"""RFC 7512 URIs: the RFC's own examples, hostile ones, and the way there and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwright.errors import ConfigurationError
from sealwright.keystores.uri import Pkcs11Uri


def test_reads_every_attribute() -> None:
    uri = Pkcs11Uri.parse(
        "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;"
        "model=1.0;serial=0042;object=my-key;type=private;id=%69%95%3E%5C%F4%BD%EC%91"
        "?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/token%20pin"
    )
    assert uri == Pkcs11Uri(
        token="The Software PKCS#11 Softtoken",
        manufacturer="Snake Oil, Inc.",
        model="1.0",
        serial="0042",
        object="my-key",
        type="private",
        id=bytes.fromhex("69953e5cf4bdec91"),
        module_path=Path("/usr/lib/softhsm/libsofthsm2.so"),
        pin_source=Path("/etc/token pin"),
    )


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("pkcs11:", None),  # matches anything (RFC 7512, 2.3)
        ("PKCS11:token=a", "a"),  # schemes are case-insensitive (RFC 3986, 3.1)
        ("pkcs11:token=a%3bb%3Dc", "a;b=c"),
        ("pkcs11:token=My%20token%20created%20by%20%C3%89va", "My token created by Éva"),
        ("pkcs11:token=a&b=c", "a&b=c"),  # '&' and '=' stand for themselves in the path
    ],
)
def test_reads_tokens(text: str, token: str | None) -> None:
    assert Pkcs11Uri.parse(text).token == token


@pytest.mark.parametrize("location", ["file:/run/pin", "file:///run/pin", "FILE:/run/pin"])
def test_reads_pin_sources(location: str) -> None:
    assert Pkcs11Uri.parse(f"pkcs11:?pin-source={location}").pin_source == Path("/run/pin")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "pkcs11:"),
        ("token=a", "pkcs11:"),
        ("pkcs12:token=a", "pkcs11:"),
        ("pkcs11:token", "not supported"),
        ("pkcs11:token=", "1 to 32 bytes"),
        ("pkcs11:token=a;", "not supported"),
        ("pkcs11:;token=a", "not supported"),
        ("pkcs11:Token=a", "not supported"),
        ("pkcs11:slot-id=1", "not supported"),
        ("pkcs11:x-vendor=1", "not supported"),
        ("pkcs11:token=a;token=b", "twice"),
        ("pkcs11:token=a b", "percent-encoded"),
        ("pkcs11:token=a/b", "percent-encoded"),
        ("pkcs11:token=é", "percent-encoded"),
        ("pkcs11:token=a#b", "percent-encoded"),
        ("pkcs11:token=%4", "percent-encoded"),
        ("pkcs11:token=%zz", "percent-encoded"),
        ("pkcs11:token=a\n", "percent-encoded"),
        ("pkcs11:token=%ff", "UTF-8"),
        ("pkcs11:token=a%00b", "control character"),
        ("pkcs11:token=" + "a" * 33, "1 to 32 bytes"),
        ("pkcs11:type=key", "type"),
        ("pkcs11:token=a?module-path=lib.so", "absolute path"),
        ("pkcs11:token=a?module-path=/a&module-path=/b", "twice"),
        ("pkcs11:token=a?module-name=softhsm2", "not supported"),
        ("pkcs11:token=a?pin-source=pin", "pin-source"),
        ("pkcs11:token=a?pin-source=file:pin", "absolute path"),
        ("pkcs11:token=a?pin-source=%7C/bin/getpin", "pin-source"),
        ("pkcs11:token=a?pin-source=https://example.com/pin", "pin-source"),
        ("pkcs11:token=" + "%61" * 4096, "longer than"),
    ],
)
def test_refuses(text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        Pkcs11Uri.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "pkcs11:token=a?pin-value=canary-1234",
        "pkcs11:pin-value=canary-1234",
        "pkcs11:token=a?module-path=/m.so&pin-value=canary-1234",
        "pkcs11:token=a?pin-source=canary-1234",
    ],
)
def test_never_repeats_a_pin(text: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        Pkcs11Uri.parse(text)
    assert "canary" not in str(refusal.value)
    assert refusal.value.advice


_text = st.text(st.characters(blacklist_categories=["Cc", "Cs"]), min_size=1, max_size=4)
_path = st.text(st.characters(blacklist_categories=["Cc", "Cs"]), max_size=20).map(
    lambda text: Path("/" + text)
)


@given(
    st.builds(
        Pkcs11Uri,
        token=st.none() | _text,
        manufacturer=st.none() | _text,
        model=st.none() | _text,
        serial=st.none() | _text,
        object=st.none() | _text,
        id=st.none() | st.binary(min_size=1, max_size=64),
        type=st.sampled_from([None, "cert", "data", "private", "public", "secret-key"]),
        module_path=st.none() | _path,
        pin_source=st.none() | _path,
    )
)
def test_reads_what_it_writes(uri: Pkcs11Uri) -> None:
    assert Pkcs11Uri.parse(str(uri)) == uri


def test_keeps_a_double_slash() -> None:
    uri = Pkcs11Uri(pin_source=Path("//run/pin"))
    assert Pkcs11Uri.parse(str(uri)) == uri


@given(st.text(max_size=200))
def test_refuses_or_reads_anything(text: str) -> None:
    try:
        Pkcs11Uri.parse("pkcs11:" + text)
    except ConfigurationError as refusal:
        assert refusal.advice  # noqa: PT017 - either is right; nothing else may come out
