"""The artifact configuration language: what is understood, and what is said about mistakes."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from tests.toy import LANGUAGE as TOY
from tests.toy import configuration

from sealwright.errors import ArtifactConfigurationError, InvalidInputError
from sealwright.signing.configuration import Configuration, parse_configuration
from sealwright.signing.elements import DIRECTIVES, FILE_ELEMENTS, LANGUAGE, NAMESPACE
from sealwright.signing.schema import generate_schema, published_schema

SIGN = "<authenticode-sign/>"


@pytest.fixture(scope="module")
def schema() -> etree.XMLSchema:
    return etree.XMLSchema(etree.fromstring(published_schema()))


VALID = {
    "one file": f"<pe-file>{SIGN}</pe-file>",
    "root path with wildcard": f'<pe-file path="app-v*.exe">{SIGN}</pe-file>',
    "options": '<pe-file><authenticode-sign hash-algorithm="sha384" description="ACME"'
    ' description-url="https://example.com" append="true"/></pe-file>',
    "verify, then sign": f"<pe-file><authenticode-verify/>{SIGN}</pe-file>",
    "zip": f'<zip-file><pe-file path="a.exe">{SIGN}</pe-file></zip-file>',
    "multiple upload": '<zip-file ui-multifile-upload="on"><pe-file path="*.exe" '
    f'max-matches="unbounded">{SIGN}</pe-file></zip-file>',
    "set": '<zip-file><pe-file-set product-name="P"><include path="a.exe" min-matches="0"/>'
    '<include path="**/*.dll" max-matches="unbounded" product-name="Q"/>'
    f"<for-each>{SIGN}</for-each></pe-file-set></zip-file>",
    "directories": '<zip-file><directory path="bin"><directory path="x*" max-matches="3">'
    f'<pe-file path="a.exe">{SIGN}</pe-file></directory></directory></zip-file>',
    "directory set": '<zip-file><directory-set><include path="c1"/><include path="c2"/><for-each>'
    f'<pe-file path="main.exe">{SIGN}</pe-file></for-each></directory-set></zip-file>',
    "nested zip": '<zip-file><zip-file path="in.zip"><file path="x">'
    '<create-cms-signature output-file-name="${file.name}.p7s" output-encoding="der"/>'
    '<create-raw-signature output-file-name="x.sig" hash-algorithm="sha512" rsa-padding="pss"/>'
    "</file></zip-file></zip-file>",
    "this directory": f'<zip-file><directory path="."><pe-file path="a">{SIGN}</pe-file>'
    "</directory></zip-file>",
}

PARAMETERS = (
    '<parameters><parameter name="version" default-value="1.0" required="true"/>'
    '<parameter name="count"/><parameter name="hash" default-value="sha256"/></parameters>'
)
WITH_PARAMETERS = {
    "path": f'<pe-file path="app-${{version}}.exe">{SIGN}</pe-file>',
    "restriction": '<pe-file product-version="${version}" original-filename="${file.name}">'
    f"{SIGN}</pe-file>",
    "count": '<zip-file><pe-file path="*.exe" max-matches="${count}">'
    f"{SIGN}</pe-file></zip-file>",
    "option": '<pe-file><authenticode-sign hash-algorithm="${hash}"/></pe-file>',
    "mixed": '<zip-file><file path="a"><create-raw-signature '
    'output-file-name="${file.name}-${version}.sig"/></file></zip-file>',
}


@pytest.mark.parametrize("body", VALID.values(), ids=VALID.keys())
def test_valid(body: str, schema: etree.XMLSchema) -> None:
    document = configuration(body)
    parsed = parse_configuration(document)
    assert parsed.resolve({}).values == {}
    schema.assertValid(etree.fromstring(document))


@pytest.mark.parametrize("body", WITH_PARAMETERS.values(), ids=WITH_PARAMETERS.keys())
def test_valid_with_parameters(body: str, schema: etree.XMLSchema) -> None:
    document = configuration(body, PARAMETERS)
    resolved = parse_configuration(document).resolve({"count": "4"})
    assert resolved.values == {"version": "1.0", "count": "4", "hash": "sha256"}
    schema.assertValid(etree.fromstring(document))


#: body -> what the message and advice must contain. The XSD refuses these as well.
WRONG_STRUCTURE = {
    f'<zip-file><pe-file pth="a">{SIGN}</pe-file></zip-file>': ['"pth"', 'Did you mean "path"'],
    f"<zip-file><pe-file>{SIGN}</pe-file></zip-file>": ["<pe-file>", '"path"'],
    f"<pe-fil>{SIGN}</pe-fil>": ["<pe-fil>", 'Did you mean "pe-file"'],
    f"<pe-file>{SIGN}</pe-file><pe-file>{SIGN}</pe-file>": ["2 file elements", "<zip-file>"],
    f'<directory path="a"><pe-file path="a">{SIGN}</pe-file></directory>': ["<directory>"],
    "<pe-file><create-cms-signature/></pe-file>": ["not allowed in <pe-file>", "authenticode-sign"],
    f'<pe-file><pe-file path="x">{SIGN}</pe-file></pe-file>': ["holds no files"],
    f"<pe-file-set>{SIGN}</pe-file-set>": ["<pe-file-set>"],
    '<zip-file><pe-file-set><include path="a"/></pe-file-set></zip-file>': ["for-each"],
    f"<zip-file><pe-file-set><for-each>{SIGN}</for-each></pe-file-set></zip-file>": ["<include>"],
    f'<zip-file><pe-file-set path="a"><include path="a"/><for-each>{SIGN}</for-each>'
    "</pe-file-set></zip-file>": ['"path"'],
    '<pe-file><authenticode-sign hash-algorithm="sha1"/></pe-file>': [
        "hash-algorithm",
        '"sha1"',
        "sha256, sha384, sha512",
    ],
    '<pe-file><authenticode-sign append="yes"/></pe-file>': ["append", "false, true"],
    f'<zip-file><pe-file path="a" min-matches="-1">{SIGN}</pe-file></zip-file>': ["min-matches"],
    f'<zip-file><pe-file path="a" max-matches="many">{SIGN}</pe-file></zip-file>': ["unbounded"],
    f'<zip-file><pe-file path="a" min-matches="unbounded">{SIGN}</pe-file></zip-file>': [
        "max-matches"
    ],
    f'<pe-file max-matches="2">{SIGN}</pe-file>': ["exactly one file"],
    "<pe-file>sign me</pe-file>": ["sign me"],
    f"<pe-file>{SIGN}</pe-file><parameters/>": ["2 file elements"],
    '<zip-file><file path="a"><create-raw-signature/></file></zip-file>': ["output-file-name"],
    '<zip-file><file path="a"><create-raw-signature output-file-name="b/c"/></file></zip-file>': [
        "not a file name"
    ],
    f'<zip-file><include path="a"/><pe-file path="a">{SIGN}</pe-file></zip-file>': ["a set"],
    f"<zip-file>{SIGN}</zip-file>": ["not allowed in <zip-file>"],
    "<pe-file><authenticode-sign><include/></authenticode-sign></pe-file>": ["cannot hold"],
    f'<zip-file ui-multifile-upload="yes"><pe-file path="a">{SIGN}</pe-file></zip-file>': [
        "off, on"
    ],
    f'<parameters><parameter name="1a"/></parameters><pe-file>{SIGN}</pe-file>': ["1a"],
    f'<parameters><x name="a"/></parameters><pe-file>{SIGN}</pe-file>': ["<x>"],
    f'<zip-file><pe-file path="">{SIGN}</pe-file></zip-file>': ["empty"],
    "": ["0 file elements"],
}

#: Beyond a grammar: the XSD accepts these, the parser does not.
WRONG_MEANING = {
    f"<pe-file>{SIGN}<authenticode-verify/></pe-file>": ["after a signing", "first"],
    f'<pe-file path="bin/a.exe">{SIGN}</pe-file>': ["has a directory"],
    f'<zip-file><pe-file path="../a">{SIGN}</pe-file></zip-file>': ['".."'],
    f'<zip-file><pe-file path="a**">{SIGN}</pe-file></zip-file>': ['"**"'],
    f'<zip-file><pe-file path="[a">{SIGN}</pe-file></zip-file>': ['"["'],
    f'<zip-file><pe-file path="a" min-matches="3">{SIGN}</pe-file></zip-file>': [
        "min-matches is 3",
        "at least 3",
    ],
    f'<pe-file product-version="${{versoin}}">{SIGN}</pe-file>': ['"versoin"'],
    f'<zip-file><pe-file path="${{file.name}}">{SIGN}</pe-file></zip-file>': ["file.name"],
    f'<pe-file product-name="${{a">{SIGN}</pe-file>': ["not closed"],
    "<parameters><parameter name='a'/><parameter name='a'/></parameters>"
    f"<pe-file>{SIGN}</pe-file>": ["declared"],
    '<file><create-cms-signature output-file-name="x"/></file>': ["root", "<zip-file>"],
    '<zip-file><pe-file path="a"/></zip-file>': ["no directive"],
}


@pytest.mark.parametrize("body", WRONG_STRUCTURE)
def test_wrong_structure(body: str, schema: etree.XMLSchema) -> None:
    document = configuration(body)
    _assert_refused(document, WRONG_STRUCTURE[body])
    assert not schema.validate(etree.fromstring(document))


@pytest.mark.parametrize("body", WRONG_MEANING)
def test_wrong_meaning(body: str) -> None:
    _assert_refused(configuration(body), WRONG_MEANING[body])


def _assert_refused(document: bytes, fragments: Sequence[str]) -> None:
    with pytest.raises(ArtifactConfigurationError) as caught:
        parse_configuration(document)
    said = f"{caught.value.message} {caught.value.advice}"
    assert [each for each in fragments if each not in said] == [], said
    assert caught.value.where.startswith("line 1, column ")


def test_errors_name_line_and_column() -> None:
    document = configuration(
        f'\n <zip-file>\n  <ü/>\n   <pe-file pth="a">{SIGN}</pe-file>\n</zip-file>'
    )
    with pytest.raises(ArtifactConfigurationError) as caught:
        parse_configuration(document.replace("<ü/>".encode(), b"<!-- \xc3\xbc -->  "))
    assert caught.value.where == "line 4, column 4"


@pytest.mark.parametrize("name", sorted(set(FILE_ELEMENTS) - set(LANGUAGE.types)))
def test_known_elements_that_are_not_available_say_so(name: str) -> None:
    for element in (name, f"{name}-set"):
        body = f'<zip-file><{element} path="x"/></zip-file>'
        _assert_refused(configuration(body), [f"<{element}> is not supported by this version yet"])


def test_known_directives_that_are_not_available_say_so() -> None:
    available = {name for kind in LANGUAGE.types.values() for name in kind.directives}
    missing = sorted(set(DIRECTIVES) - available)
    for name in missing:
        body = f'<zip-file><pe-file path="x"><{name}/></pe-file></zip-file>'
        _assert_refused(configuration(body), [f"<{name}> is not supported by this version yet"])
    assert available <= set(DIRECTIVES)


@pytest.mark.parametrize(
    ("document", "fragment"),
    [
        (b"", "not well-formed"),
        (b"<a", "not well-formed"),
        (b"\x00\x01", "not well-formed"),
        (b"<artifact-configuration/>", "no namespace"),
        (b'<artifact-configuration xmlns="urn:other"/>', "urn:other"),
        (f'<pe-file xmlns="{NAMESPACE}"/>'.encode(), "root element"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a/>', "document type"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a>&b;</a>', "document type"),
        (configuration(f'<pe-file xmlns:o="urn:o" o:path="a">{SIGN}</pe-file>'), "foreign"),
        (configuration("<pe-file>" + " " * (1 << 20) + "</pe-file>"), "bytes"),
        (configuration('<directory path="a">' * 60), "nested"),
        (configuration("<zip-file>" + '<file path="a"/>' * 20_001 + "</zip-file>"), "elements"),
        (configuration(f'<pe-file path="{"a" * 5000}">{SIGN}</pe-file>'), "longer than"),
        (b'<?xml version="1.0" encoding="no-such"?><a/>', "encoding"),
    ],
)
def test_hostile_documents(document: bytes, fragment: str) -> None:
    with pytest.raises(ArtifactConfigurationError, match=fragment):
        parse_configuration(document)


def test_utf_16_and_byte_order_marks() -> None:
    text = configuration(f'<pe-file product-name="Ünï">{SIGN}</pe-file>').decode()
    for encoded in (text.encode("utf-16"), b"\xef\xbb\xbf" + text.encode()):
        parsed = parse_configuration(encoded)
        assert parsed.root.includes[0].restrictions == {"product-name": "Ünï"}


def test_schema_location_is_allowed(schema: etree.XMLSchema) -> None:
    document = configuration(f"<pe-file>{SIGN}</pe-file>").replace(
        b"<artifact-configuration ",
        b'<artifact-configuration xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        b'xsi:schemaLocation="http://signpath.io/artifact-configuration/v1 v1.xsd" ',
    )
    parse_configuration(document)
    schema.assertValid(etree.fromstring(document))


def _resolve(body: str, **given: str) -> Configuration:
    return parse_configuration(configuration(body, PARAMETERS)).resolve(given)


def test_a_parameter_value_is_literal_in_a_path() -> None:
    pattern = _resolve(WITH_PARAMETERS["path"], version="*").root.includes[0].pattern
    assert pattern is not None
    assert pattern.matches("app-*.exe")
    assert not pattern.matches("app-1.exe")


def test_restrictions_of_a_set_are_inherited_and_overridden() -> None:
    parsed = parse_configuration(configuration(VALID["set"]))
    first, second = parsed.root.children[0].includes
    assert first.restrictions == {"product-name": "P"}
    assert second.restrictions == {"product-name": "Q"}
    assert (first.min_matches, first.max_matches) == (0, 1)
    assert second.max_matches is None


@pytest.mark.parametrize(
    ("given", "fragment"),
    [
        ({"versoin": "1"}, 'Did you mean "version"'),
        ({"version": ""}, "needs a value"),
        ({"version": "x" * 2000}, "longer than"),
        ({"version": "a\nb"}, "control"),
        ({"version": "${count}"}, "refer"),
    ],
)
def test_parameter_values_are_checked(given: dict[str, str], fragment: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        _resolve(WITH_PARAMETERS["path"], **given)
    assert fragment in str(caught.value)


@pytest.mark.parametrize(
    ("body", "given", "fragment"),
    [
        ("count", {"count": "many"}, "not a count"),
        ("count", {"count": "0"}, "min-matches is 1"),
        ("option", {"hash": "md5"}, "not allowed"),
        ("path", {"version": "../x"}, "directory"),
        ("mixed", {"version": "a/b"}, "not a file name"),
    ],
)
def test_attributes_are_checked_after_substitution(
    body: str, given: dict[str, str], fragment: str
) -> None:
    with pytest.raises(ArtifactConfigurationError) as caught:
        _resolve(WITH_PARAMETERS[body], **given)
    assert fragment in str(caught.value)


def test_the_published_schema_is_the_generated_one() -> None:
    assert published_schema().decode() == generate_schema()


def test_a_registered_format_is_in_language_and_schema() -> None:
    """Registering is enough: nothing else has to learn of a new format."""
    etree.XMLSchema(etree.fromstring(generate_schema(TOY).encode()))
    body = '<zip-file><toy-file path="a"><toy-sign rounds="2"/></toy-file></zip-file>'
    parsed = parse_configuration(configuration(body), TOY)
    assert parsed.root.children[0].directives[0].options["rounds"] == "2"
    with pytest.raises(ArtifactConfigurationError):
        parse_configuration(configuration(body))


# Valid documents made at random, most of them spoiled in one place: parser and schema judge alike,
# but for what a grammar cannot say.

_COUNTS = ("", ' min-matches="0"', ' max-matches="unbounded"', ' max-matches="3"')
_place = st.builds(
    lambda path, counts: f'path="{path}"{counts}',
    st.sampled_from(["a", "*.exe", "x/**/y", "[a-c]?"]),
    st.sampled_from(_COUNTS),
)
_sign = st.sampled_from(
    [
        SIGN,
        '<authenticode-sign append="true"/>',
        "<authenticode-verify/>",
        "<authenticode-sign/>" * 2,
    ]
)
_create = st.sampled_from(
    [
        '<create-raw-signature output-file-name="o"/>',
        '<create-cms-signature output-file-name="${file.name}.p7s" output-encoding="pem"/>',
    ]
)
_product = st.sampled_from(["", ' product-name="p"'])
_pe = st.builds("<pe-file {}{}>{}</pe-file>".format, _place, _product, _sign)
_file = st.builds("<file {}>{}</file>".format, _place, _create)
_set = st.builds(
    "<pe-file-set{1}><include {0}/><include {0}{1}/><for-each>{2}</for-each></pe-file-set>".format,
    _place,
    _product,
    _sign,
)
_member = st.recursive(
    st.one_of(_pe, _file, _set),
    lambda inner: st.builds(
        lambda name, place, members: f"<{name} {place}>{''.join(members)}</{name}>",
        st.sampled_from(["zip-file", "directory"]),
        _place,
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=4,
)
_document = st.lists(_member, max_size=2).map(lambda m: f"<zip-file>{''.join(m)}</zip-file>")
_WORDS = (
    *("zip-file", "pe-file", "pe-file-set", "file", "directory", "include", "for-each", "path"),
    *("authenticode-sign", "create-raw-signature", "min-matches", "append", "unbounded", "0"),
    *("product-name", "output-file-name", "parameters", "true", "x", ""),
)
_TOKEN = re.compile(r"[a-z-]{2,}|[03]")


def _spoil(document: str, position: int, word: str) -> str:
    """Put another word at one place, in start and end tag alike."""
    found = list(_TOKEN.finditer(document))
    token = found[position % len(found)]
    before, after = document[: token.start()], document[token.end() :]
    if before.endswith("<") and (end := after.find(f"</{token[0]}>")) >= 0:
        after = f"{after[:end]}</{word}>{after[end + len(token[0]) + 3 :]}"
    return before + word + after


_SEMANTIC = (
    "after a signing",
    "no directive",
    "which the root",
    "min-matches is",
    'attribute "path"',
    "is declared",
)
_XSD = etree.XMLSchema(etree.fromstring(published_schema()))


@settings(max_examples=300)
@given(_document, st.integers(0, 1000), st.one_of(st.none(), st.sampled_from(_WORDS)))
@pytest.mark.untraced
def test_parser_and_schema_agree(body: str, position: int, word: str | None) -> None:
    document = configuration(body if word is None else _spoil(body, position, word))
    try:
        tree = etree.fromstring(document)
    except etree.XMLSyntaxError:
        tree = None
    try:
        parse_configuration(document)
        accepted, said = True, ""
    except ArtifactConfigurationError as error:
        accepted, said = False, str(error)
    if not any(part in said for part in _SEMANTIC):
        assert (tree is not None and _XSD.validate(tree)) == accepted, (document, said)
