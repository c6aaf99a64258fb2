"""The format child: the process that opens what users have submitted.

Started by `child_process` as ``python -m sealwright.signing.child FOLDER SETTINGS``. It confines
itself, says hello, and then serves one request at a time from its parent: ``analyze``, ``plan``,
``sign``, ``assemble``, ``verify``. Everything it needs has been imported before, so that a child
that waits is warm.
"""

from __future__ import annotations

import errno
import json
import os
import select
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import lxml.etree  # noqa: F401 - otherwise loaded with the first XML document

from sealwright.errors import (
    ArtifactError,
    InternalError,
    SealwrightError,
    UnavailableError,
)
from sealwright.signing import child_protocol as protocol
from sealwright.signing.analyze import analyze
from sealwright.signing.artifact import TimestampForm
from sealwright.signing.budget import Limits, Pace
from sealwright.signing.configuration import parse_configuration
from sealwright.signing.confinement import (
    INPUT,
    OUTPUT,
    PART,
    WORK,
    ChildLimits,
    confine,
    die_with_parent,
    part_of,
    protect_output,
)
from sealwright.signing.deep_sign import DeepSign
from sealwright.signing.parts import Part
from sealwright.signing.pending_signatures import PendingSignature
from sealwright.signing.plan import Plan
from sealwright.signing.planner import Share, build_plan
from sealwright.signing.spool import KEPT, KeptFiles, Spool
from sealwright.signing.verify_result import verify_result

_TELL_SECONDS = 0.5  # between two messages about progress
_BATCH = 32  # requests that are passed on while more are to come


class Parent:
    """Frames over two descriptors."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading = reading
        self._writing = writing

    def send(self, message: protocol.Message) -> None:
        """Write one frame, waiting as long as it takes."""
        self.send_frame(protocol.encode(message))

    def send_frame(self, frame: bytes) -> None:
        """Write an encoded frame."""
        data = memoryview(frame)
        while data:
            data = data[os.write(self._writing, data) :]

    def receive(self) -> protocol.Message | None:
        """Read one frame; None when the parent has closed the stream."""
        header = self._read(protocol.HEADER)
        if len(header) < protocol.HEADER:
            return None
        return protocol.decode(self._read(protocol.body_length(header)))

    def has_message(self) -> bool:
        """Whether `receive` would not have to wait for a frame to begin."""
        return bool(select.select([self._reading], [], [], 0)[0])

    def _read(self, length: int) -> bytes:
        parts = []
        while length:
            part = os.read(self._reading, min(length, 1 << 20))
            if not part:
                break
            parts.append(part)
            length -= len(part)
        return b"".join(parts)


class Server:
    """Serves the parent's requests on the files of one folder."""

    def __init__(self, parent: Parent, folder: Path) -> None:
        self.parent = parent
        self.folder = folder
        self.spooled: Spool | None = None
        self.kept: KeptFiles | None = None
        self.input: BinaryIO | None = None  # stays open: what is kept may read it
        self.source_sha256 = ""  # of the input, once it was computed here

    def serve(self) -> None:
        """Answer requests until the parent closes its stream."""
        while (message := self.parent.receive()) is not None:
            try:
                frame = protocol.encode(self.answer(message))
            except SealwrightError as error:
                frame = protocol.encode(protocol.error_to_json(error))
            except MemoryError:
                frame = protocol.encode(protocol.error_to_json(_out_of_memory()))
            except Exception as error:  # noqa: BLE001 - whatever hostile input may provoke
                traceback.print_exc()
                frame = protocol.encode(protocol.error_to_json(_unexpected(error)))
            self.parent.send_frame(frame)

    def answer(self, message: protocol.Message) -> protocol.Message:
        """Do what one request asks for."""
        operation = {
            "analyze": self.analyze,
            "plan": self.plan,
            "sign": self.sign,
            "assemble": self.assemble,
            "verify": self.verify,
        }
        return operation[message["op"]](message)

    def spool(self, limits: Limits) -> Spool:
        self.spooled = self.spooled or Spool(self.folder / WORK, limits.spool)
        return self.spooled

    def source(self) -> BinaryIO:
        self.input = self.input or (self.folder / INPUT).open("rb")
        return self.input

    def plan(self, message: protocol.Message) -> protocol.Message:
        limits = Limits(**message["limits"])
        document = protocol.blob_from_json(message["configuration"])
        configuration = parse_configuration(document).resolve(message["parameters"])
        share = Share(protocol.shard_from_json(message["shard"]))
        self.kept = KeptFiles(self.spool(limits), KEPT)
        plan = build_plan(
            self.source(),
            message["artifactName"],
            configuration,
            signing_time=message["signingTime"],
            timestamp=TimestampForm(message["timestamp"]),
            spool=self.spool(limits),
            limits=limits,
            trust=protocol.trust_from_json(message["trust"]),
            identity=protocol.identity_from_json(message["identity"]),
            kept=self.kept,
            share=share,
            source_sha256=message["sourceSha256"],
        )
        self.source_sha256 = plan.root.sha256
        return {
            "type": "plan",
            "plan": plan.to_json(),
            "extracted": share.extracted,
            "members": share.members,
            "listing": share.listing,
        }

    def analyze(self, message: protocol.Message) -> protocol.Message:
        limits = Limits(**message["limits"])
        trust = protocol.trust_from_json(message["trust"])
        assert trust is not None  # noqa: S101 - the parent always sends it
        with (self.folder / INPUT).open("rb") as source:
            proposed = analyze(
                source,
                message["artifactName"],
                self.spool(limits),
                trust=trust,
                limits=limits,
            )
        return {"type": "analysis", "configuration": protocol.blob_to_json(proposed.encode())}

    def sign(self, message: protocol.Message) -> protocol.Message:
        """Sign everything into the output; or a shard's members, packed one behind another."""
        shard = protocol.shard_from_json(message["shard"])
        is_part = shard.count > 1
        path = self.folder / OUTPUT
        if is_part and shard.number == 0:  # it puts the parts together later, into the output
            path = self.folder / WORK / PART
            path.touch(exist_ok=False)
        with path.open("r+b") as out:
            signing = self.run(message, out, is_part=is_part)
        return {
            "type": "signed",
            "reports": protocol.reports_to_json(signing.reports),
            "part": protocol.part_to_json(signing.part),
        }

    def assemble(self, message: protocol.Message) -> protocol.Message:
        """Put the parts of all shards together; this child's own is the first."""
        parts = [protocol.part_from_json(each) for each in message["parts"]]
        paths = [self.folder / WORK / PART]
        paths += [part_of(self.folder, number) for number in range(1, len(parts))]
        with (self.folder / OUTPUT).open("r+b") as out:
            signing = self.run(message, out, parts=list(zip(paths, parts, strict=True)))
        return {"type": "signed", "reports": protocol.reports_to_json(signing.reports)}

    def run(
        self,
        message: protocol.Message,
        out: BinaryIO,
        *,
        is_part: bool = False,
        parts: Sequence[tuple[Path, Part]] | None = None,
    ) -> DeepSign:
        """Sign as the message says, into an empty file."""
        limits = Limits(**message["limits"])
        identity = protocol.identity_from_json(message["identity"])
        assert identity is not None  # noqa: S101 - the parent always sends it
        signing = DeepSign(
            Plan.from_json(message["plan"]),
            self.source(),
            out,
            identity,
            self.spool(limits),
            limits=limits,
            pace=Pace(**message["pace"]),
            kept=self.kept,
            source_sha256=self.source_sha256,
            is_part=is_part,
            parts=parts,
        )
        try:
            self.drive(signing)
        finally:
            signing.close()
        return signing

    def drive(self, signing: DeepSign) -> None:
        """Work while there is work, and pass requests and answers on in between."""
        untold: list[PendingSignature] = []
        told = time.monotonic()
        starting = True
        while not signing.done:
            if time.monotonic() - told > _TELL_SECONDS:
                told = time.monotonic()
                self.parent.send({"type": "progress", "done": signing.finished_files})
            works = signing.step()
            untold += signing.take()
            last_was_started = starting and signing.all_started
            starting = not signing.all_started
            if untold and (not works or last_was_started or len(untold) >= _BATCH):
                pending = protocol.pending_to_json(untold)
                self.parent.send(
                    {"type": "requests", "pending": pending, "done": signing.finished_files}
                )
                untold = []
            if not works and not signing.unanswered and not signing.done:
                message = "Signing came to a halt."
                raise InternalError(message)
            while signing.unanswered and (not works or self.parent.has_message()):
                self.take_answers(signing)
                works = True

    def take_answers(self, signing: DeepSign) -> None:
        message = self.parent.receive()
        if message is None or message.get("op") != "answers":
            sys.exit(1)  # the parent is gone, or gave up
        for number, result in protocol.answers_from_json(message["results"]):
            signing.supply(number, result)

    def verify(self, message: protocol.Message) -> protocol.Message:
        protect_output(self.folder)
        limits = Limits(**message["limits"])
        document = protocol.blob_from_json(message["configuration"])
        configuration = parse_configuration(document).resolve(message["parameters"])
        with (self.folder / INPUT).open("rb") as source, (self.folder / OUTPUT).open("rb") as out:
            verdict = verify_result(
                Plan.from_json(message["plan"]),
                configuration,
                source,
                out,
                protocol.blob_from_json(message["certificate"]),
                self.spool(limits),
                limits=limits,
                trust=protocol.trust_from_json(message["trust"]),
                shard=protocol.shard_from_json(message["shard"]),
            )
        return {"type": "verified", **protocol.verdict_to_json(verdict)}


def main(arguments: list[str]) -> None:
    """Entry point of the process.

    Args:
        arguments: the folder, and JSON with ``parent`` (process id) and ``limits``.
    """
    folder = Path(arguments[0])
    settings: dict[str, Any] = json.loads(arguments[1])
    die_with_parent(settings["parent"])
    parent = Parent(os.dup(0), os.dup(1))
    # What a library may print must not get between the frames.
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(folder / WORK)
    confinement = confine(folder, ChildLimits(**settings["limits"]))
    parent.send({"type": "hello", "confinement": dict(confinement)})
    Server(parent, folder).serve()


def _out_of_memory() -> ArtifactError:
    message = "Processing the artifact needs more memory than is allowed."
    return ArtifactError(message, advice="Submit a smaller artifact.")


def _unexpected(error: Exception) -> SealwrightError:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = "There is no space left for temporary files."
        return UnavailableError(message, advice="Make room for the worker's scratch folder.")
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        message = "Processing the artifact needs a larger temporary file than is allowed."
        return ArtifactError(message, advice="Submit a smaller artifact, or raise the limit.")
    message = f"The artifact could not be processed: {type(error).__name__}."
    advice = "It is probably malformed. If other tools accept it, report this as a defect."
    return ArtifactError(message, advice=advice)


if __name__ == "__main__":
    main(sys.argv[1:])
