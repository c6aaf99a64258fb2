"""Containers that somebody has signed: their members change only if they are signed again."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from tests.artifacts import launcher
from tests.artifacts_signed import sign_deeply
from tests.fakes.cabinets import File, Folder, build
from tests.toy import archive
from tests.unit.test_nupkg import signer as nuget_signer

from sealwright.errors import ArtifactError
from sealwright.signing.formats import cab, jar

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
JAR = (VECTORS / "jar" / "rsa-sha256.jar").read_bytes()
NUPKG = (VECTORS / "nupkg" / "minimal.1.0.0.nupkg").read_bytes()
SIGN = "<authenticode-sign/>"
OUTPUT = '<create-raw-signature output-file-name="${file.name}.sig"/>'


def first_file(content: bytes) -> str:
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        return next(name for name in opened.namelist() if name[-1] != "/" and "META" not in name)


@pytest.fixture(scope="module")
def signed_nupkg(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    body = "<nupkg-file><nuget-sign/></nupkg-file>"
    return sign_deeply(NUPKG, body, tmp_path_factory.mktemp("nupkg"), nuget_signer())[0]


@pytest.fixture(scope="module")
def signed_cab(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    content = build([Folder([File(b"app.exe", launcher().read_bytes()), File(b"a.txt", b"text")])])
    body = f"<cab-file>{SIGN}</cab-file>"
    return sign_deeply(content, body, tmp_path_factory.mktemp("cab"))[0]


@pytest.mark.parametrize("element", ["jar-file", "zip-file"])
def test_a_signed_jar_is_not_repacked(element: str, tmp_path: Path) -> None:
    member = f'<file path="{first_file(JAR)}">{OUTPUT}</file>'
    with pytest.raises(ArtifactError, match="signed already") as caught:
        sign_deeply(JAR, f"<{element}>{member}</{element}>", tmp_path)
    assert "Have it signed again, in the element at line 1" in caught.value.advice
    signed, _ = sign_deeply(JAR, f"<{element}>{member}<jar-sign/></{element}>", tmp_path)
    assert len(jar.verify(io.BytesIO(signed))) == 1


def test_where_it_lies_is_said(tmp_path: Path) -> None:
    member = f'<file path="{first_file(JAR)}">{OUTPUT}</file>'
    body = f'<zip-file><jar-file path="*.jar">{member}</jar-file></zip-file>'
    with pytest.raises(ArtifactError, match="signed already") as caught:
        sign_deeply(archive({"lib.jar": JAR}), body, tmp_path)
    assert caught.value.where == "artifact!/lib.jar"


@pytest.mark.parametrize("element", ["nupkg-file", "zip-file"])
def test_a_signed_package_is_not_repacked(
    element: str, signed_nupkg: bytes, tmp_path: Path
) -> None:
    member = f'<file path="*.nuspec">{OUTPUT}</file>'
    with pytest.raises(ArtifactError, match="nupkg-file"):
        sign_deeply(signed_nupkg, f"<{element}>{member}</{element}>", tmp_path)
    body = f"<nupkg-file>{member}<nuget-sign/></nupkg-file>"
    assert len(sign_deeply(signed_nupkg, body, tmp_path, nuget_signer())[1]) == 2


@pytest.mark.parametrize(
    "own", ["", '<authenticode-sign append="true"/>', "<authenticode-verify/>"]
)
def test_a_signed_cabinet_is_not_repacked(own: str, signed_cab: bytes, tmp_path: Path) -> None:
    body = f'<cab-file>{own}<pe-file path="app.exe">{SIGN}</pe-file></cab-file>'
    with pytest.raises(ArtifactError, match="without append"):
        sign_deeply(signed_cab, body, tmp_path)
    body = f'<cab-file><pe-file path="app.exe">{SIGN}</pe-file>{SIGN}</cab-file>'
    assert len(cab.verify(io.BytesIO(sign_deeply(signed_cab, body, tmp_path)[0]))) == 1


def test_members_that_stay_break_nothing(signed_cab: bytes, tmp_path: Path) -> None:
    body = (
        '<zip-file><cab-file path="a.cab"><authenticode-verify/></cab-file>'
        f'<pe-file path="a.exe">{SIGN}</pe-file></zip-file>'
    )
    content = archive({"a.cab": signed_cab, "a.exe": launcher().read_bytes()})
    signed, _ = sign_deeply(content, body, tmp_path)
    with zipfile.ZipFile(io.BytesIO(signed)) as opened:
        assert opened.read("a.cab") == signed_cab


def test_a_cabinet_that_is_not_signed_may_be_appended_to(tmp_path: Path) -> None:
    content = build([Folder([File(b"app.exe", launcher().read_bytes())])])
    body = (
        f'<cab-file><pe-file path="app.exe">{SIGN}</pe-file>'
        '<authenticode-sign append="true"/></cab-file>'
    )
    assert len(sign_deeply(content, body, tmp_path)[1]) == 2
