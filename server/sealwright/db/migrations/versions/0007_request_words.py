"""Finding signing requests: an index for each filter, and one of words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_BATCH = 1000
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    for columns in (
        ["project_id", "state", "id"],
        ["organization_id", "state", "id"],
        ["signing_policy_id", "id"],
        ["submitted_by", "id"],
    ):
        op.create_index(f"ix_signing_requests_{'_'.join(columns)}", "signing_requests", columns)
    op.create_table(
        "request_words",
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column(
            "word",
            sa.String(64).with_variant(postgresql.VARCHAR(64, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("request_id", sa.String(36), nullable=False),
        sa.ForeignKeyConstraint(
            ["request_id"], ["signing_requests.id"], name="fk_request_words_request_id"
        ),
        sa.PrimaryKeyConstraint("organization_id", "word", "request_id", name="pk_request_words"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_request_words_request_id_word", "request_words", ["request_id", "word"])
    _fill()


def downgrade() -> None:
    op.drop_table("request_words")


def _fill() -> None:
    """Index what is there."""
    columns = ("input", "output", "retrieval", "origin")
    requests = sa.table(
        "signing_requests",
        *(sa.column(name) for name in ("id", "organization_id", "description")),
        *(sa.column(name, JSON) for name in columns),
    )
    words = sa.table(
        "request_words", *(sa.column(name) for name in ("organization_id", "word", "request_id"))
    )
    connection = op.get_bind()
    last = ""
    while True:
        found = connection.execute(
            sa.select(requests).where(requests.c.id > last).order_by(requests.c.id).limit(_BATCH)
        )
        rows = found.mappings().all()
        if not rows:
            return
        last = rows[-1]["id"]
        new = [
            {"organization_id": row["organization_id"], "word": word, "request_id": row["id"]}
            for row in rows
            for word in list(dict.fromkeys(_words(dict(row))))[:60]
        ]
        if new:
            connection.execute(words.insert(), new)


def _words(row: Mapping[str, Any]) -> Iterator[str]:
    named = [row[name] for name in ("input", "output", "retrieval") if row[name]]
    texts = [
        *(one["sha256"] for one in named),
        row["origin"].get("commit", ""),
        *(one["file_name"] for one in named),
        row["description"],
    ]
    for text in texts:
        for piece in text.lower().split():
            whole = piece.strip("()[]{}<>\"'`.,;:!?")
            if whole:
                yield whole[:64]
            yield from (part[:64] for part in re.findall(r"[^\W_]{2,}", whole))
