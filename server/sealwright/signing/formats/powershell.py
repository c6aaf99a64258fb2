"""PowerShell: scripts, modules, manifests, types and formats, consoles, and the MOF files of DSC.

Their digest covers the byte order mark.
"""

from __future__ import annotations

from sealwright.signing.script import ScriptFormat, Style

_SIP = bytes.fromhex("1fcc3b60594b084eb724d2c6297ef351")


def _style(*extensions: str, prefix: str, suffix: str = "", is_ansi: bool = False) -> Style:
    return Style(
        extensions=extensions,
        begin=f"{prefix}SIG # Begin signature block{suffix}",
        end=f"{prefix}SIG # End signature block{suffix}",
        prefix=prefix,
        suffix=suffix,
        width=64,
        sip=_SIP,
        sip_version=0x10000,
        is_ansi=is_ansi,
    )


POWERSHELL = ScriptFormat(
    "powershell-file",
    (
        _style(".ps1", ".psm1", ".psd1", prefix="# "),
        _style(".ps1xml", ".psc1", ".cdxml", prefix="<!-- ", suffix=" -->", is_ansi=True),
        _style(".mof", prefix="/* ", suffix=" */"),
    ),
    hashes_mark=True,
    hashes_position=False,
)
