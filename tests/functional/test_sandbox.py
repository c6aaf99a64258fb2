"""The format child as a real process: what it does, what it cannot do, and how it may end."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests import app_packages, keys
from tests.artifacts import launcher
from tests.fakes import installers
from tests.fakes.hostile_archives import KINDS, hostile_archives
from tests.pe_images import image
from tests.shared import REPOSITORY, missing
from tests.toy import archive, configuration, file_digest

from sealwright.errors import (
    ArtifactConfigurationError,
    ArtifactError,
    ConfigurationError,
    EndorsementAwaitedError,
    InternalError,
    KeyStoreError,
    OriginError,
    PolicyViolationError,
    SealwrightError,
    UnavailableError,
    VerificationError,
)
from sealwright.model.signed_member import Change, SignedMember
from sealwright.signing import child_protocol, landlock
from sealwright.signing.agreement import agree
from sealwright.signing.artifact import Directive, SignatureFact, SignatureResult, TimestampForm
from sealwright.signing.budget import Limits, Pace
from sealwright.signing.child_pool import ChildPool
from sealwright.signing.child_process import SandboxSettings
from sealwright.signing.confinement import ChildLimits
from sealwright.signing.file_result import FileDigest, StageReport
from sealwright.signing.formats import pe
from sealwright.signing.nursery import ENVIRONMENT
from sealwright.signing.pending_signatures import PendingSignature
from sealwright.signing.plan import Plan
from sealwright.signing.sandbox import FormatChild
from sealwright.signing.signature_value import stamped_value
from sealwright.signing.team import Team, team_of
from sealwright.signing.verify_result import Verdict, VerifiedFile, VerifiedSignature

SERVER = REPOSITORY / "server"
SIGN = "<authenticode-sign/>"
DETACHED = '<create-cms-signature output-file-name="${file.name}.p7s"/>'
BODY = (
    f'<zip-file><pe-file path="**/*.exe" max-matches="unbounded">{SIGN}</pe-file>'
    f'<file path="data">{DETACHED}</file>'
    f'<zip-file path="in.zip"><pe-file path="*">{SIGN}</pe-file></zip-file></zip-file>'
)


def artifact(count: int = 3) -> bytes:
    files = {f"{n}.exe": image(overlay=b"%d" % n) for n in range(count)}
    return archive(
        files | {"data": b"data", "in.zip": archive({"x": image(overlay=b"x")}), "other": b"o"}
    )


async def answer(batch: Sequence[PendingSignature]) -> list[SignatureResult]:
    issued = keys.pki().leaf()
    results = []
    for pending in batch:
        value = keys.answer(pending.request, issued.key)
        wants = pending.request.timestamp is not TimestampForm.NONE
        stamped = stamped_value(pending.request, value)
        token = keys.software_tsa(stamped, pending.request.hash_algorithm) if wants else None
        results.append(SignatureResult(value, token))
    return results


@contextlib.asynccontextmanager
async def started(
    folder: Path, settings: SandboxSettings | None = None, data: bytes | None = None
) -> AsyncIterator[FormatChild]:
    folder.mkdir(exist_ok=True)
    child = await FormatChild.start(folder, settings)
    try:
        child.input.write_bytes(artifact() if data is None else data)
        yield child
    finally:
        await child.kill()


async def planned(child: FormatChild | Team, body: str = BODY) -> Plan:
    return await child.plan(
        configuration(body),
        {},
        artifact_name="a.zip",
        signing_time=1_700_000_000,
        timestamp=TimestampForm.RFC3161,
    )


async def test_a_team_makes_what_one_child_makes(tmp_path: Path) -> None:
    identity = keys.pki().identity()
    data = artifact(9)
    made: dict[bytes, SignatureResult] = {}

    async def answer_once(batch: Sequence[PendingSignature]) -> list[SignatureResult]:
        new = [each for each in batch if each.request.digest not in made]
        made.update(zip((each.request.digest for each in new), await answer(new), strict=True))
        return [made[each.request.digest] for each in batch]

    outputs = []
    agreed = []
    listings = []
    progress: list[tuple[int, int]] = []
    async with ChildPool(tmp_path, 3) as pool:
        for places in (1, 3):
            room = asyncio.Semaphore(places)
            async with room, team_of(pool, room, divisible=True) as team:
                assert len(team.children) == places
                team.first.input.write_bytes(data)
                await team.share_input()
                plan = await planned(team)
                results = await team.deep_sign(
                    plan, identity, answer_once, lambda done, all_: progress.append((done, all_))
                )
                await team.end()
                assert room.locked() == (places == 1)
                with team.first.open_output() as output:
                    outputs.append((plan, results, output.read()))
                listings.append(team.listing)
                async with team_of(pool, room, divisible=True) as judges:
                    assert len(judges.children) == places
                    judges.first.input.write_bytes(data)
                    judges.first.output.write_bytes(outputs[-1][2])
                    await judges.share_input()
                    verdict = await judges.verify(
                        plan, configuration(BODY), {}, identity.certificate
                    )
                    assert len(verdict.signatures) == 11
                    agreed.append(agree(plan, results, verdict, file_digest(outputs[-1][2])))
    assert outputs[0] == outputs[1]
    assert agreed[0] == agreed[1]
    assert listings[0] == listings[1]
    opened = {node.path: node.members for node in outputs[0][0].root.walk() if node.members}
    assert {path: len(members) for path, members in listings[0].items()} == opened
    assert {all_ for _, all_ in progress} == {11}


async def test_limits_hold_for_a_team_as_a_whole(tmp_path: Path) -> None:
    """Two archives inside of which each child may open one, and together they hold too much."""
    inner = [archive({f"{n}-{m}": b"" for m in range(40)}) for n in range(2)]
    data = archive({"0.zip": inner[0], "1.zip": inner[1]})
    body = (
        '<zip-file><zip-file path="*.zip" max-matches="2">'
        '<pe-file path="none" min-matches="0"><authenticode-sign/></pe-file></zip-file></zip-file>'
    )
    settings = SandboxSettings(artifact=Limits(members=60))
    async with ChildPool(tmp_path, 2, settings) as pool:
        room = asyncio.Semaphore(2)
        async with room, team_of(pool, room, divisible=True) as team:
            team.first.input.write_bytes(data)
            await team.share_input()
            with pytest.raises(ArtifactError, match="82 members; 60 are accepted"):
                await planned(team, body)


async def test_analyze_and_trust(tmp_path: Path) -> None:
    trusted = keys.pki()
    target = io.BytesIO()
    directive = Directive("authenticode-sign", {"timestamp": "none"})
    source = io.BytesIO(launcher().read_bytes())
    generator = pe.sign(source, directive, trusted.identity(), target)
    keys.drive(generator, trusted.leaf().key)
    content = archive({"a.exe": target.getvalue(), "b.exe": launcher().read_bytes()})
    settings = SandboxSettings(roots=(trusted.root.der,), timestamp_roots=(trusted.root.der,))
    async with started(tmp_path / "c", settings, content) as child:
        proposed = await child.analyze("a.zip")
        assert '<pe-file path="a.exe">\n      <authenticode-verify/>' in proposed
        plan = await child.plan(proposed.encode(), {}, artifact_name="a.zip", signing_time=0)
        assert [len(node.signs) for node in plan.root.children] == [0, 1]
        await child.deep_sign(plan, trusted.identity(), answer)
        with child.open_output() as output:
            signed = output.read()
    judged = (plan, proposed.encode(), {}, trusted.leaf().der)
    async with started(tmp_path / "judge", settings, content) as child:
        child.output.write_bytes(signed)
        assert len((await child.verify(*judged)).signatures) == 1
    async with started(tmp_path / "judge without", SandboxSettings(), content) as child:
        child.output.write_bytes(signed)
        with pytest.raises(VerificationError, match="roots to trust"):
            await child.verify(*judged)
    async with started(tmp_path / "d", SandboxSettings(), content) as child:
        assert await child.analyze("a.zip") == proposed
        with pytest.raises(VerificationError, match="roots to trust"):
            await child.plan(proposed.encode(), {}, artifact_name="a.zip", signing_time=0)
    other = (trusted.tsa_root.der,)
    settings = SandboxSettings(roots=other, timestamp_roots=other)
    async with started(tmp_path / "e", settings, content) as child:
        assert "but not trusted: No path to a trusted root" in await child.analyze("a.zip")


async def test_plan_sign_and_verify(tmp_path: Path) -> None:
    identity = keys.pki().identity()
    progress: list[tuple[int, int]] = []
    async with ChildPool(tmp_path, 2) as pool:
        async with pool.child() as child:
            child.input.write_bytes(artifact())
            plan = await planned(child)
            results = await child.deep_sign(
                plan, identity, answer, lambda done, all_: progress.append((done, all_))
            )
            with child.open_output() as output:
                signed = output.read()
        assert [r.directive for r in results].count("authenticode-sign") == 4
        assert progress
        assert all(all_ == 5 for _, all_ in progress)
        async with pool.child() as checker:
            checker.input.write_bytes(artifact())
            checker.output.write_bytes(signed)
            verdict = await checker.verify(plan, configuration(BODY), {}, identity.certificate)
            assert len(verdict.signatures) == 5
            assert all(each.fact.timestamp for each in verdict.signatures)
        async with pool.child() as checker:
            checker.input.write_bytes(artifact())
            checker.output.write_bytes(artifact())
            with pytest.raises(VerificationError):
                await checker.verify(plan, configuration(BODY), {}, identity.certificate)
        async with pool.child() as checker:  # told to the first one, and not believed by judges
            checker.input.write_bytes(artifact())
            checker.input_sha256 = "0" * 64
            wrong = await planned(checker)
            assert wrong.root.sha256 == "0" * 64
            checker.output.write_bytes(signed)
            with pytest.raises(VerificationError, match="not the planned one"):
                await checker.verify(wrong, configuration(BODY), {}, identity.certificate)
    assert list(tmp_path.iterdir()) == []


async def test_a_package_is_rebuilt_in_a_confined_child(tmp_path: Path) -> None:
    identity = keys.pki().identity()
    content = installers.build(
        [
            installers.Installed("app", "app.exe", launcher().read_bytes(), hashed=True),
            installers.Installed("more", "more.txt", os.urandom(2 << 20)),
        ],
        installers.Options(binaries={"Tool": image(overlay=b"tool")}),
    )
    async with started(tmp_path / "c", data=content) as child:
        proposed = await child.analyze("a.zip")
        assert 'path="Example App/app.exe"' in proposed
        assert 'path="Binary/Tool"' in proposed
        plan = await child.plan(proposed.encode(), {}, artifact_name="a.zip", signing_time=0)
        await child.deep_sign(plan, identity, answer)
        with child.open_output() as output:
            signed = output.read()
    async with started(tmp_path / "d", data=content) as checker:
        checker.output.write_bytes(signed)
        verdict = await checker.verify(plan, proposed.encode(), {}, identity.certificate)
    assert len(verdict.signatures) == 3


async def test_packages_with_xml_are_signed_in_a_confined_child(tmp_path: Path) -> None:
    """XML is parsed, and canonical, with everything that confines the child in force."""
    program = {"app.exe": image(overlay=b"1")}
    types = (
        b'<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        b'<Default Extension="exe" ContentType="application/octet-stream"/></Types>'
    )
    data = archive(
        {
            "a.msix": app_packages.package(program),
            "a.vsix": archive({"[Content_Types].xml": types, **program}),
        }
    )
    inner = f'<pe-file path="app.exe">{SIGN}</pe-file>'
    body = (
        f'<zip-file><msix-file path="a.msix">{inner}{SIGN}</msix-file>'
        f'<opc-file path="a.vsix">{inner}<opc-sign/></opc-file></zip-file>'
    )
    identity = keys.pki().identity()
    async with started(tmp_path / "child", data=data) as child:
        plan = await planned(child, body)
        await child.deep_sign(plan, identity, answer)
        with child.open_output() as output:
            signed = output.read()
    async with started(tmp_path / "checker", data=data) as checker:
        checker.output.write_bytes(signed)
        verdict = await checker.verify(plan, configuration(body), {}, identity.certificate)
    assert sorted(each.fact.format for each in verdict.signatures) == [*["authenticode"] * 3, "opc"]


async def test_many_files_in_many_batches(tmp_path: Path) -> None:
    """Answers are made while the child works on, several batches at a time."""
    arrived = 0
    another = asyncio.Event()

    async def slow(batch: Sequence[PendingSignature]) -> list[SignatureResult]:
        nonlocal arrived
        arrived += 1
        if arrived > 1:
            another.set()
        # no batch is answered before another one has come: the child does not wait for answers
        await asyncio.wait_for(another.wait(), 30)
        return await answer(batch)

    settings = SandboxSettings(pace=Pace(requests=100))
    async with started(tmp_path / "c", settings, artifact(150)) as child:
        results = await child.deep_sign(await planned(child), keys.pki().identity(), slow)
    assert len([r for r in results if r.directive == "authenticode-sign"]) == 151
    assert arrived > 1


async def test_errors_travel_with_all_they_say(tmp_path: Path) -> None:
    async with started(tmp_path / "1") as child:
        with pytest.raises(ArtifactConfigurationError) as configured:
            await planned(child, "<pe-fle/>")
    assert configured.value.where == "line 1, column 78"
    assert "pe-file" in configured.value.advice
    async with started(tmp_path / "2", data=b"no archive") as child:
        with pytest.raises(ArtifactError) as refused:
            await planned(child)
    assert refused.value.where == "a.zip"


async def test_what_answering_raises_ends_the_child(tmp_path: Path) -> None:
    async def failing(batch: Sequence[PendingSignature]) -> list[SignatureResult]:
        raise KeyStoreError("the token is gone")

    async with started(tmp_path / "c") as child:
        plan = await planned(child)
        with pytest.raises(KeyStoreError, match="token is gone"):
            await child.deep_sign(plan, keys.pki().identity(), failing)
        assert child._process.returncode is not None


async def test_a_child_that_takes_too_long(tmp_path: Path) -> None:
    async def never(batch: Sequence[PendingSignature]) -> list[SignatureResult]:
        await asyncio.sleep(60)
        return []

    async with started(tmp_path / "c", SandboxSettings(wall_seconds=1.5)) as child:
        plan = await planned(child)
        with pytest.raises(ArtifactError, match="longer than"):
            await child.deep_sign(plan, keys.pki().identity(), never)
        assert child._process.returncode is not None


@pytest.mark.parametrize(
    ("number", "error", "says"),
    [
        (signal.SIGKILL, UnavailableError, "from outside"),  # may pass in a later attempt
        (signal.SIGSEGV, ArtifactError, "SIGSEGV"),
        (signal.SIGXCPU, ArtifactError, "processor"),
    ],
)
async def test_a_child_that_dies(
    number: int, error: type[SealwrightError], says: str, tmp_path: Path
) -> None:
    async with started(tmp_path / "c") as child:

        async def deadly(batch: Sequence[PendingSignature]) -> list[SignatureResult]:
            child._process.send_signal(number)
            await asyncio.sleep(60)
            return []

        plan = await planned(child)
        with pytest.raises(error, match=says):
            await child.deep_sign(plan, keys.pki().identity(), deadly)


async def test_a_waiting_child_that_was_killed_is_not_handed_out(tmp_path: Path) -> None:
    async with ChildPool(tmp_path, size=1) as pool:
        async with pool.child() as first:
            while not pool._waiting:  # another is started a moment after one was taken
                await asyncio.sleep(0.02)
            waiting = await pool._waiting[0]
            os.kill(waiting._process.pid, signal.SIGKILL)
            await waiting._process.wait()
            assert first.is_alive
        async with pool.child() as second:
            assert second.is_alive
            assert second is not waiting


@pytest.mark.parametrize("turns", range(4))
async def test_who_is_cancelled_leaves_no_child(turns: int, tmp_path: Path) -> None:
    """Also while ending one already, at whatever step of it."""
    async with ChildPool(tmp_path, size=1) as pool:
        taken: list[FormatChild] = []
        waits = asyncio.Event()

        async def hold() -> None:
            async with pool.child() as child:
                taken.append(child)
                await waits.wait()
                await child.kill()

        holding = asyncio.create_task(hold())
        while not taken:
            await asyncio.sleep(0.02)
        waits.set()
        for _ in range(turns + 1):
            await asyncio.sleep(0)
        holding.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
        holding.cancel()
        await asyncio.wait({holding})
        [child] = taken
        async with asyncio.timeout(20):
            await child._process.wait()
            while child.folder.exists() or child._handle >= 0:
                await asyncio.sleep(0.02)


async def test_a_child_that_nobody_waits_for_any_more_is_the_next_ones(tmp_path: Path) -> None:
    async with ChildPool(tmp_path, size=1) as pool:
        starting = pool._waiting[0]
        taking = asyncio.create_task(pool.take())
        await asyncio.sleep(0)
        starting.add_done_callback(lambda _: taking.cancel())  # before it has got it
        await asyncio.wait({taking})
        assert taking.cancelled()
        async with pool.child() as child:
            assert child is starting.result()


async def test_too_little_memory_or_space(tmp_path: Path) -> None:
    many = archive({f"{n}" * 200: b"" for n in range(60_000)})
    settings = SandboxSettings(child=ChildLimits(address_space=100 << 20))
    async with started(tmp_path / "1", settings, many) as child:
        with pytest.raises(ArtifactError, match="memory"):
            await planned(child)
    small = archive({"a.exe": image(overlay=b"x" * 5000)})
    body = f'<zip-file><pe-file path="a.exe">{SIGN}</pe-file></zip-file>'
    settings = SandboxSettings(artifact=Limits(spool=1000))
    async with started(tmp_path / "2", settings, small) as child:
        with pytest.raises(ArtifactError, match="temporary space"):
            await planned(child, body)
    large = archive({"a.exe": image(overlay=b"x" * 20_000_000)})
    settings = SandboxSettings(child=ChildLimits(file_size=100_000))
    async with started(tmp_path / "3", settings, large) as child:
        with pytest.raises(ArtifactError, match="larger temporary file"):
            await planned(child, body)


async def test_a_full_disk_is_not_the_artifacts_fault(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(full)], capture_output=True
    )
    if mounted.returncode:
        missing("a small file system cannot be mounted without root")
    try:
        small = archive({"a.exe": image(overlay=bytes(20_000_000))})
        body = f'<zip-file><pe-file path="a.exe">{SIGN}</pe-file></zip-file>'
        async with started(full / "c", None, small) as child:
            with pytest.raises(UnavailableError, match="no space left"):
                await planned(child, body)
    finally:
        subprocess.run(["umount", str(full)], check=True)


async def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import asyncio, os, sys
        from pathlib import Path
        from sealwright.signing.sandbox import FormatChild
        async def main():
            child = await FormatChild.start(Path(sys.argv[1]))
            print(child._process.pid, flush=True)
            os._exit(0)
        asyncio.run(main())
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env={"PYTHONPATH": str(SERVER)},
        capture_output=True,
        text=True,
        check=True,
    )
    pid = int(done.stdout)
    for _ in range(100):
        status = Path(f"/proc/{pid}/stat")
        if not status.exists() or status.read_text().split()[2] == "Z":
            return
        await asyncio.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the child outlived its parent")


async def test_a_missing_layer_is_refused_where_it_is_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with started(tmp_path / "1") as child:
        missing = {name for name, there in child.confinement.items() if not there}
    required = SandboxSettings(required=frozenset({"landlock", "seccomp", "netns"}))
    if not missing:
        async with started(tmp_path / "2", required) as child:
            assert child.confinement["landlock"]
    impossible = replace(required, required=frozenset({"unheard-of"}))
    with pytest.raises(ConfigurationError, match="unheard-of"):
        async with started(tmp_path / "3", impossible):
            pass


async def test_hostile_archives_in_real_children(tmp_path: Path) -> None:
    """One archive of each kind; the kinds' own test runs many more in one process."""
    raw = '<create-raw-signature output-file-name="${file.name}.sig"/>'
    every = f'<file path="**/*.toy" min-matches="0" max-matches="unbounded">{raw}</file>'
    inner = f'<zip-file path="**/*.zip" min-matches="0" max-matches="unbounded">{every}</zip-file>'
    settings = SandboxSettings(
        child=ChildLimits(address_space=512 << 20),
        artifact=Limits(members=1000, extracted=100 << 20),
        wall_seconds=10,
    )
    outcomes = set()
    async with ChildPool(tmp_path, 2, settings) as pool:
        for kind, data in hostile_archives(0, len(KINDS)):
            async with pool.child() as child:
                child.input.write_bytes(data)
                try:
                    plan = await planned(child, f"<zip-file>{every}{inner}</zip-file>")
                    await child.deep_sign(plan, keys.pki().identity(), answer)
                    outcomes.add((kind, "signed"))
                except ArtifactError as error:
                    outcomes.add((kind, error.message))
    assert len(outcomes) == len(KINDS)
    assert len([kind for kind, outcome in outcomes if outcome == "signed"]) >= 2
    wrong = ("took longer", "could not be processed", "The process that read")
    assert [
        each for each in outcomes if each[1].startswith(wrong) or "longer than" in each[1]
    ] == []


# A child that has been taken over. What it may do is tried from inside, with the real confinement.

TAKEN_OVER = """
import ctypes, errno, json, os, socket, sys
from pathlib import Path
from sealwright.signing.confinement import ChildLimits, confine, protect_output
folder, port, parent = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
import subprocess, multiprocessing, urllib.request  # warm, as an attacker would have them
layers = dict(confine(folder, ChildLimits()))
libc = ctypes.CDLL(None, use_errno=True)

def attempt(action):
    try:
        result = action()
    except BaseException as error:
        return type(error).__name__
    return "did it" if result is None or result is True or (
        isinstance(result, int) and result >= 0) else "refused"

def write(path):
    with open(path, "ab") as file:
        file.write(b"x")

def connect_raw():
    return libc.socket(socket.AF_INET, socket.SOCK_STREAM, 0)

tried = {
    "own input": attempt(lambda: open(folder / "input").read() and None),
    "own output": attempt(lambda: write(folder / "output")),
    "own work": attempt(lambda: write(folder / "work" / "new")),
    "write input": attempt(lambda: write(folder / "input")),
    "new file beside": attempt(lambda: write(folder / "other")),
    "replace output": attempt(lambda: os.replace(folder / "work" / "new", folder / "output")),
    "unlink output": attempt(lambda: os.unlink(folder / "output")),
    "link in work": attempt(lambda: os.symlink("/etc/passwd", folder / "work" / "link")),
    "hard link": attempt(lambda: os.link("/etc/passwd", folder / "work" / "link")),
    "passwd": attempt(lambda: open("/etc/passwd").read() and None),
    "neighbour": attempt(lambda: open(folder.parent / "secret").read() and None),
    "list neighbours": attempt(lambda: os.listdir(folder.parent) and None),
    "proc": attempt(lambda: open(f"/proc/{parent}/environ").read() and None),
    "proc root": attempt(lambda: open(f"/proc/{parent}/root/etc/passwd").read() and None),
    "memory": attempt(lambda: open(f"/proc/{parent}/mem", "rb") and None),
    "socket": attempt(lambda: socket.socket() and None),
    "unix socket": attempt(lambda: socket.socket(socket.AF_UNIX) and None),
    "connect": attempt(lambda: socket.create_connection(("127.0.0.1", port), 1) and None),
    "raw socket call": attempt(connect_raw),
    "exec": attempt(lambda: os.execv("/bin/true", ["true"])),
    "subprocess": attempt(lambda: subprocess.run(["/bin/true"]) and None),
    "fork": attempt(os.fork),
    "kill": attempt(lambda: os.kill(parent, 0)),
    "kill init": attempt(lambda: os.kill(1, 0)),
    "ptrace": attempt(lambda: libc.ptrace(16, parent, 0, 0)),
    "unshare": attempt(lambda: libc.unshare(0x10000000)),
    "mount": attempt(lambda: libc.mount(b"x", b"/tmp", b"tmpfs", 0, 0)),
    "chroot": attempt(lambda: os.chroot("/")),
    "io_uring": attempt(lambda: libc.syscall(425, 1, ctypes.create_string_buffer(120))),
    "bpf": attempt(lambda: libc.syscall(321 if os.uname().machine == "x86_64" else 280, 0, 0, 0)),
    "keyctl": attempt(lambda: libc.syscall(250 if os.uname().machine == "x86_64" else 219, 0, 0)),
}
if os.uname().machine == "x86_64":
    tried["x32 socket"] = attempt(lambda: libc.syscall(0x40000000 + 41, 2, 1, 0))
protect_output(folder)
tried["output being verified"] = attempt(lambda: write(folder / "output"))
tried["input being verified"] = attempt(lambda: open(folder / "input").read() and None)
print(json.dumps({"layers": layers, "tried": tried}))
"""
ALLOWED = {"own input", "own output", "own work", "input being verified"}


def test_what_a_taken_over_child_can_do(tmp_path: Path) -> None:
    if not landlock.landlock_abi():
        missing("this kernel has no Landlock; the other layers do not stop all of this")
    import json

    folder = tmp_path / "child"
    (folder / "work").mkdir(parents=True)
    (folder / "input").write_text("input")
    (folder / "output").touch()
    (tmp_path / "secret").write_text("secret")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-c", TAKEN_OVER, str(folder), str(port), str(os.getpid())],
            env={"PYTHONPATH": str(SERVER)},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["layers"]["seccomp"] is True
    did = {name for name, outcome in report["tried"].items() if outcome == "did it"}
    assert did == ALLOWED, report["tried"]
    assert (folder / "input").read_text() == "input"


async def test_a_live_child_has_no_network_and_no_environment(tmp_path: Path) -> None:
    async with started(tmp_path / "c") as child:
        process = Path(f"/proc/{child._process.pid}")
        if child.confinement["netns"]:
            assert (process / "ns/net").readlink() != Path("/proc/self/ns/net").readlink()
        status = dict(
            line.split(":\t", 1) for line in (process / "status").read_text().splitlines()
        )
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
        assert int(status["CapEff"], 16) == 0
        assert status["Threads"].strip() == "1"
        environment = (process / "environ").read_bytes().split(b"\0")
        assert {entry.split(b"=")[0] for entry in environment} <= {
            *(b"", b"LC_CTYPE", *map(os.fsencode, ENVIRONMENT))
        }
        descriptors = [str(each.readlink()) for each in (process / "fd").iterdir()]
        assert all(d.startswith("pipe:") or d == os.devnull for d in descriptors), descriptors


# A child that does not keep to the protocol: the parent must not believe it.


def _pending(**changes: object) -> dict[str, object]:
    return {
        "number": 0,
        "path": "a.zip!/0.exe",
        "directive": "authenticode-sign",
        "digest": "00" * 32,
        "hash": "sha256",
        "mechanism": "ecdsa",
        "timestamp": "rfc3161",
        "valueSize": 0,
    } | changes


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "00"},
        {"digest": "zz" * 32},
        {"hash": "md5"},
        {"hash": 3},
        {"mechanism": "none"},
        {"number": -1},
        {"number": "0"},
        {"number": True},
        {"path": None},
        {"path": "x" * 100_000},
        {"timestamp": []},
        {"valueSize": 67},
        {"valueSize": None},
    ],
)
def test_malformed_requests_are_not_believed(change: dict[str, object]) -> None:
    assert len(child_protocol.pending_from_json([_pending()])) == 1
    with pytest.raises(InternalError):
        child_protocol.pending_from_json([_pending(**change)])
    with pytest.raises(InternalError):
        child_protocol.pending_from_json([3])
    with pytest.raises(InternalError):
        child_protocol.pending_from_json({"a": 1})


@pytest.mark.parametrize(
    "listing",
    [
        None, [], {"a": None}, {"a": ["b"]}, {"a": [["b", 1]]}, {"a": [["b", 1, 3]]},
        {"a": [["b", 1, []]]}, {"a": [["b", -1, 0]]}, {"a": [[1, 1, 0]]},
        {"a": [["b" * 70_000, 1, 0]]},
    ],
)  # fmt: skip
def test_malformed_listings_are_not_believed(listing: object) -> None:
    assert child_protocol.listing_from_json({"a": [["b", 1, 0]]}) == {"a": [("b", 1, 0)]}
    with pytest.raises(InternalError):
        child_protocol.listing_from_json(listing)


@pytest.mark.parametrize(
    "members",
    [
        None, [3], [["a", 1, "added"]], [["a", 1, "made", ""]], [["a", -1, "added", ""]],
        [["a\x1b[2J", 1, "added", ""]], [["a", 1, "added", "what\n"]],
        [["a" * 70_000, 1, "added", ""]], [["a", 1, "added", "w" * 101]],
        [["a", 1, "added", ""]] * 101, [[1, 1, "added", ""]],
    ],
)  # fmt: skip
def test_malformed_members_of_signatures_are_not_believed(members: object) -> None:
    fact = SignatureFact("jar", "sha256", b"signer")
    member = SignedMember("META-INF/S.SF", 3, Change.ADDED, "signature file")
    told = Verdict((VerifiedSignature("a", "jar-sign", fact, (member,)),), ())
    message = json.loads(json.dumps(child_protocol.verdict_to_json(told)))
    [found] = child_protocol.verdict_from_json(message).signatures
    assert found.members == (member,)
    message["found"][0]["members"] = members
    with pytest.raises(InternalError):
        child_protocol.verdict_from_json(message)


@pytest.mark.parametrize("kind", [ArtifactError, VerificationError, UnavailableError])
def test_children_tell_of_errors_that_happen_in_them(kind: type[SealwrightError]) -> None:
    told = child_protocol.error_to_json(kind("a\x1b[2Jb", advice="c", where="d\n"))
    error = child_protocol.error_from_json(json.loads(json.dumps(told)))
    assert type(error) is kind
    assert (error.message, error.advice, error.where) == ("a\ufffd[2Jb", "c", "d\ufffd")
    for other in (EndorsementAwaitedError, KeyStoreError, PolicyViolationError, OriginError):
        forged = child_protocol.error_from_json(told | {"code": other.code})
        assert type(forged) is InternalError  # fails the request as a defect, whatever is said


def test_counts_are_no_less_than_nothing() -> None:
    assert child_protocol.count_from_json(7) == 7
    for wrong in (-1, True, None, "7", 7.0, 1 << 63):
        with pytest.raises(InternalError):
            child_protocol.count_from_json(wrong)


def test_contents_are_told_in_one_form_alone() -> None:
    content = FileDigest("0a" * 32, 7)
    reports = (
        StageReport("a", "repack", "Rebuilt: 1 changed", passing=content),
        StageReport("a", "jar-sign", "JAR signature", ("00" * 32,), "sha256"),
    )
    told = json.loads(json.dumps(child_protocol.reports_to_json(reports)))
    assert child_protocol.reports_from_json(told) == reports
    verdict = Verdict((), (VerifiedFile("a!/b", content),))
    judged = json.loads(json.dumps(child_protocol.verdict_to_json(verdict)))
    assert child_protocol.verdict_from_json(judged) == verdict
    for wrong in ("", "0a" * 32, [], ["0a" * 32], ["0A" * 32, 7], ["0a" * 31, 7], [7, 7], {},
                  ["0a" * 32, -1], ["0a" * 32, 7.5], ["0a" * 32, True], ["0a" * 32, 7, 7],
                  ["0a" * 32 + "\n", 7], False):  # fmt: skip
        with pytest.raises(InternalError):
            child_protocol.reports_from_json([told[0] | {"passing": wrong}])
        files = [["a!/b", *wrong] if isinstance(wrong, list) else wrong]
        with pytest.raises(InternalError):
            child_protocol.verdict_from_json(judged | {"files": files})
    with pytest.raises(InternalError):
        child_protocol.verdict_from_json(judged | {"files": [["a!/b", None, None]]})
    for change in ({"path": 1}, {"summary": "x" * 201}, {"summary": "a\x1b[2J"}, {"digests": "0"}):
        with pytest.raises(InternalError):
            child_protocol.reports_from_json([told[1] | change])
    for missing_name in told[1]:
        with pytest.raises(InternalError):
            child_protocol.reports_from_json(
                [{k: told[1][k] for k in told[1] if k != missing_name}]
            )


LIAR = """
import sys, json
sys.path.insert(0, {server!r})
from sealwright.signing.child_protocol import encode
out = sys.stdout.buffer
out.write(encode({{"type": "hello", "confinement": {{}}}})); out.flush()
{then}
out.flush()
sys.stdin.buffer.read()
"""
LIES = {
    "not JSON": 'out.write(b"\\x00\\x00\\x00\\x03abc")',
    "too long": 'out.write(b"\\xff\\xff\\xff\\xff")',
    "empty": "out.write(bytes(4))",
    "a list": 'out.write(b"\\x00\\x00\\x00\\x02[]")',
    "deep": 'b = b"[" * 100000; out.write(len(b).to_bytes(4, "big") + b)',
    "wrong type": 'out.write(encode({"type": "signed", "reports": []}))',
    "no plan": 'out.write(encode({"type": "plan", "plan": "{}"}))',
}


@pytest.mark.parametrize("then", LIES.values(), ids=LIES.keys())
async def test_a_lying_child(then: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    liar = tmp_path / "liar"
    liar.write_text(f"#!{sys.executable}\n" + LIAR.format(server=str(SERVER), then=then))
    liar.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(liar))
    folder = tmp_path / "c"
    folder.mkdir()
    child = await FormatChild.start(folder, SandboxSettings(wall_seconds=20))
    with pytest.raises(InternalError):
        await planned(child)
    assert child._process.returncode is not None


async def test_unplanned_signatures_are_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with started(tmp_path / "real") as child:
        plan = await planned(child)
    for number, change in enumerate(({"path": "a.zip!/other"}, {"directive": "nuget-sign"})):
        liar = tmp_path / f"liar{number}"
        requests = {"type": "requests", "done": 0, "pending": [_pending(**change)]}
        then = f"out.write(encode({requests!r}))"
        liar.write_text(f"#!{sys.executable}\n" + LIAR.format(server=str(SERVER), then=then))
        liar.chmod(0o755)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", str(liar))
            folder = tmp_path / f"c{number}"
            folder.mkdir()
            false_child = await FormatChild.start(folder)
        asked: list[PendingSignature] = []

        async def note(
            batch: Sequence[PendingSignature], asked: list[PendingSignature] = asked
        ) -> list[SignatureResult]:
            asked += batch
            return await answer(batch)

        with pytest.raises(InternalError, match="not planned"):
            await false_child.deep_sign(plan, keys.pki().identity(), note)
        assert asked == []


async def test_an_output_that_is_not_a_file(tmp_path: Path) -> None:
    async with started(tmp_path / "c") as child:
        child.output.unlink()
        child.output.symlink_to("/etc/passwd")
        with pytest.raises(OSError, match="symbolic"):
            child.open_output()
        child.output.unlink()
        os.mkfifo(child.output)
        with pytest.raises(InternalError):
            child.open_output()
        child.output.unlink()
        shutil.copy(child.input, child.folder / "x")
        os.link(child.folder / "x", child.output)
        with pytest.raises(InternalError):
            child.open_output()
