"""File names of clients."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwright.intake.upload import clean_file_name


@pytest.mark.parametrize(
    ("given_name", "expected"),
    [
        ("setup.exe", "setup.exe"),
        ("Größe 1.msi", "Größe 1.msi"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\windows\\system32\\x.dll", "x.dll"),
        ("C:\\build\\a/b.zip", "b.zip"),
        ("..", "artifact"),
        (".", "artifact"),
        ("", "artifact"),
        ("a/", "artifact"),
        (" . . ", "artifact"),
        (".bashrc", ".bashrc"),
        ("a.exe. . ", "a.exe"),
        ("a\r\nSet-Cookie: x.exe", "aSet-Cookie_ x.exe"),
        ("a\0b\x7f\x85.exe", "ab.exe"),
        ("gpj.\u202eexe.scr", "gpj.exe.scr"),
        ("a\u200bb.exe", "ab.exe"),
        ('a<b>:"|?*.exe', "a_b______.exe"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("com1.tar.gz", "_com1.tar.gz"),
        ("LPT².x", "_LPT².x"),
        ("Aux .exe", "_Aux .exe"),
        ("console.exe", "console.exe"),
        ("com10.exe", "com10.exe"),
        ("e\u0301.exe", "\u00e9.exe"),
        ("\ud800x.exe", "x.exe"),
        ("a" * 300 + ".exe", "a" * 196 + ".exe"),
        ("ä" * 150 + ".exe", "ä" * 98 + ".exe"),
        ("x." + "y" * 300, "x." + "y" * 198),
    ],
)
def test_names(given_name: str, expected: str) -> None:
    assert clean_file_name(given_name) == expected


@given(st.text(max_size=400))
def test_every_name_becomes_harmless_and_stays_so(name: str) -> None:
    clean = clean_file_name(name)
    assert 0 < len(clean.encode()) <= 200
    assert not set(clean) & set('/\\<>:"|?*\0\r\n')
    assert clean not in {".", ".."}
    assert clean == clean.strip()
    assert not clean.endswith(".")
    assert all(unicodedata.category(character)[0] != "C" for character in clean)
    assert clean_file_name(clean) == clean
