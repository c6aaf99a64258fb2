"""Scripts of the Windows Script Host: VBScript, JScript and XML files with both.

Their digest does not cover the byte order mark, and ends with the position of the signature.
"""

from __future__ import annotations

from sealwright.signing.script import ScriptFormat, Style


def _style(extension: str, prefix: str, sip: str) -> Style:
    return Style(
        extensions=(extension,),
        begin=f"{prefix}Begin signature block",
        end=f"{prefix}End signature block",
        prefix=prefix,
        suffix="",
        width=44,
        sip=bytes.fromhex(sip),
        sip_version=1,
        is_ansi=True,
    )


WINDOWS_SCRIPT = ScriptFormat(
    "windows-script-file",
    (
        _style(".vbs", "'' SIG '' ", "4ef029169927b54d8fe5ace10f17ebab"),
        _style(".js", "// SIG // ", "10e0c906ce38d411a2a300104bd35090"),
        Style(
            extensions=(".wsf",),
            begin="<signature>",
            end="</signature>",
            prefix="** SIG ** ",
            suffix="",
            width=44,
            sip=bytes.fromhex("7005611ace38d411a2a300104bd35090"),
            sip_version=1,
            is_ansi=False,
            in_front_of="</job>",
        ),
    ),
    hashes_mark=False,
    hashes_position=True,
)
