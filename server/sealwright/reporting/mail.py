"""Sending mail over SMTP: one message, one recipient, text with an HTML alternative."""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from urllib.parse import unquote, urlsplit

from sealwright.config import Settings
from sealwright.errors import ConfigurationError, InvalidInputError, UnavailableError
from sealwright.model.identifiers import utc_now

_TIMEOUT = 20.0
_PORTS = {"smtps": 465, "smtp": 587, "smtp+plain": 25}
_FORM = "Use smtps://host, smtp://host (STARTTLS) or smtp+plain://host."


@dataclass(frozen=True)
class Mail:
    """One message.

    Attributes:
        to: address of the one recipient.
        html: the same as `text`; empty: text alone.
        message_id: unique part of the Message-ID, the same for every attempt at it.
    """

    to: str
    subject: str
    text: str
    html: str = ""
    message_id: str = ""


@dataclass(frozen=True)
class Mailer:
    """Where mail goes out. Make it with `open_mailer`. `tls` None: as the system trusts."""

    scheme: str
    host: str
    port: int
    sender: str
    user: str = ""
    password: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None

    async def send(self, mail: Mail) -> None:
        """Hand the message to the server; it is taken when this returns.

        Raises:
            UnavailableError: the server is away, or asks to come again (4xx).
            InvalidInputError: it refuses the message or the recipient for good (5xx), or the
                address is malformed.
            ConfigurationError: it refuses our user or our TLS.
        """
        await asyncio.to_thread(self._send, self._message(mail))

    @property
    def _domain(self) -> str:
        """What we greet as; left to the library, it would ask the resolver and wait for it."""
        return self.sender.rpartition("@")[2]

    def _message(self, mail: Mail) -> EmailMessage:
        message = EmailMessage()
        try:
            message["To"] = Address(addr_spec=mail.to)
        except (ValueError, IndexError):
            error = "The recipient's address is malformed."
            raise InvalidInputError(error) from None
        message["From"] = Address("Sealwright", addr_spec=self.sender)
        message["Subject"] = " ".join(mail.subject.split())[:200]  # a header is one line
        message["Date"] = format_datetime(utc_now())
        if mail.message_id:
            message["Message-ID"] = f"<{mail.message_id}@{self._domain}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834, 5: no automatic answers
        message.set_content(mail.text)
        if mail.html:
            message.add_alternative(mail.html, subtype="html")
        return message

    def _send(self, message: EmailMessage) -> None:
        with self._explained(), self._connection() as server:
            if self.user:
                server.login(self.user, self.password)
            server.send_message(message)

    def _connection(self) -> smtplib.SMTP:
        context = self.tls or ssl.create_default_context()
        if self.scheme == "smtps":
            return smtplib.SMTP_SSL(
                self.host, self.port, self._domain, timeout=_TIMEOUT, context=context
            )
        server = smtplib.SMTP(self.host, self.port, self._domain, timeout=_TIMEOUT)
        if self.scheme == "smtp":
            server.starttls(context=context)
        return server

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """The library's errors as ours. Neither names the recipient: the caller logs them."""
        where = f"{self.host}:{self.port}"
        try:
            yield
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            raise _refused(min(codes, default=550), where) from None
        except (smtplib.SMTPAuthenticationError, smtplib.SMTPNotSupportedError) as error:
            message = f"The mail server refuses the log-in or its encryption: {_plain(error)}"
            advice = "Check mail_server and mail_password_file."
            raise ConfigurationError(message, advice=advice, where=where) from None
        except smtplib.SMTPResponseException as error:
            raise _refused(error.smtp_code, where) from None
        except ssl.SSLCertVerificationError as error:
            message = f"The mail server's certificate is not trusted: {error.verify_message}."
            raise ConfigurationError(message, where=where) from None
        except (smtplib.SMTPException, OSError) as error:
            message = f"The mail server does not answer ({type(error).__name__})."
            raise UnavailableError(message, where=where) from None


def _refused(code: int, where: str) -> UnavailableError | InvalidInputError:
    message = f"The mail server answered {code}."
    if code < 500:
        return UnavailableError(message, where=where)
    return InvalidInputError(message, where=where)


def _plain(error: smtplib.SMTPException) -> str:
    code = getattr(error, "smtp_code", None)
    return f"{type(error).__name__} {code or ''}".strip() + "."


def open_mailer(settings: Settings) -> Mailer | None:
    """The mailer by the server's settings; None where no mail is sent.

    Raises:
        ConfigurationError: a setting cannot work.
    """
    if not settings.mail_server:
        return None
    try:
        parts = urlsplit(settings.mail_server)
        port = parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        message = f"mail_server is not usable: {settings.mail_server.rpartition('@')[2]!r}."
        raise ConfigurationError(message, advice=_FORM) from None
    if not parts.hostname or parts.password or parts.path.strip("/") or parts.query:
        message = "mail_server needs a host, and takes no password, path or query."
        raise ConfigurationError(message, advice=f"{_FORM} Name mail_password_file.")
    sender = settings.mail_from or f"sealwright@{urlsplit(settings.url).hostname}"
    try:
        Address(addr_spec=sender)
    except (ValueError, IndexError):
        message = f"mail_from is no address: {sender!r}."
        raise ConfigurationError(message) from None
    return Mailer(
        parts.scheme,
        parts.hostname,
        port,
        sender,
        unquote(parts.username or ""),
        _password(settings),
    )


def _password(settings: Settings) -> str:
    if settings.mail_password_file is None:
        return ""
    try:
        return settings.mail_password_file.read_text().rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        message = f"mail_password_file cannot be read: {error}."
        raise ConfigurationError(message) from None
