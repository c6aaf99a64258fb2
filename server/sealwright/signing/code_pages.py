"""Windows code pages by their numbers."""

from __future__ import annotations

import codecs

from sealwright.errors import ArtifactError

_CODECS = {0: "cp1252", 932: "cp932", 936: "gbk", 949: "cp949", 950: "cp950", 1200: "utf-16-le"}
_OTHERS = {10000: "mac-roman", 20127: "ascii", 28591: "latin-1", 65001: "utf-8"}


def codec_of(code_page: int) -> str:
    """Name of Python's codec; 0, which leaves it open, is taken for the Western one.

    Raises:
        ArtifactError: there is no such code page.
    """
    known = _CODECS.get(code_page) or _OTHERS.get(code_page) or f"cp{code_page}"
    try:
        return codecs.lookup(known).name
    except LookupError:
        message = f"The file is in the unknown code page {code_page}."
        raise ArtifactError(
            message, advice="Make it in a code page that Windows has, such as 65001 (UTF-8)."
        ) from None
