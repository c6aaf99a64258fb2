"""Path patterns of the artifact configuration: ``* ? [abc] [a-z] [!abc] **``.

Matching ignores case and takes ``/`` and ``\\`` for the same separator. A pattern becomes a
nondeterministic automaton whose set of states is one integer, so that a path is matched in one
pass, in time proportional to its length whatever the pattern: there is nothing to backtrack.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_PATTERN_LENGTH = 2048


class PatternError(ValueError):
    """The pattern is malformed.

    Args:
        problem: what is wrong, as a clause: ``the path is empty``.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(problem)


def fold(text: str) -> str:
    """Fold case character by character, so that ``?`` still stands for exactly one character."""
    return text.lower() if text.isascii() else "".join(_fold_character(c) for c in text)


def escape(text: str) -> str:
    """Return the pattern that matches exactly `text`."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)


@dataclass(frozen=True)
class _Token:
    """One step of the automaton: a character, a class, a star, or half of a globstar."""

    kind: str  # "literal", "any", "class", "star", "globstar", "globstar-segment"
    characters: str = ""
    ranges: tuple[tuple[str, str], ...] = ()
    negated: bool = False

    def accepts(self, character: str) -> bool:
        """Whether this token consumes `character` (folded) and the automaton moves on."""
        if self.kind == "literal":
            return character == self.characters
        if character == "/" or self.kind not in ("any", "class"):
            return False
        return self.kind == "any" or self._class_holds(character) != self.negated

    def _class_holds(self, character: str) -> bool:
        forms = {character, character.upper()}
        return character in self.characters or any(
            low <= form <= high for low, high in self.ranges for form in forms
        )


@dataclass(frozen=True)
class _Step:
    """What one character does to the set of states: bit i stands for "i tokens are behind us"."""

    advance: int  # states that move on to the next token
    stay: int  # states that stay where they are
    back: int  # middles of a globstar's segment that a separator closes


@dataclass(frozen=True)
class Pattern:
    """A compiled path pattern.

    Attributes:
        source: the pattern as written.
        literal: the folded path that alone matches, or None if the pattern has wildcards.
        ending: what every path that matches ends with, folded; most can be told apart by it.
    """

    source: str
    literal: str | None
    ending: str
    _tokens: tuple[_Token, ...] = field(repr=False)
    _steps: dict[str, _Step] = field(default_factory=dict, repr=False, compare=False)

    def matches(self, path: str) -> bool:
        """Tell whether the whole of `path` (relative, any case, either slash) matches."""
        folded = fold(path.replace("\\", "/"))
        if self.literal is not None:
            return folded == self.literal
        return folded.endswith(self.ending) and self._run(folded)

    def _run(self, folded: str) -> bool:
        stars = self._mask("star")
        globstars = self._mask("globstar")
        states = _close(1, stars, globstars)
        for character in folded:
            step = self._steps.get(character) or self._step(character)
            moved = ((states & step.advance) << 1) | (states & step.stay)
            states = _close(moved | ((states & step.back) >> 1), stars, globstars)
            if not states:
                return False
        return bool(states >> len(self._tokens) & 1)

    def _mask(self, kind: str) -> int:
        return sum(1 << i for i, token in enumerate(self._tokens) if token.kind == kind)

    def _step(self, character: str) -> _Step:
        accepting = sum(1 << i for i, t in enumerate(self._tokens) if t.accepts(character))
        segment = self._mask("globstar-segment")
        if character == "/":
            step = _Step(accepting, 0, segment)
        else:
            step = _Step(accepting | self._mask("globstar"), self._mask("star") | segment, 0)
        if len(self._steps) < 4096:  # a cache, not a table of Unicode
            self._steps[character] = step
        return step


def compile_pattern(source: str) -> Pattern:
    """Compile a pattern.

    Raises:
        PatternError: empty, too long, absolute, with ``.`` or ``..`` segments, an unclosed ``[``,
            or ``**`` beside other characters in a segment.
    """
    if not source:
        message = "the path is empty"
        raise PatternError(message)
    if len(source) > MAX_PATTERN_LENGTH:
        message = f"the path is longer than {MAX_PATTERN_LENGTH} characters"
        raise PatternError(message)
    segments = fold(source.replace("\\", "/")).split("/")
    tokens: list[_Token] = []
    for position, segment in enumerate(segments):
        last = position == len(segments) - 1
        if segment == "**":
            tokens += _globstar(after=tokens, last=last)
            continue
        _check_segment(segment)
        tokens += _segment_tokens(segment)
        if not last:
            tokens.append(_Token("literal", "/"))
    ending = ""
    for token in reversed(tokens):
        if token.kind != "literal":
            break
        ending = token.characters + ending
    literal = ending if all(token.kind == "literal" for token in tokens) else None
    return Pattern(source, literal, ending, tuple(tokens))


def _close(states: int, stars: int, globstars: int) -> int:
    """Add what is reached without a character: past a ``**/`` first, then past a ``*``."""
    states |= (states & globstars) << 2
    return states | (states & stars) << 1


def _fold_character(character: str) -> str:
    folded = character.casefold()
    return folded if len(folded) == 1 else character


def _globstar(*, after: list[_Token], last: bool) -> list[_Token]:
    repeated = bool(after) and after[-1].kind == "globstar-segment"
    pair = [] if repeated else [_Token("globstar"), _Token("globstar-segment")]
    return [*pair, _Token("any"), _Token("star")] if last else pair


def _check_segment(segment: str) -> None:
    if not segment:
        message = "the path starts or ends with a separator, or has two in a row"
        raise PatternError(message)
    if segment in (".", ".."):
        message = f'the path has a "{segment}" segment'
        raise PatternError(message)
    if "**" in segment:
        message = '"**" must be a path segment of its own, as in "**/*.dll"'
        raise PatternError(message)


def _segment_tokens(segment: str) -> Iterator[_Token]:
    at = 0
    while at < len(segment):
        character = segment[at]
        if character == "[":
            # "[]]" and "[!]]": a bracket right after the opening stands for itself.
            first = at + (2 if segment[at + 1 : at + 2] == "!" else 1)
            end = segment.find("]", first + 1)
            if end < 0:
                message = f'the "[" of "{segment[at:]}" is not closed by "]"'
                raise PatternError(message)
            yield _character_class(segment[first:end], negated=first == at + 2)
            at = end
        elif character == "*":
            yield _Token("star")
        elif character == "?":
            yield _Token("any")
        else:
            yield _Token("literal", character)
        at += 1


def _character_class(body: str, *, negated: bool) -> _Token:
    if len(body) == 1 and not negated:
        return _Token("literal", body)
    singles: list[str] = []
    ranges: list[tuple[str, str]] = []
    at = 0
    while at < len(body):
        if body[at + 1 : at + 2] == "-" and at + 2 < len(body):
            low, high = body[at], body[at + 2]
            if low > high:
                message = f'the range "{low}-{high}" runs backwards'
                raise PatternError(message)
            ranges.append((low, high))
            at += 3
        else:
            singles.append(body[at])
            at += 1
    return _Token("class", "".join(singles), tuple(ranges), negated=negated)
