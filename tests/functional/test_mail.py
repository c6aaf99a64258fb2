"""Mail goes out over a real SMTP server, or says why not."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pytest
from tests.fakes.mail_server import mail_server
from tests.file_server import certificate_for

from sealwright.config import Settings
from sealwright.errors import ConfigurationError, InvalidInputError, UnavailableError
from sealwright.reporting.mail import Mail, Mailer, open_mailer

MAIL = Mail("ann@example.com", "Waits for\nyour approval", "Text.", "<p>Text.</p>", "7.signing")


def mailer(url: str, folder: Path, password: str = "") -> Mailer:
    file = folder / "password"
    file.write_text(password + "\n")
    settings = Settings(
        data=folder, mail_server=url, mail_password_file=file, mail_from="signing@example.com"
    )
    made = open_mailer(settings)
    assert made is not None
    return made


async def test_a_mail_arrives_whole(tmp_path: Path) -> None:
    async with mail_server() as server:
        await mailer(server.url, tmp_path).send(MAIL)
        [taken] = server.taken
        assert server.recipients == ["ann@example.com"]
        assert taken["From"] == "Sealwright <signing@example.com>"
        assert taken["Subject"] == "Waits for your approval"
        assert taken["Message-ID"] == "<7.signing@example.com>"
        assert taken["Auto-Submitted"] == "auto-generated"
        text, html = taken.iter_parts()
        assert (text.get_content(), html.get_content()) == ("Text.\r\n", "<p>Text.</p>\r\n")


async def test_by_starttls_with_a_password(tmp_path: Path) -> None:
    server_tls, client_tls = certificate_for("localhost", tmp_path)
    async with mail_server(tls=server_tls, password="canary") as server:
        made = mailer(f"smtp://signing@localhost:{server.port}", tmp_path, "canary")
        with pytest.raises(ConfigurationError, match="not trusted"):
            await made.send(MAIL)
        await dataclasses.replace(made, tls=client_tls).send(MAIL)
        assert len(server.taken) == 1
        wrong = dataclasses.replace(made, tls=client_tls, password="wrong")
        with pytest.raises(ConfigurationError, match="log-in"):
            await wrong.send(MAIL)
        assert "canary" not in repr(made)


async def test_encryption_is_never_left_out_silently(tmp_path: Path) -> None:
    async with mail_server() as server:
        made = mailer(f"smtp://localhost:{server.port}", tmp_path)
        with pytest.raises(ConfigurationError):
            await made.send(MAIL)
        assert server.taken == []


async def test_what_may_pass_and_what_is_final(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with mail_server() as server:
        made = mailer(server.url, tmp_path)
        server.answers = ["451 4.7.1 come again", "554 5.7.1 no"]
        with pytest.raises(UnavailableError, match="451"):
            await made.send(MAIL)
        with pytest.raises(InvalidInputError, match="554"):
            await made.send(MAIL)
        server.refused_recipients = {"ann@example.com"}
        with pytest.raises(InvalidInputError, match="550") as refused:
            await made.send(MAIL)
        assert "ann" not in str(refused.value)
        with pytest.raises(InvalidInputError, match="malformed"):
            await made.send(dataclasses.replace(MAIL, to="a@b\r\nBcc: c@d"))
    with pytest.raises(UnavailableError, match="does not answer"):
        await made.send(MAIL)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mail_server": "mail.example.com"},
        {"mail_server": "http://mail.example.com"},
        {"mail_server": "smtp://u:p@mail.example.com"},
        {"mail_server": "smtp://mail.example.com:99999"},
        {"mail_server": "smtp://mail.example.com", "mail_from": "nobody"},
        {"mail_server": "smtp://mail.example.com", "mail_password_file": "/nowhere/password"},
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path: Path, wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_mailer(Settings.model_validate({"data": tmp_path} | wrong))
    assert ":p@" not in str(refused.value)


def test_without_a_server_there_is_no_mail(tmp_path: Path) -> None:
    assert open_mailer(Settings(data=tmp_path)) is None
