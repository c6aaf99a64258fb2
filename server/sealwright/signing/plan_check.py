"""Compares a plan with the configuration that it was made by, in a process that did not make it.

Each planned container is opened for the names in it, and each planned file must be what it is told
to be, and what its element asks for. Files that are not planned are not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import BinaryIO

from sealwright.signing.artifact import Container, Entry
from sealwright.signing.authenticode_trust import Judge
from sealwright.signing.budget import Budget
from sealwright.signing.configuration import Configuration, Element, Include
from sealwright.signing.elements import Language
from sealwright.signing.file_result import FileDigest
from sealwright.signing.matching import Claim, claims_on, for_file
from sealwright.signing.plan import INSIDE, Plan, PlanNode, at, require
from sealwright.signing.spool import Spool
from sealwright.signing.terms import check_terms
from sealwright.signing.wheel_record import record_among

_OTHERWISE = "The artifact was planned otherwise than its configuration says."


class PlanCheck:
    """Checks the nodes of one plan. What is not as it must be is a `VerificationError`.

    Args:
        budget: for files in which nothing is signed.
        spool: for those.
        judge: of signatures that ``authenticode-verify`` asks for.
    """

    def __init__(
        self, budget: Budget, spool: Spool, language: Language, judge: Judge | None
    ) -> None:
        self._budget = budget
        self._judge = judge
        self._spool = spool
        self._language = language

    def root(self, plan: Plan, configuration: Configuration) -> None:
        """The artifact itself, and what all of the plan was made by."""
        node, include = plan.root, configuration.root.includes[0]
        asked = (configuration.sha256, configuration.values)
        require((plan.configuration_sha256, plan.parameters) == asked, _OTHERWISE)
        place = (plan.artifact_name, "", 0)
        require((node.path, node.member, node.order) == place, _OTHERWISE)
        require(include.pattern is None or include.pattern.matches(node.path), _OTHERWISE)
        self.directives(node, configuration.root, include)

    def directives(self, node: PlanNode, element: Element, include: Include) -> None:
        """Done to a file must be what the element says that means it."""
        directives = tuple(for_file(each, node.file_name) for each in element.directives)
        planned = (node.element, node.where, node.directives)
        require(planned == (element.name, include.where, directives), _OTHERWISE)

    def content(self, node: PlanNode, element: Element, include: Include, file: BinaryIO) -> None:
        """A file must hold what is told of it, and be what its element asks for."""
        require(FileDigest.of(file) == node.content, "The file is not the planned one.")
        kind = self._language.types[node.element]
        check_terms(file, node.file_name, kind, element, include, self._judge)

    def claims(
        self, node: PlanNode, element: Element, entries: Sequence[Entry]
    ) -> Mapping[int, Claim]:
        """What the configuration means in a container, by its order; exactly that must be planned.

        Args:
            entries: all of the container's.
        """
        claims = {claim.entry.order: claim for claim in claims_on(entries, element.children)}
        meant = [(order, claim.entry.path) for order, claim in claims.items()]
        require([(child.order, child.member) for child in node.children] == meant, _OTHERWISE)
        named = all(child.path == f"{node.path}{INSIDE}{child.member}" for child in node.children)
        counted = (node.members, node.record) == (
            len(entries),
            record_among(entry.path for entry in entries),
        )
        require(named and counted, _OTHERWISE)
        return claims

    def inside(self, node: PlanNode, element: Element, file: BinaryIO) -> None:
        """Nothing is signed in the file: nothing in it may be meant to be."""
        if not element.children:
            return
        opener = self._language.types[node.element].opener
        container, entries = self._budget.open_to_read(opener, file, node.depth)
        claims = self.claims(node, element, entries)
        for child in node.children:
            with at(child.path):
                self.member(child, claims[child.order], container)

    def member(self, node: PlanNode, claim: Claim, container: Container) -> None:
        """A member in which nothing is signed."""
        self.directives(node, claim.element, claim.include)
        extracted = self._budget.extract(container, claim.entry, self._spool)
        try:
            with extracted.open() as file:
                self.content(node, claim.element, claim.include, file)
                self.inside(node, claim.element, file)
        finally:
            self._spool.release(extracted)
