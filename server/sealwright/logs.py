"""Structured logs: one JSON object a line, without secrets."""

from __future__ import annotations

import contextvars
import datetime as dt
import json
import logging
import re
import sys
from typing import Any

#: id of the HTTP request or job that a line belongs to
CONTEXT_ID: contextvars.ContextVar[str] = contextvars.ContextVar("context_id", default="")

_MAX_TEXT = 16_000
_SECRETS = (
    (re.compile(r"\bswt_([a-z]+)_[0-9A-Za-z]+"), r"swt_\1_[redacted]"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]+"), r"\1 [redacted]"),
    (re.compile(r"(?i)\b(pin-value|pin|password|token|secret)=[^\s&;\"']+"), r"\1=[redacted]"),
    (re.compile(r"://[^\s/@:]*:[^\s/@]*@"), "://[redacted]@"),
)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


def redact(text: str) -> str:
    """Take out what looks like a token, password, PIN or credential of a URL."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


class JsonFormatter(logging.Formatter):
    """Writes a record, its ``extra`` fields and its traceback as one redacted JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:_MAX_TEXT],
        }
        if CONTEXT_ID.get():
            fields["context_id"] = CONTEXT_ID.get()
        fields |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)[-_MAX_TEXT:]
        clean = {n: redact(v) if isinstance(v, str) else v for n, v in fields.items()}
        return json.dumps(clean, default=lambda value: redact(str(value)), ensure_ascii=False)


def configure(level: str = "info") -> None:
    """Send every logger of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "arq"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    # each request is logged once, by our own middleware
    logging.getLogger("uvicorn.access").disabled = True
    # a line for every call out says nothing that the caller does not say better
    for name in ("httpx", "httpcore", "botocore", "boto3", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
