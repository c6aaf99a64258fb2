"""Executes a plan: signs the leaves, rebuilds the containers around them, signs those.

`DeepSign` touches no token, network or process. It works in steps, hands out signature requests as
they arise and is given results in any order, so that thousands of files can wait at once while the
work on others goes on. Files are taken depth first and containers finished as soon as their last
member is, which keeps the spool small.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from sealwright.errors import InternalError
from sealwright.signing.artifact import (
    Directive,
    Identity,
    Outcome,
    SignatureResult,
)
from sealwright.signing.budget import Budget, Limits, Pace
from sealwright.signing.contents import Contents
from sealwright.signing.elements import (
    LANGUAGE,
    Language,
    is_embedded,
    is_verification,
)
from sealwright.signing.file_result import REPACK, FileDigest, StageReport
from sealwright.signing.parameters import FILE_NAME
from sealwright.signing.parts import Part, PartWriter
from sealwright.signing.pending_signatures import PendingSignature, PendingSignatures
from sealwright.signing.plan import Plan, at
from sealwright.signing.signing_task import (
    Opened,
    Packed,
    Signing,
    Task,
    find_equals,
    key_of,
    made_by,
)
from sealwright.signing.spool import KeptFiles, OneAtATime, Spool, SpoolFile
from sealwright.signing.streams import copy_range

_SIGNATURE_ROOM = 64 << 10  # bytes that a signature may add, for the spool's account


class DeepSign:
    """Signs one artifact.

    Args:
        plan: what to do. The artifact must be the planned one; its members' digests are checked.
        source: the artifact, seekable; stays open and unchanged until the end.
        output: empty, seekable; receives the signed artifact.
        identity: whose signatures; its signing time is taken from the plan.
        spool: for temporary files; empty again at the end.
        kept: files that planning has extracted.
        source_sha256: of the artifact where the caller has computed it; empty: it is computed.
        is_part: `plan` is one shard's. Its members are signed and packed into `output`, one behind
            another, and `part` tells where they are.
        parts: what all shards have made, with the files that hold it. They are put together and
            the outermost container is signed; nothing else is done.

    Attributes:
        done: the artifact is signed.
        all_started: all files without members have been, so that further requests arise only from
            answers.

    Use: while not `done`, call `step` until it returns False, pass on what `take` returns and give
    the answers to `supply`; or let `batches` do that.
    """

    def __init__(
        self,
        plan: Plan,
        source: BinaryIO,
        output: BinaryIO,
        identity: Identity,
        spool: Spool,
        *,
        limits: Limits | None = None,
        pace: Pace | None = None,
        language: Language = LANGUAGE,
        kept: KeptFiles | None = None,
        source_sha256: str = "",
        is_part: bool = False,
        parts: Sequence[tuple[Path, Part]] | None = None,
    ) -> None:
        self.plan = plan
        self.done = False
        self.all_started = False
        self._parts = parts
        self._part = PartWriter(output) if is_part else None
        self._unpacked: deque[Task] = deque()
        self._output = output
        self._identity = replace(identity, signing_time=plan.signing_time)
        self._spool = spool
        self._pace = pace or Pace()
        self._language = language
        # changed files are extracted first; others in their folder are read when it is rebuilt
        budget = Budget(limits or Limits(), plan.root.size, passes=2)
        self._contents = Contents(source, source_sha256, spool, budget, language, kept)
        self._pending = PendingSignatures()
        self._answered: list[Task] = []
        self._ready: list[Task] = []
        self._reports: list[tuple[int, list[StageReport]]] = []
        self._equals = find_equals(plan.root)
        self._delivered = False
        self._positions = {id(node): index for index, node in enumerate(plan.root.walk())}
        self._walk = self._start()

    @property
    def reports(self) -> tuple[StageReport, ...]:
        """What was done, in the plan's order."""
        ordered = sorted(self._reports, key=lambda item: item[0])
        return tuple(report for _, reports in ordered for report in reports)

    @property
    def unanswered(self) -> int:
        """Requests that wait for an answer, taken or not."""
        return len(self._pending)

    @property
    def finished_files(self) -> int:
        """Files to sign that are done."""
        return sum(1 for _, reports in self._reports if reports)

    @property
    def part(self) -> Part:
        """Where in `output` a shard's members are."""
        return self._part.part if self._part else Part()

    def step(self) -> bool:
        """Do one piece of work: start, continue or finish one file.

        Returns:
            False if nothing can be done before further answers, or at all.

        Raises:
            ArtifactError, VerificationError: about a member, see `where`.
        """
        # Files are started first: the token and the authority work while others are written.
        if self._ready:
            self._finish_container(self._ready.pop())
        elif (task := self._next_to_start()) is not None:
            self._begin(task)
        elif self._answered:
            self._resume(self._answered.pop())
        elif self._unpacked:
            self._pack(self._unpacked.popleft())
        else:
            return bool(self._ready)
        return True

    def take(self) -> list[PendingSignature]:
        """The requests that have arisen since the last call."""
        return self._pending.take()

    def supply(self, number: int, result: SignatureResult) -> None:
        """Give the answer to the request with this number."""
        answered = self._pending.supply(number, result)
        if answered is not None:
            self._answered.append(answered)

    def batches(
        self,
    ) -> Generator[list[PendingSignature], list[SignatureResult], tuple[StageReport, ...]]:
        """Drive everything: yields batches of requests, is sent the results in the same order."""
        while not self.done:
            while self.step():
                pass
            pending = self.take()
            if not pending and not self.done:
                message = "Signing came to a halt."
                raise InternalError(message)
            if pending:
                results = yield pending
                for each, result in zip(pending, results, strict=True):
                    self.supply(each.number, result)
        return self.reports

    def close(self) -> None:
        """Close every file; for after an error. The spool's folder is the caller's to delete."""
        self._contents.close()

    # Walking

    def _next_to_start(self) -> Task | None:
        if self.all_started or not self._may_start():
            return None
        task = next(self._walk, None)
        self.all_started = task is None
        return task

    def _may_start(self) -> bool:
        if not self._pending and not self._unpacked:
            return True
        # packing can wait as long as the answers of others would be waited for
        enough = self._pace.requests // (4 if self._unpacked else 1)
        return len(self._pending) < enough and self._spool.used < self._pace.spool

    def _start(self) -> Iterator[Task]:
        root = Task(self.plan.root, None, 0)
        with at(root.node.path):
            self._contents.check_artifact(root)
        if self._parts is not None:
            self._assemble(root, self._parts)
            return
        if self._part and not any(child.has_work for child in root.node.children):
            self.done = True
            return
        if not root.node.has_work:
            self._complete(root)
            return
        yield from self._descend(root)

    def _descend(self, task: Task) -> Iterator[Task]:
        """Yield the files to sign below `task`, opening containers on the way."""
        children = [child for child in task.node.children if child.has_work]
        if not children:
            yield task
            return
        task.unfinished = len(children)
        with at(task.node.path):
            self._contents.open_container(task)
        for child in children:
            yield from self._descend(Task(child, task, self._positions[id(child)]))

    def _assemble(self, root: Task, parts: Sequence[tuple[Path, Part]]) -> None:
        """Take over what shards have made, as if it had been made here."""
        with at(root.node.path):
            self._contents.open_container(root)
            for path, part in parts:
                file = SpoolFile(path, path.stat().st_size)
                for member in part.members:
                    root.packed[member.order] = Packed(member.packed, file, member.offset)
                for output in part.outputs:
                    with path.open("rb") as content:
                        copy = partial(copy_range, content, output.offset, output.size)
                        root.added[output.path] = self._spool.create(copy, output.size)
        self._ready.append(root)

    # Signing

    def _begin(self, task: Task) -> None:
        """Start a file without members to sign, or join the equal one that was started before."""
        equals = self._equals.get(key_of(task.node))
        if equals is None:
            self._advance_stages(task)
        elif equals.leader is None:
            equals.leader, task.leads = task, equals
            self._advance_stages(task)
        elif equals.finished:
            self._follow(equals.leader, task)
        else:
            equals.waiting.append(task)

    def _advance_stages(self, task: Task) -> None:
        """Work through the directives until one waits for answers or all are done."""
        with at(task.node.path):
            while task.stage < len(task.node.directives):
                directive = task.node.directives[task.stage]
                if is_verification(directive.name):
                    # the planner has verified this very content
                    summary = "existing signatures verified"
                    task.reports.append(StageReport(task.node.path, directive.name, summary))
                    task.stage += 1
                    continue
                task.signing = self._prepare(task, directive)
                if not self._run(task, None):
                    return
        self._complete(task)

    def _resume(self, task: Task) -> None:
        signing = task.signing
        assert signing is not None  # noqa: S101 - only signing tasks wait for answers
        results = [signing.answers[position] for position in range(len(signing.answers))]
        with at(task.node.path):
            waits = not self._run(task, results)
        if not waits:
            self._advance_stages(task)

    def _prepare(self, task: Task, directive: Directive) -> Signing:
        kind = self._language.types[task.node.element]
        if kind.format is None:
            message = f"<{kind.name}> cannot be signed."
            raise InternalError(message)
        source = self._contents.open(task)
        size = source.seek(0, 2)
        target = self._output
        if not _is_last(task):
            target = self._contents.hold(self._spool.start(size + _SIGNATURE_ROOM))
        source.seek(0)
        engine_options = {"timestamp": self.plan.timestamp, FILE_NAME: task.node.file_name}
        options = {**directive.options, **engine_options}
        timed = replace(directive, options=options)
        generator = kind.format.sign(source, timed, self._identity, target)
        return Signing(generator, source, target)

    def _run(self, task: Task, results: list[SignatureResult] | None) -> bool:
        """Run the generator to its next batch (False) or its end (True)."""
        signing = task.signing
        assert signing is not None  # noqa: S101 - set by the caller
        try:
            requests = (
                next(signing.generator) if results is None else signing.generator.send(results)
            )
            while not requests:
                requests = signing.generator.send([])
        except StopIteration as stop:
            self._finish_stage(task, stop.value)
            return True
        self._pending.ask(task, requests)
        return False

    def _finish_stage(self, task: Task, outcome: Outcome) -> None:
        signing, task.signing = task.signing, None
        assert signing is not None  # noqa: S101 - called while signing
        directive, *later = task.node.directives[task.stage :]
        passing = None
        self._contents.drop(signing.source)
        self._contents.let_go(signing.target)
        if outcome.replaced:
            if task.content is not None:
                self._spool.release(task.content)
            if any(map(is_embedded, later)):
                passing = FileDigest.of(signing.target)
            task.replaced = True
            task.content = self._keep(signing.target)
        elif signing.target is not self._output:
            self._spool.abandon(signing.target)
        self._keep_outputs(task, outcome)
        task.reports.append(
            StageReport(
                path=task.node.path,
                directive=directive.name,
                summary=outcome.summary,
                digests=tuple(request.digest.hex() for request in signing.requests),
                hash_algorithm=signing.requests[0].hash_algorithm if signing.requests else "",
                passing=passing,
            )
        )
        task.stage += 1

    def _keep(self, made: BinaryIO) -> SpoolFile | None:
        """Take over what a directive has made; None if that is what is delivered."""
        if made is not self._output:
            return self._spool.adopt(made)
        made.flush()
        self._delivered = True
        return None

    def _keep_outputs(self, task: Task, outcome: Outcome) -> None:
        for name, content in sorted(outcome.side_files.items()):
            path = task.node.beside(name)
            if task.parent is None or path not in task.node.outputs or path in task.outputs:
                message = f'The format made a file "{name}" that was not planned.'
                raise InternalError(message)
            task.outputs[path] = self._spool.create(partial(_write, content), len(content))

    # Completing

    def _complete(self, task: Task) -> None:
        """Everything about this file is done: hand it to its container, or to the caller."""
        equals = task.leads
        if equals is None:
            self._hand_over(task)
            return
        equals.finished = True
        for file in made_by(task):
            file.users += equals.followers
        self._hand_over(task)
        for follower in equals.waiting:
            self._follow(task, follower)

    def _follow(self, leader: Task, task: Task) -> None:
        """Give an equal file what the leader got; the leader has reserved a use of it."""
        assert task.parent is not None  # noqa: S101 - the artifact itself equals no other file
        self._contents.release_kept(task)
        task.replaced = leader.replaced
        task.content = leader.content if leader.replaced else None
        for path, file in leader.outputs.items():
            task.outputs[task.node.beside(path.rpartition("/")[2])] = file
        task.reports = [replace(report, path=task.node.path) for report in leader.reports]
        self._hand_over(task)

    def _hand_over(self, task: Task) -> None:
        self._reports.append((task.position, task.reports))
        parent = task.parent
        if parent is None:
            self._deliver(task)
            return
        if self._part and parent.parent is None:
            for path, file in task.outputs.items():
                self._part.add(path, file)
                self._spool.release(file)
        else:
            parent.added.update(task.outputs)
        if task.content is not None:
            if task.replaced:
                self._unpacked.append(task)
                return
            self._spool.release(task.content)
        self._leave(parent)

    def _leave(self, parent: Task) -> None:
        """One child less to wait for."""
        parent.unfinished -= 1
        if not parent.unfinished:
            self._ready.append(parent)

    def _pack(self, task: Task) -> None:
        """Compress a changed member while signatures of others are waited for."""
        parent, signed = task.parent, task.content
        assert parent is not None  # noqa: S101 - only members are packed
        assert signed is not None  # noqa: S101 - and only changed ones
        opened, order = parent.opened, task.node.order
        assert opened is not None  # noqa: S101 - containers are closed after their last member
        with at(parent.node.path), signed.open() as content:
            if self._part and parent.parent is None:
                self._part.pack(opened.container, order, content)
            else:
                target = self._spool.start(signed.size)
                try:
                    member = opened.container.pack(order, content, target)
                except BaseException:
                    self._spool.abandon(target)
                    raise
                parent.packed[order] = Packed(member, self._spool.adopt(target))
        self._spool.release(signed)
        self._leave(parent)

    def _finish_container(self, task: Task) -> None:
        """All members are done: rebuild around the changed ones, then sign the container itself."""
        opened = task.opened
        assert opened is not None  # noqa: S101 - it had members
        if self._part and task.parent is None:
            self._output.flush()
            self._contents.drop(opened.file)
            self.done = True
            return
        task.opened = None
        with at(task.node.path):
            if task.packed or task.added:
                self._rebuild(task, opened)
        self._contents.drop(opened.file)
        self._advance_stages(task)

    def _rebuild(self, task: Task, opened: Opened) -> None:
        # what shards have packed lies in their files, which are not the spool's
        made = {} if self._parts is not None else task.packed
        files = [*task.added.values(), *(one.file for one in made.values())]
        stored = sum(one.member.stored for one in task.packed.values())
        added = OneAtATime(task.added)
        packed = OneAtATime({order: one.file for order, one in task.packed.items()})
        members = {order: one.member for order, one in task.packed.items()}

        def read(order: int) -> tuple[BinaryIO, int]:
            return packed[order], task.packed[order].offset

        def fill(target: BinaryIO) -> None:
            opened.container.rebuild(target, members, read, added)

        rebuilt, passing = None, None
        if task.parent is None and not task.node.directives:
            fill(self._output)  # nothing follows: it is what is delivered
            self._output.flush()
            self._delivered = True
        else:
            expected = task.node.size + stored + sum(file.size for file in files)
            rebuilt = self._spool.create(fill, expected)
            if any(map(is_embedded, task.node.directives)):
                with rebuilt.open() as content:
                    passing = FileDigest.of(content)
        for open_files in (added, packed):
            open_files.close()
        for file in files:
            self._spool.release(file)
        if task.content is not None:
            self._spool.release(task.content)
        task.content, task.replaced = rebuilt, True
        changes = f"{len(task.packed)} changed" + (f", {len(task.added)} added" * bool(task.added))
        task.reports.append(
            StageReport(task.node.path, REPACK, f"Rebuilt: {changes}", passing=passing)
        )

    def _deliver(self, task: Task) -> None:
        self.done = True
        if self._delivered:
            return
        content = self._contents.artifact if task.content is None else task.content.open()
        copy_range(content, 0, content.seek(0, 2), self._output)
        self._output.flush()
        if task.content is not None:
            content.close()
            self._spool.release(task.content)


def _is_last(task: Task) -> bool:
    """Whether what the directive under way makes is what is delivered: the artifact itself."""
    directive, *later = task.node.directives[task.stage :]
    last = is_embedded(directive) and all(is_verification(each.name) for each in later)
    return last and task.parent is None


def _write(content: bytes, target: BinaryIO) -> None:
    target.write(content)
