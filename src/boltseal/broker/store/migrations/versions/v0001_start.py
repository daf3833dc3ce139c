"""The first schema: head, keys, trusts, policies, limits and the append-only audit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NAME = sa.String(63).with_variant(sa.String(63, collation="C"), "postgresql")
_WORDS = sa.String(1024).with_variant(sa.String(1024, collation="C"), "postgresql")
_HASH = sa.String(64)
_SEQ = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_APPEND_ONLY = ("audit", "checkpoints")


def upgrade() -> None:
    """Make every table, the head row, and the triggers of what is append-only."""
    _head()
    _keys()
    _what_decisions_rest_on()
    _counters()
    _broker()
    _audit()
    for table in _APPEND_ONLY:
        _refuse_changes(table)


def _number(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=null)


def _part(name: str, kind: sa.types.TypeEngine[str] = _NAME) -> sa.Column[str]:
    return sa.Column(name, kind, primary_key=True)


def _version() -> sa.Column[int]:
    return sa.Column("version", sa.Integer, primary_key=True, autoincrement=False)


def _text(name: str, kind: sa.types.TypeEngine[str] | None = None) -> sa.Column[str]:
    return sa.Column(name, kind or sa.Text(), nullable=False)


def _blob(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary, nullable=False)


def _of_tenant(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name=f"{table}_tenant")


def _head() -> None:
    made = op.create_table(
        "head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        _number("epoch"),
        _number("seq"),
        _text("hash", _HASH),
        sa.CheckConstraint("id = 1", name="head_is_one_row"),
    )
    op.bulk_insert(made, [{"id": 1, "epoch": 1, "seq": 0, "hash": "0" * 64}])
    op.create_table("tenants", _part("name"), _number("created"))
    op.create_table(
        "projects", _part("tenant"), _part("name"), _number("created"), _of_tenant("projects")
    )


def _keys() -> None:
    op.create_table(
        "keys",
        _part("tenant"),
        _part("project"),
        _part("name"),
        _text("algorithm", sa.String(16)),
        sa.Column("published", sa.Boolean, nullable=False),
        _text("labels"),
        _number("created"),
        sa.ForeignKeyConstraint(
            ["tenant", "project"], ["projects.tenant", "projects.name"], name="keys_project"
        ),
    )
    op.create_table(
        "key_versions",
        _part("tenant"),
        _part("project"),
        _part("name"),
        _version(),
        _text("algorithm", sa.String(16)),
        _text("state", sa.String(16)),
        _text("public"),
        _text("fingerprint", sa.String(80)),
        _blob("wrapped"),
        _number("created"),
        _number("destroy_at", null=True),
        sa.ForeignKeyConstraint(
            ["tenant", "project", "name"],
            ["keys.tenant", "keys.project", "keys.name"],
            name="key_versions_key",
        ),
    )
    op.create_index("key_versions_destroy_at", "key_versions", ["destroy_at"])


def _what_decisions_rest_on() -> None:
    op.create_table(
        "trusts",
        _part("tenant"),
        _part("name"),
        _text("kind", sa.String(16)),
        _text("config"),
        _number("created"),
        _of_tenant("trusts"),
    )
    op.create_table(
        "policies",
        _part("tenant"),
        _version(),
        _text("text"),
        _text("author", _WORDS),
        _number("created"),
        _text("comment"),
        _of_tenant("policies"),
    )
    op.create_table(
        "policy_active",
        _part("tenant"),
        sa.Column("version", sa.Integer, nullable=False),
        _number("since"),
        sa.ForeignKeyConstraint(
            ["tenant", "version"],
            ["policies.tenant", "policies.version"],
            name="policy_active_version",
        ),
    )
    op.create_table(
        "policy_activations",
        _part("tenant"),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("back", sa.Integer),
        _number("since"),
        _text("by", _WORDS),
        sa.ForeignKeyConstraint(
            ["tenant", "version"],
            ["policies.tenant", "policies.version"],
            name="policy_activations_version",
        ),
    )
    op.create_table(
        "revocations",
        _part("tenant"),
        _part("credential", _WORDS),
        _text("reason"),
        _text("by", _WORDS),
        _number("created"),
        _of_tenant("revocations"),
    )


def _counters() -> None:
    op.create_table(
        "limits",
        _part("tenant"),
        _part("scope", sa.String(16)),
        _number("per_minute"),
        _number("per_day"),
        _of_tenant("limits"),
    )
    op.create_table(
        "nonces", sa.Column("nonce", sa.LargeBinary, primary_key=True), _number("expires")
    )
    op.create_index("nonces_expires", "nonces", ["expires"])
    op.create_table(
        "usage",
        _part("tenant"),
        _part("scope", sa.String(16)),
        _part("subject", _WORDS),
        sa.Column("window", sa.Integer, primary_key=True, autoincrement=False, quote=True),
        _number("started"),
        _number("count"),
    )
    op.create_index("usage_started", "usage", ["started"])


def _broker() -> None:
    op.create_table(
        "admins",
        _part("name"),
        _text("tenant", _NAME),
        _text("role", sa.String(16)),
        _text("token_hash", _HASH),
        _number("created"),
        _number("revoked", null=True),
    )
    op.create_table(
        "sessions",
        _part("id_hash", _HASH),
        _text("kind", sa.String(16)),
        _text("name", _WORDS),
        _text("tenant", _NAME),
        _text("principal"),
        _number("created"),
        _number("seen"),
        _number("expires"),
    )
    op.create_index("sessions_expires", "sessions", ["expires"])
    op.create_table(
        "root_keys",
        sa.Column("generation", sa.Integer, primary_key=True, autoincrement=False),
        _part("root", sa.String(80)),
        _blob("wrapped"),
        _number("created"),
    )
    op.create_table(
        "broker_keys",
        _part("purpose", sa.String(32)),
        _version(),
        _text("public"),
        _blob("wrapped"),
        _number("created"),
    )


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=False),
        _number("time"),
        _text("tenant", _NAME),
        _text("kind", sa.String(32)),
        _text("outcome", sa.String(16)),
        _text("actor"),
        _text("subject"),
        _text("image_digest", sa.String(160)),
        _text("request", sa.String(64)),
        _text("record"),
        _text("record_hash", _HASH),
        _text("previous", _HASH),
        _text("hash", _HASH),
    )
    op.create_index("audit_image_digest", "audit", ["image_digest", "seq"])
    op.create_index("audit_tenant", "audit", ["tenant", "seq"])
    op.create_index("audit_request", "audit", ["request"])
    op.create_index("audit_actor", "audit", ["tenant", "actor", "seq"])
    op.create_index("audit_kind", "audit", ["kind", "tenant", "seq"])
    op.create_table(
        "checkpoints",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=False),
        _text("hash", _HASH),
        _number("time"),
        _blob("signature"),
        _text("key", sa.String(80)),
    )


def _refuse_changes(table: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        # the insert trigger also stops INSERT OR REPLACE, which deletes without a delete trigger
        for event, when in (
            ("UPDATE", ""),
            ("DELETE", ""),
            ("INSERT", "WHEN NEW.seq <= (SELECT coalesce(max(seq), 0) FROM {table}) "),
        ):
            op.execute(
                f"CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table} "
                f"{when.format(table=table)}"
                f"BEGIN SELECT raise(ABORT, '{table} is append-only'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION {table}_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"RAISE EXCEPTION '{table} is append-only' "
        "USING ERRCODE = 'integrity_constraint_violation'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION {table}_append_only()"
    )
    op.execute(
        f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_append_only()"
    )
