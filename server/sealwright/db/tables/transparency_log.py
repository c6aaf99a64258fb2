"""The log of signatures and changes."""

from __future__ import annotations

import sqlalchemy as sa

from sealwright.db.tables.columns import (
    BIGINT_KEY,
    METADATA,
    NO_COMMON_LEAF,
    NO_SIGNATURE,
    UtcDateTime,
    created_at,
    organization_column,
    partial_index,
)

#: Leaves of the log. `sequence` and `leaf` are given by the sequencer; `body` never changes.
log_entries = sa.Table(
    "log_entries",
    METADATA,
    sa.Column("id", BIGINT_KEY, primary_key=True, autoincrement=True),
    sa.Column("organization_id", sa.String(36), nullable=False),
    sa.Column("request_id", sa.String(36)),
    sa.Column("action", sa.String(60), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("sequence", sa.BigInteger, unique=True),
    created_at(),
    # what the leaf is about, to find it by: the body alone is what the tree holds
    sa.Column("actor", sa.String(60)),
    sa.Column("project_id", sa.String(36)),
    sa.Column("signing_policy_id", sa.String(36)),
    sa.Column("certificate_id", sa.String(36)),
    sa.Column("user_id", sa.String(36)),
    sa.Index("ix_log_entries_request_id_id", "request_id", "id"),
    partial_index("ix_log_entries_time_line", "request_id", "id", where=NO_SIGNATURE),
    sa.Index("ix_log_entries_organization_id_id", "organization_id", "id"),
    partial_index(
        "ix_log_entries_organization_id_action_id",
        "organization_id",
        "action",
        "id",
        where=NO_COMMON_LEAF,
    ),
    *(
        partial_index(f"ix_log_entries_{column}_id", column, "id", where=f"{column} IS NOT NULL")
        for column in ("actor", "project_id", "signing_policy_id", "certificate_id", "user_id")
    ),
    partial_index("ix_log_entries_pending", "id", where="sequence IS NULL"),
)

#: What a leaf keeps only a salted hash of: addresses, and values before and after a change. Rows
#: may be erased (retention); the log verifies without them.
log_details = sa.Table(
    "log_details",
    METADATA,
    sa.Column(
        "entry_id",
        BIGINT_KEY,
        sa.ForeignKey("log_entries.id"),
        primary_key=True,
        autoincrement=False,
    ),
    organization_column(),
    sa.Column("salt", sa.LargeBinary, nullable=False),
    sa.Column("details", sa.Text, nullable=False),  # canonical JSON of `transparency.details`
    created_at(),
    sa.Index("ix_log_details_organization_id_created_at", "organization_id", "created_at"),
)

#: One row: the head of the tree. Moves by compare-and-set on `size`.
log_head = sa.Table(
    "log_head",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("head", sa.Text, nullable=False),  # transparency's own serialization
    sa.Column("checkpoint", sa.Text, nullable=False),
    sa.Column("signed_at", UtcDateTime),
    sa.Column("verifier_key", sa.Text, nullable=False),
)

#: Tiles and entry bundles by their C2SP tlog-tiles path.
log_tiles = sa.Table(
    "log_tiles",
    METADATA,
    sa.Column("path", sa.String(200), primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("tree_size", sa.BigInteger, nullable=False, index=True),
)
