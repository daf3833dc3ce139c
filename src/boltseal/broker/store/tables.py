"""The tables, alike in SQLite and PostgreSQL. The migrations make them; a test compares both.

Times are whole seconds since 1970 (UTC), JSON is text, hashes are lower-case hexadecimal. Names are
compared byte by byte in both databases, so that pages of a list end where they do in Python.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

_NAME = String(63).with_variant(String(63, collation="C"), "postgresql")
_WORDS = String(1024).with_variant(String(1024, collation="C"), "postgresql")
_HASH = String(64)
_SEQ = BigInteger().with_variant(Integer, "sqlite")  # SQLite's own row number, so no second index

# Every transaction that writes locks this one row first: that gives all changes and all releases
# one order, and the audit its single chain. ``epoch`` counts the changes that decisions rest on;
# ``seq`` and ``hash`` are the chain's last link (0, and 64 zeros, before the first).
head = Table(
    "head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", _HASH, nullable=False),
    CheckConstraint("id = 1", name="head_is_one_row"),
)

tenants = Table(
    "tenants",
    metadata,
    Column("name", _NAME, primary_key=True),
    Column("created", BigInteger, nullable=False),
)

projects = Table(
    "projects",
    metadata,
    Column("tenant", _NAME, primary_key=True),
    Column("name", _NAME, primary_key=True),
    Column("created", BigInteger, nullable=False),
    ForeignKeyConstraint(["tenant"], ["tenants.name"], name="projects_tenant"),
)

keys = Table(
    "keys",
    metadata,
    Column("tenant", _NAME, primary_key=True),
    Column("project", _NAME, primary_key=True),
    Column("name", _NAME, primary_key=True),
    Column("algorithm", String(16), nullable=False),  # of its next version
    Column("published", Boolean, nullable=False),
    Column("labels", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    ForeignKeyConstraint(
        ["tenant", "project"], ["projects.tenant", "projects.name"], name="keys_project"
    ),
)

key_versions = Table(
    "key_versions",
    metadata,
    Column("tenant", _NAME, primary_key=True),
    Column("project", _NAME, primary_key=True),
    Column("name", _NAME, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("algorithm", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("public", Text, nullable=False),
    Column("fingerprint", String(80), nullable=False),
    Column("wrapped", LargeBinary, nullable=False),  # empty once it is destroyed
    Column("created", BigInteger, nullable=False),
    Column("destroy_at", BigInteger),
    ForeignKeyConstraint(
        ["tenant", "project", "name"],
        ["keys.tenant", "keys.project", "keys.name"],
        name="key_versions_key",
    ),
    Index("key_versions_destroy_at", "destroy_at"),
)

trusts = Table(
    "trusts",
    metadata,
    Column("tenant", _NAME, primary_key=True),
    Column("name", _NAME, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("config", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    ForeignKeyConstraint(["tenant"], ["tenants.name"], name="trusts_tenant"),
)

policies = Table(
    "policies",
    metadata,
    Column("tenant", _NAME, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("text", Text, nullable=False),
    Column("author", _WORDS, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("comment", Text, nullable=False),
    ForeignKeyConstraint(["tenant"], ["tenants.name"], name="policies_tenant"),
)

policy_active = Table(
    "policy_active",
    metadata,
    Column("tenant", _NAME, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("since", BigInteger, nullable=False),
    ForeignKeyConstraint(
        ["tenant", "version"], ["policies.tenant", "policies.version"], name="policy_active_version"
    ),
)

# Every activation, so that it can be taken back: ``back`` is the one that a roll-back returns to.
policy_activations = Table(
    "policy_activations",
    metadata,
    Column("tenant", _NAME, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("back", Integer),
    Column("since", BigInteger, nullable=False),
    Column("by", _WORDS, nullable=False),
    ForeignKeyConstraint(
        ["tenant", "version"],
        ["policies.tenant", "policies.version"],
        name="policy_activations_version",
    ),
)

revocations = Table(
    "revocations",
    metadata,
    Column("tenant", _NAME, primary_key=True),
    Column("credential", _WORDS, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("by", _WORDS, nullable=False),
    Column("created", BigInteger, nullable=False),
    ForeignKeyConstraint(["tenant"], ["tenants.name"], name="revocations_tenant"),
)

limits = Table(
    "limits",
    metadata,
    Column("tenant", _NAME, primary_key=True),
    Column("scope", String(16), primary_key=True),  # identity, key, address
    Column("per_minute", BigInteger, nullable=False),  # 0 is no limit
    Column("per_day", BigInteger, nullable=False),
    ForeignKeyConstraint(["tenant"], ["tenants.name"], name="limits_tenant"),
)

nonces = Table(
    "nonces",
    metadata,
    Column("nonce", LargeBinary, primary_key=True),
    Column("expires", BigInteger, nullable=False),
    Index("nonces_expires", "expires"),
)

# One row for a subject and a length of window, in seconds, which starts anew when its time is over:
# so the table grows with who asks and not with how often.
usage = Table(
    "usage",
    metadata,
    Column("tenant", _NAME, primary_key=True),
    Column("scope", String(16), primary_key=True),
    Column("subject", _WORDS, primary_key=True),
    Column("window", Integer, primary_key=True, autoincrement=False, quote=True),
    Column("started", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    Index("usage_started", "started"),
)

admins = Table(
    "admins",
    metadata,
    Column("name", _NAME, primary_key=True),
    Column("tenant", _NAME, nullable=False),  # ``*`` is all of them
    Column("role", String(16), nullable=False),  # admin, auditor
    Column("token_hash", _HASH, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("revoked", BigInteger),  # when
)

# Who is signed in at the console, on any replica. Of a session's random id only the hash is here.
sessions = Table(
    "sessions",
    metadata,
    Column("id_hash", _HASH, primary_key=True),
    Column("kind", String(16), nullable=False),  # token, oidc
    Column("name", _WORDS, nullable=False),  # the administrator, or the principal's id
    Column("tenant", _NAME, nullable=False),
    Column("principal", Text, nullable=False),  # JSON, of kind oidc alone
    Column("created", BigInteger, nullable=False),
    Column("seen", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Index("sessions_expires", "expires"),
)

# The data keys that seal private keys, each wrapped by one root key or, while the root key is being
# exchanged, by two of them.
root_keys = Table(
    "root_keys",
    metadata,
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("root", String(80), primary_key=True),  # a fingerprint of which root key
    Column("wrapped", LargeBinary, nullable=False),
    Column("created", BigInteger, nullable=False),
)

# The broker's own private keys, sealed as the others are: what signs checkpoints.
broker_keys = Table(
    "broker_keys",
    metadata,
    Column("purpose", String(32), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("public", Text, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Column("created", BigInteger, nullable=False),
)

# Triggers refuse to change or delete a row of these two, and to insert one out of order.
audit = Table(
    "audit",
    metadata,
    Column("seq", _SEQ, primary_key=True, autoincrement=False),
    Column("time", BigInteger, nullable=False),
    Column("tenant", _NAME, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("actor", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("image_digest", String(160), nullable=False),
    Column("request", String(64), nullable=False),
    Column("record", Text, nullable=False),  # canonical JSON; the columns are for searching
    Column("record_hash", _HASH, nullable=False),
    Column("previous", _HASH, nullable=False),
    Column("hash", _HASH, nullable=False),
    Index("audit_image_digest", "image_digest", "seq"),
    Index("audit_tenant", "tenant", "seq"),
    Index("audit_request", "request"),
    # from one actor to the next, and what changed, without a look at every release
    Index("audit_actor", "tenant", "actor", "seq"),
    Index("audit_kind", "kind", "tenant", "seq"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("seq", _SEQ, primary_key=True, autoincrement=False),
    Column("hash", _HASH, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Column("key", String(80), nullable=False),  # fingerprint of the public key
)
