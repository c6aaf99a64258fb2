"""The artifact configuration: XML in, frozen description of what is to be signed out.

Reading has two steps over one tree of XML elements: `parse_configuration` checks everything that
does not depend on parameters, `Configuration.resolve` substitutes their values and checks the rest.
Both run the same reader, so that they cannot disagree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sealwright.errors import ArtifactConfigurationError
from sealwright.signing.artifact import Directive
from sealwright.signing.elements import (
    DIRECTIVES,
    DIRECTORY,
    FILE_ELEMENTS,
    LANGUAGE,
    NAMESPACE,
    OUTPUT_FILE_NAME,
    DirectiveOptions,
    ElementType,
    Language,
    is_verification,
)
from sealwright.signing.parameters import (
    FILE_NAME,
    Parameter,
    did_you_mean,
    has_unclosed_reference,
    is_parameter_name,
    parameter_values,
    references,
    substitute,
)
from sealwright.signing.positioned_xml import XmlElement, read_xml
from sealwright.signing.wildcard import Pattern, PatternError, compile_pattern, escape

ROOT = "artifact-configuration"
MULTIPLE_UPLOAD = "ui-multifile-upload"
UNBOUNDED = "unbounded"
_MATCHES = ("min-matches", "max-matches")
_SET = "-set"


@dataclass(frozen=True)
class Include:
    """Which members an element means.

    Attributes:
        path: the pattern as written, after substitution; empty for a root without ``path``.
        pattern: the compiled pattern, or None where everything matches (root without ``path``,
            ``directory path="."``).
        min_matches: fewest members that must match.
        max_matches: most members that may match, None if unbounded.
        restrictions: metadata attribute -> required value, may hold ``${file.name}``.
        where: line and column in the configuration.
    """

    path: str
    pattern: Pattern | None
    min_matches: int
    max_matches: int | None
    restrictions: Mapping[str, str]
    where: str


@dataclass(frozen=True)
class Element:
    """A file or directory element; a set is an element with several includes.

    Attributes:
        name: ``pe-file``, ``zip-file``, ``directory``, ...
        includes: at least one.
        children: elements of its members, in their order.
        directives: what to do with each matched file, in their order. Options are complete and
            checked; they may hold ``${file.name}``.
        where: line and column in the configuration.
    """

    name: str
    includes: tuple[Include, ...]
    children: tuple[Element, ...]
    directives: tuple[Directive, ...]
    where: str


@dataclass(frozen=True)
class Configuration:
    """A checked artifact configuration.

    Attributes:
        root: the one file element. Before `resolve`, attributes still hold their references and
            counts that refer to parameters are 1.
        parameters: declared parameters in their order.
        values: parameter values, None before `resolve`.
        multiple_upload: whether the web page packs several chosen files into one ZIP archive.
        sha256: of the XML, hexadecimal.
    """

    root: Element
    parameters: tuple[Parameter, ...]
    values: Mapping[str, str] | None
    multiple_upload: bool
    sha256: str
    _tree: XmlElement = field(repr=False, compare=False)
    _language: Language = field(repr=False, compare=False)

    def resolve(self, given: Mapping[str, str]) -> Configuration:
        """Substitute parameters.

        Args:
            given: submitted values by parameter name.

        Raises:
            InvalidInputError: unknown, missing or malformed values.
            ArtifactConfigurationError: an attribute is invalid after substitution.
        """
        values = parameter_values(self.parameters, given)
        return _Reader(self._language, values).configuration(self._tree, self.sha256)


def parse_configuration(document: bytes, language: Language = LANGUAGE) -> Configuration:
    """Parse and check an artifact configuration.

    Args:
        document: XML of at most 1 MiB.
        language: the elements that are available.

    Raises:
        ArtifactConfigurationError: names line, column, element and attribute, and what is right.
    """
    tree = read_xml(document, NAMESPACE)
    return _Reader(language, None).configuration(tree, hashlib.sha256(document).hexdigest())


class _Reader:
    """Turns the XML tree into dataclasses, with or without parameter values."""

    def __init__(self, language: Language, values: Mapping[str, str] | None) -> None:
        self.language = language
        self.values = values
        self.parameters: tuple[Parameter, ...] = ()

    def configuration(self, tree: XmlElement, sha256: str) -> Configuration:
        if tree.name != ROOT:
            raise _fail(tree, f"The root element is <{tree.name}>.", f"It must be <{ROOT}>.")
        self.check_attributes(tree, ())
        elements = list(tree.children)
        if elements and elements[0].name == "parameters":
            self.parameters = self.read_parameters(elements.pop(0))
        if len(elements) != 1:
            advice = "Put exactly one file element there; use <zip-file> to sign several files."
            at = elements[1] if elements else tree
            raise _fail(at, f"<{ROOT}> holds {len(elements)} file elements.", advice)
        return Configuration(
            root=self.root(elements[0]),
            parameters=self.parameters,
            values=self.values,
            multiple_upload=elements[0].attributes.get(MULTIPLE_UPLOAD) == "on",
            sha256=sha256,
            _tree=tree,
            _language=self.language,
        )

    def root(self, node: XmlElement) -> Element:
        if node.name.endswith(_SET) or node.name == DIRECTORY:
            advice = "Use the file element of the artifact that is submitted."
            raise _fail(node, f"<{node.name}> cannot be the root element.", advice)
        element = self.element(node, root=True)
        for directive in element.directives:
            if OUTPUT_FILE_NAME in directive.options:
                message = (
                    f"<{directive.name}> adds a file, which the root <{node.name}> cannot hold."
                )
                advice = "Submit a ZIP archive and put the element into <zip-file>."
                raise ArtifactConfigurationError(message, advice=advice, where=directive.where)
        if not _does_something(element):
            advice = "Add a directive such as <authenticode-sign/>."
            raise _fail(node, "The configuration has no directive at all.", advice)
        return element

    # Parameters

    def read_parameters(self, node: XmlElement) -> tuple[Parameter, ...]:
        self.check_attributes(node, ())
        found: dict[str, Parameter] = {}
        for child in node.children:
            if child.name != "parameter":
                raise _fail(
                    child, f"<{child.name}> is not allowed here.", "Only <parameter> elements are."
                )
            parameter = self.read_parameter(child)
            if parameter.name in found:
                first = found[parameter.name].where
                raise _fail(child, f'Parameter "{parameter.name}" is declared at {first} already.')
            found[parameter.name] = parameter
        return tuple(found.values())

    def read_parameter(self, node: XmlElement) -> Parameter:
        _no_children(node)
        self.check_attributes(node, ("name", "default-value", "required"))
        name = node.attributes.get("name", "")
        if not is_parameter_name(name):
            advice = 'Use letters, digits, "_" and "-", not starting with a digit.'
            raise _attribute_error(node, "name", f'"{name}" is not a parameter name.', advice)
        required = self.choice(node, "required", ("false", "true", "0", "1"))
        default = node.attributes.get("default-value")
        if default is not None and "${" in default:
            raise _attribute_error(node, "default-value", "A default cannot refer to parameters.")
        return Parameter(name, default, required in ("true", "1"), node.where)

    # Elements

    def element(self, node: XmlElement, *, root: bool = False) -> Element:
        kind, is_set = self.element_type(node)
        own = () if is_set else ("path", *_MATCHES)
        extra = (MULTIPLE_UPLOAD,) if root and node.name == "zip-file" else ()
        self.check_attributes(node, (*own, *kind.restrictions, *extra))
        if extra:
            self.choice(node, MULTIPLE_UPLOAD, ("off", "on"))
        restrictions = self.restrictions(node, kind)
        if is_set:
            includes, body = self.set_parts(node, kind, restrictions)
        else:
            includes, body = (self.include(node, kind, restrictions, root=root),), node
        children, directives = self.body(body, kind)
        return Element(kind.name, includes, children, directives, node.where)

    def element_type(self, node: XmlElement) -> tuple[ElementType, bool]:
        kind = self.language.types.get(node.name)
        if kind is not None:
            return kind, False
        kind = self.language.types.get(node.name.removesuffix(_SET))
        if kind is not None and node.name.endswith(_SET):
            return kind, True
        available = [*self.language.types, *(name + _SET for name in self.language.types)]
        if node.name.removesuffix(_SET) in FILE_ELEMENTS:
            message = f"<{node.name}> is not supported by this version yet."
            raise _fail(node, message, f"Supported are: {', '.join(self.language.types)}.")
        if node.name in ("include", "for-each"):
            raise _fail(node, f"<{node.name}> belongs into a set, such as <pe-file-set>.")
        if node.name in DIRECTIVES:
            raise _fail(node, f"<{node.name}> is a directive; it belongs into a file element.")
        available += DIRECTIVES
        raise _fail(node, f"Unknown element <{node.name}>.", did_you_mean(node.name, available))

    def set_parts(
        self, node: XmlElement, kind: ElementType, restrictions: Mapping[str, str]
    ) -> tuple[tuple[Include, ...], XmlElement]:
        includes: list[Include] = []
        bodies: list[XmlElement] = []
        for child in node.children:
            if child.name == "include":
                _no_children(child)
                if bodies:
                    raise _fail(child, "<include> stands after <for-each>.", "Put it before.")
                self.check_attributes(child, ("path", *_MATCHES, *kind.restrictions))
                own = {**restrictions, **self.restrictions(child, kind)}
                includes.append(self.include(child, kind, own))
            elif child.name == "for-each":
                self.check_attributes(child, ())
                bodies.append(child)
            else:
                advice = "A set holds <include> elements and one <for-each>."
                raise _fail(child, f"<{child.name}> is not allowed in <{node.name}>.", advice)
        if not includes:
            raise _fail(node, f"<{node.name}> has no <include>.", 'Add <include path="..."/>.')
        if len(bodies) != 1:
            message = f"<{node.name}> has {len(bodies)} <for-each> elements."
            raise _fail(bodies[1] if bodies else node, message, "It needs exactly one.")
        return tuple(includes), bodies[0]

    def body(
        self, node: XmlElement, kind: ElementType
    ) -> tuple[tuple[Element, ...], tuple[Directive, ...]]:
        children: list[Element] = []
        directives: list[Directive] = []
        for child in node.children:
            if child.name in kind.directives or child.name in DIRECTIVES:
                directives.append(self.directive(child, kind))
                _check_order(child, directives)
            elif kind.holds_members:
                children.append(self.element(child))
            else:
                self.element_type(child)  # an unknown name is the better message
                message = f"<{child.name}> is not allowed in <{kind.name}>: it holds no files."
                raise _fail(child, message, f"Allowed are: {', '.join(kind.directives)}.")
        return tuple(children), tuple(directives)

    def directive(self, node: XmlElement, kind: ElementType) -> Directive:
        _no_children(node)
        declared = kind.directives.get(node.name)
        if declared is None:
            everywhere = {n for each in self.language.types.values() for n in each.directives}
            if node.name not in everywhere:
                message = f"<{node.name}> is not supported by this version yet."
                advice = "Remove it, and sign such files by other means."
                if kind.directives:
                    advice = f"Supported in <{kind.name}> are: {', '.join(kind.directives)}."
                raise _fail(node, message, advice)
            advice = f"Allowed are: {', '.join(kind.directives) or 'none'}."
            raise _fail(node, f"<{node.name}> is not allowed in <{kind.name}>.", advice)
        self.check_attributes(node, tuple(declared))
        options = {name: self.option(node, name, declared) for name in declared}
        return Directive(node.name, options, node.where)

    def option(self, node: XmlElement, name: str, declared: DirectiveOptions) -> str:
        allowed = declared[name]
        if allowed is not None:
            return self.choice(node, name, allowed)
        value = self.text(node, name, file_name=True) or ""
        if name == OUTPUT_FILE_NAME:
            _check_output_name(node, value)
        return value

    def restrictions(self, node: XmlElement, kind: ElementType) -> dict[str, str]:
        found = {name: self.text(node, name, file_name=True) for name in kind.restrictions}
        return {name: value for name, value in found.items() if value is not None}

    def include(
        self,
        node: XmlElement,
        kind: ElementType,
        restrictions: Mapping[str, str],
        *,
        root: bool = False,
    ) -> Include:
        path, pattern = self.path(node, kind, root=root)
        fewest = self.count(node, "min-matches")
        most = self.count(node, "max-matches")
        if root and (fewest, most) != (1, 1):
            at = next(name for name in _MATCHES if name in node.attributes)
            raise _attribute_error(node, at, "The root element is exactly one file.")
        if fewest is None:
            raise _attribute_error(node, "min-matches", f'"{UNBOUNDED}" is for max-matches.')
        if most is not None and fewest > most:
            message = f"min-matches is {fewest}, but max-matches is {most}."
            advice = f'Set max-matches to at least {fewest}, or to "{UNBOUNDED}".'
            raise _attribute_error(node, "max-matches", message, advice)
        return Include(path, pattern, fewest, most, restrictions, node.where)

    def path(
        self, node: XmlElement, kind: ElementType, *, root: bool
    ) -> tuple[str, Pattern | None]:
        raw = self.text(node, "path", file_name=False, escaped=True)
        if raw is None:
            if root:
                return "", None
            advice = 'Add path="...", relative to the surrounding element.'
            raise _fail(node, f'<{node.name}> needs the attribute "path".', advice)
        if kind.name == DIRECTORY and raw == ".":
            return raw, None
        if root and ("/" in raw or "\\" in raw):
            advice = "Give the artifact's file name only."
            raise _attribute_error(node, "path", "The root element's path has a directory.", advice)
        placeholders = dict.fromkeys(references(raw), "x")
        try:
            return raw, compile_pattern(substitute(raw, placeholders))
        except PatternError as error:
            raise _attribute_error(node, "path", f'"{raw}": {error}.') from None

    def count(self, node: XmlElement, attribute: str) -> int | None:
        value = self.text(node, attribute, file_name=False)
        if value is None or "${" in value:
            return 1
        if value == UNBOUNDED:
            return None
        if not (value.isascii() and value.isdigit() and len(value) <= 7):
            advice = f'Give a number of at most 7 digits, or "{UNBOUNDED}" for max-matches.'
            raise _attribute_error(node, attribute, f'"{value}" is not a count.', advice)
        return int(value)

    # Attributes

    def check_attributes(self, node: XmlElement, allowed: Collection[str]) -> None:
        for name in node.attributes:
            if name not in allowed:
                message = f'<{node.name}> has no attribute "{name}".'
                raise _fail(node, message, did_you_mean(name, list(allowed)))

    def choice(self, node: XmlElement, name: str, allowed: Sequence[str]) -> str:
        value = self.text(node, name, file_name=False)
        if value is None:
            return allowed[0]
        if value not in allowed and "${" not in value:
            advice = f"Allowed are: {', '.join(allowed)}."
            raise _attribute_error(node, name, f'"{value}" is not allowed.', advice)
        return value

    def text(
        self, node: XmlElement, name: str, *, file_name: bool, escaped: bool = False
    ) -> str | None:
        """The attribute's text, with parameters substituted if their values are known."""
        raw = node.attributes.get(name)
        if raw is None or "${" not in raw:
            return raw
        declared = [parameter.name for parameter in self.parameters]
        if has_unclosed_reference(raw):
            raise _attribute_error(node, name, '"${" is not closed by "}".')
        for reference in references(raw):
            if reference == FILE_NAME and not file_name:
                advice = "It stands for a matched file's name in outputs and restrictions."
                raise _attribute_error(node, name, "${file.name} cannot be used here.", advice)
            if reference not in (*declared, FILE_NAME):
                message = f'No parameter "{reference}" is declared.'
                advice = did_you_mean(reference, declared)
                raise _attribute_error(node, name, message, advice or "Add it to <parameters>.")
        if self.values is None:
            return raw
        return substitute(raw, self.values, escape if escaped else str)


def _fail(node: XmlElement, message: str, advice: str = "") -> ArtifactConfigurationError:
    return ArtifactConfigurationError(message, advice=advice, where=node.where)


def _attribute_error(
    node: XmlElement, attribute: str, problem: str, advice: str = ""
) -> ArtifactConfigurationError:
    return _fail(node, f'<{node.name}>, attribute "{attribute}": {problem}', advice)


def _no_children(node: XmlElement) -> None:
    if node.children:
        raise _fail(node.children[0], f"<{node.name}> cannot hold other elements.")


def _check_order(node: XmlElement, directives: Sequence[Directive]) -> None:
    if is_verification(node.name) and any(not is_verification(d.name) for d in directives):
        message = f"<{node.name}> stands after a signing directive."
        raise _fail(node, message, "Put it first: it checks the file as it was submitted.")


def _check_output_name(node: XmlElement, value: str) -> None:
    if not value:
        message = f'<{node.name}> needs the attribute "{OUTPUT_FILE_NAME}".'
        raise _fail(node, message, 'For example "${file.name}.sig".')
    if "/" in value or "\\" in value or value in (".", ".."):
        advice = "The output is put beside the signed file."
        raise _attribute_error(node, OUTPUT_FILE_NAME, f'"{value}" is not a file name.', advice)


def _does_something(element: Element) -> bool:
    return bool(element.directives) or any(_does_something(c) for c in element.children)
