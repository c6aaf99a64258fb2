"""What PostgreSQL's roles may do: the application's (web and worker) and the signer's.

The application cannot write what the signer vouches for: intents, the tree, certificates, and
leaves about signatures. Nor can it bring back a passkey that was removed, or lift a certificate's
restriction to releases. The signer cannot write
what it decides by. Neither can change or delete a leaf. Tables belong to a third role, the one that
migrates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import sqlalchemy as sa

from sealwright.db.database import Database
from sealwright.db.tables import METADATA
from sealwright.errors import ConfigurationError

_ROLE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")

_LEAF = (
    "organization_id, request_id, action, body, created_at, "
    "actor, project_id, signing_policy_id, certificate_id, user_id"
)

#: Table -> what the application may do besides SELECT: everything if absent.
_APPLICATION: dict[str, tuple[str, ...]] = {
    "alembic_version": (),
    "app_keys": (),
    "approvals": ("INSERT",),
    "artifact_configurations": ("INSERT", "UPDATE (is_default)"),
    "certificate_orders": ("INSERT", "DELETE"),
    "certificates": ("UPDATE (state, name, release)",),
    "endorsements": ("INSERT",),
    "log_details": ("INSERT", "DELETE"),
    "log_entries": (f"INSERT ({_LEAF})",),
    "log_head": (),
    "log_tiles": (),
    "organizations": ("INSERT", "UPDATE"),
    "passkeys": ("INSERT", "UPDATE (name, sign_count, last_used_at, removed_at)"),
    "plans": ("INSERT", "DELETE"),
    "projects": ("INSERT", "UPDATE"),
    "proposals": ("INSERT", "UPDATE"),
    "request_words": ("INSERT", "DELETE"),
    "signature_intents": ("DELETE",),
    "signer_envelopes": (),
    "signing_requests": ("INSERT", "UPDATE"),
    "timestamp_tokens": ("INSERT", "DELETE"),
    "trust_anchors": (),
    "users": ("INSERT", "UPDATE"),
}
_ALL = ("INSERT", "UPDATE", "DELETE")
_FINISHED = (
    "EXISTS (SELECT FROM signing_requests AS r "
    "WHERE r.id = {table}.request_id AND r.finished_at IS NOT NULL)"
)
#: Table -> what the application may remove of it (see `expired`), by the database's own clock.
_REMOVABLE = {
    "certificate_orders": "finished_at < now() - interval '369 days'",
    "plans": _FINISHED,
    "request_words": _FINISHED,
    "signature_intents": "state <> 'intended' AND created_at < now() - interval '369 days'",
}

#: Table -> what the signer may do: nothing if absent.
_SIGNER = {
    "alembic_version": ("SELECT",),
    "app_keys": ("SELECT", "INSERT", "DELETE"),
    "approvals": ("SELECT",),
    "artifact_configurations": ("SELECT",),
    "certificate_orders": (
        "SELECT",
        "UPDATE (state, claimed_at, finished_at, payload, result_id, code, reason, advice)",
    ),
    "certificates": (
        "SELECT",
        "INSERT",
        "UPDATE (certificate, chain, sha256, subject, not_before, not_after)",
        "UPDATE (revocation, revocation_reason, revoked_at)",
    ),
    "endorsements": ("SELECT",),
    "enrolment_servers": ("SELECT (id, organization_id, enabled)",),
    "log_entries": (
        "SELECT",
        f"INSERT ({_LEAF})",
        "UPDATE (sequence)",
    ),
    "log_head": ("SELECT", "INSERT", "UPDATE"),
    "log_tiles": ("SELECT", "INSERT"),
    "organizations": ("SELECT",),
    "passkeys": ("SELECT",),
    "projects": ("SELECT",),
    "signature_intents": ("SELECT", "INSERT", "UPDATE (state, signature)"),
    "signer_envelopes": ("SELECT", "INSERT", "DELETE"),
    "signing_policies": ("SELECT",),
    "signing_requests": ("SELECT",),
    "trust_anchors": ("SELECT", "INSERT", "DELETE"),
    "users": ("SELECT (id, name, organization_id, role, active)",),
}


async def grant(owner_url: str, *, application: str, signer: str) -> None:
    """Give the two roles their rights, and take whatever else they had on our tables.

    Run after every migration, as the tables' owner. The roles exist already.

    Raises:
        ConfigurationError: not PostgreSQL, or a role's name is unusable.
        UnavailableError: the database does not answer, or does not let us.
    """
    database = Database(owner_url, pool_size=1)
    try:
        async with database.transaction() as tx:
            if not tx.is_postgresql:
                message = "Only PostgreSQL has roles."
                raise ConfigurationError(message, advice="Leave them out with SQLite.")
            for statement in statements(application, signer):
                await tx.connection.execute(sa.text(statement))
    finally:
        await database.close()


def statements(application: str, signer: str) -> Iterator[str]:
    """Give the SQL that `grant` runs, for administrators who run it themselves.

    Raises:
        ConfigurationError: a role's name is unusable.
    """
    app, sig = _quoted(application), _quoted(signer)
    if app == sig:
        message = "The application and the signer need different roles."
        raise ConfigurationError(message)
    yield f"GRANT USAGE ON SCHEMA public TO {app}, {sig}"
    for table in ("alembic_version", *sorted(METADATA.tables)):
        yield f"REVOKE ALL ON {table} FROM {app}, {sig}, PUBLIC"
        for right in ("SELECT", *_APPLICATION.get(table, _ALL)):
            yield f"GRANT {right} ON {table} TO {app}"
        for right in _SIGNER.get(table, ()):
            yield f"GRANT {right} ON {table} TO {sig}"
    yield f"GRANT USAGE ON SEQUENCE log_entries_id_seq TO {app}, {sig}"
    yield f"GRANT USAGE ON SEQUENCE outbox_id_seq, notifications_id_seq TO {app}"
    # leaves about what keys do come from the signer alone
    yield "ALTER TABLE log_entries ENABLE ROW LEVEL SECURITY"
    for name in ("application_reads", "application_adds", "signer_all"):
        yield f"DROP POLICY IF EXISTS {name} ON log_entries"
    yield f"CREATE POLICY application_reads ON log_entries FOR SELECT TO {app} USING (true)"
    yield (
        f"CREATE POLICY application_adds ON log_entries FOR INSERT TO {app} "
        "WITH CHECK (action NOT LIKE 'signature.%' "
        "AND action NOT LIKE 'app_key.%' AND action NOT LIKE 'trust.%' "
        "AND (action NOT LIKE 'certificate.%' OR action IN "
        "('certificate.ordered', 'certificate.updated', 'certificate.expiring', "
        "'certificate.enrolment_failed')))"
    )
    yield f"CREATE POLICY signer_all ON log_entries TO {sig} USING (true) WITH CHECK (true)"
    for table, condition in _REMOVABLE.items():
        yield f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"
        for name in ("application_works", "application_removes", "signer_all"):
            yield f"DROP POLICY IF EXISTS {name} ON {table}"
        yield f"CREATE POLICY application_works ON {table} TO {app} USING (true) WITH CHECK (true)"
        yield (
            f"CREATE POLICY application_removes ON {table} AS RESTRICTIVE FOR DELETE TO {app} "
            f"USING ({condition.format(table=table)})"
        )
        yield f"CREATE POLICY signer_all ON {table} TO {sig} USING (true) WITH CHECK (true)"
    # a certificate that is for releases stays so: what opens it is for the tables' owner
    yield (
        "CREATE OR REPLACE FUNCTION sealwright_stays_restricted() RETURNS trigger "
        "LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'a release certificate stays one' "
        "USING ERRCODE = 'insufficient_privilege'; END$$"
    )
    yield "DROP TRIGGER IF EXISTS certificates_stay_restricted ON certificates"
    yield (
        "CREATE TRIGGER certificates_stay_restricted BEFORE UPDATE OF release ON certificates "
        "FOR EACH ROW WHEN (OLD.release AND NOT NEW.release "
        f"AND current_user = '{application}') EXECUTE FUNCTION sealwright_stays_restricted()"
    )
    # a passkey that its owner removed stays removed
    yield "ALTER TABLE passkeys ENABLE ROW LEVEL SECURITY"
    for name in ("application_reads", "application_adds", "application_changes", "signer_reads"):
        yield f"DROP POLICY IF EXISTS {name} ON passkeys"
    yield f"CREATE POLICY application_reads ON passkeys FOR SELECT TO {app} USING (true)"
    yield f"CREATE POLICY application_adds ON passkeys FOR INSERT TO {app} WITH CHECK (true)"
    yield (
        f"CREATE POLICY application_changes ON passkeys FOR UPDATE TO {app} "
        "USING (removed_at IS NULL) WITH CHECK (true)"
    )
    yield f"CREATE POLICY signer_reads ON passkeys FOR SELECT TO {sig} USING (true)"


def _quoted(role: str) -> str:
    if not _ROLE.fullmatch(role):
        message = f"{role[:63]!r} is not the name of a role."
        raise ConfigurationError(message, advice="Use letters, digits, '_' and '-'.")
    return f'"{role}"'
