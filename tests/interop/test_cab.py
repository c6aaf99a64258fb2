"""Cabinets against osslsigncode and cabextract, in both directions."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest
from tests import keys
from tests.artifacts import launcher
from tests.artifacts_signed import sign_deeply
from tests.fakes.cabinets import LZX, File, Folder, build
from tests.fakes.lzx_encoder import Encoder
from tests.interop.osslsigncode import Osslsigncode
from tests.shared import sample, tool

from sealwright.signing import algorithms
from sealwright.signing.artifact import Directive, SignatureFact
from sealwright.signing.containers.cab import Cabinet
from sealwright.signing.containers.cab_container import CabContainer
from sealwright.signing.formats import cab

UNSIGNED = Path(__file__).resolve().parent.parent / "vectors" / "cab" / "unsigned.cab"

TEXT = b"".join(b"line %d of a text\n" % number for number in range(9000))


@pytest.fixture(scope="module")
def osslsigncode(tmp_path_factory: pytest.TempPathFactory) -> Osslsigncode:
    return Osslsigncode(tmp_path_factory.mktemp("keys"))


def sign(source: Path, target: Path, kind: str = "p256", **options: str) -> None:
    named = {name.replace("_", "-"): value for name, value in options.items()}
    directive = Directive("authenticode-sign", named)
    with source.open("rb") as unsigned, target.open("w+b") as signed:
        generator = cab.sign(unsigned, directive, keys.pki().identity(kind), signed)
        keys.drive(generator, keys.pki().leaf(kind).key)


def verify(path: Path) -> list[SignatureFact]:
    with path.open("rb") as file:
        return cab.verify(file)


@pytest.mark.parametrize("kind", keys.KINDS)
@pytest.mark.parametrize("hash_algorithm", algorithms.HASH_ALGORITHMS)
def test_accepts_ours(
    kind: str, hash_algorithm: str, osslsigncode: Osslsigncode, tmp_path: Path
) -> None:
    out = tmp_path / "out.cab"
    sign(UNSIGNED, out, kind, hash_algorithm=hash_algorithm, timestamp="rfc3161")
    assert "Timestamp Server Signature verification: ok" in osslsigncode.verify(out)


@pytest.mark.parametrize("name", ["dummy.cab", "sample1.cab"])
def test_real_cabinets(name: str, osslsigncode: Osslsigncode, tmp_path: Path) -> None:
    sign(sample(name), tmp_path / "1.cab", "rsa-3072")
    osslsigncode.verify(tmp_path / "1.cab")
    sign(tmp_path / "1.cab", tmp_path / "2.cab", append="true", hash_algorithm="sha384")
    assert osslsigncode.verify(tmp_path / "2.cab").count("Signature verification: ok") >= 2
    for path in (tmp_path / "1.cab", tmp_path / "2.cab"):
        command = [tool("cabextract"), "--test", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", keys.KINDS)
def test_we_accept_its_signatures(kind: str, osslsigncode: Osslsigncode, tmp_path: Path) -> None:
    out = tmp_path / "out.cab"
    osslsigncode.sign(UNSIGNED, out, kind, "-h", "sha384")
    (fact,) = verify(out)
    assert fact.hash_algorithm == "sha384"
    assert fact.signer == keys.pki().leaf(kind).der
    sign(out, tmp_path / "two.cab", append="true")
    assert len(verify(tmp_path / "two.cab")) == 2


# --- signed deeply ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cabinet by gcab: a program and a text, compressed together over many blocks."""
    folder = tmp_path_factory.mktemp("packed")
    (folder / "bin").mkdir()
    # long enough to get a folder of its own
    (folder / "app.exe").write_bytes(launcher().read_bytes() + b"more of it" * 8000)
    (folder / "bin" / "größe.txt").write_bytes(TEXT)
    command = [tool("gcab"), "--create", "--zip", "made.cab", "bin/größe.txt", "app.exe"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "made.cab"


def test_gcabs_cabinets_are_signed_deeply(
    packed: Path, osslsigncode: Osslsigncode, tmp_path: Path
) -> None:
    body = (
        '<cab-file><pe-file path="app.exe"><authenticode-sign/></pe-file>'
        '<file path="bin/*.txt"><create-raw-signature output-file-name="${file.name}.sig"/></file>'
        "<authenticode-sign/></cab-file>"
    )
    content, found = sign_deeply(packed.read_bytes(), body, tmp_path)
    assert [each.path.rpartition("!/")[2] for each in found] == [
        "bin/größe.txt",
        "app.exe",
        "artifact",
    ]
    with io.BytesIO(content) as file:  # others have to pass over what leads the program
        assert any(folder.lead for folder in Cabinet(file, 3)._folders)
    out = tmp_path / "out.cab"
    out.write_bytes(content)
    osslsigncode.verify(out)
    readers = {
        "cabextract": ["-q", "-d", "."],
        "7z": ["x"],
        "gcab": ["--extract"],
    }
    for name, options in readers.items():
        folder = tmp_path / name
        folder.mkdir()
        command = [tool(name), *options, str(out)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (folder / "bin" / "größe.txt").read_bytes() == TEXT
        assert (folder / "bin" / "größe.txt.sig").stat().st_size > 300
        osslsigncode.verify(folder / "app.exe")


@pytest.mark.parametrize("window_bits", [15, 18, 21])
def test_lzx_is_read_as_others_read_it(window_bits: int, tmp_path: Path) -> None:
    """Blocks of all kinds, with translated calls: the same from cabextract, 7-Zip and us."""
    program = launcher("t64.exe").read_bytes()[:90_001]
    blocks = Encoder(window_bits, (1, 2, 3, 1, 2), 20_001, file_size=12_000_000).compress(program)
    path = tmp_path / "lzx.cab"
    path.write_bytes(build([Folder([File(b"f", program)], LZX | window_bits << 8, blocks=blocks)]))
    container, ours = CabContainer(io.BytesIO(path.read_bytes()), 1), io.BytesIO()
    (entry,) = container.entries()
    container.extract(entry, ours)
    assert ours.getvalue() != program  # calls were translated
    for command in (["cabextract", "-q", "-p", str(path)], ["7z", "x", "-so", str(path)]):
        done = subprocess.run([tool(command[0]), *command[1:]], capture_output=True, check=True)
        assert done.stdout == ours.getvalue()
