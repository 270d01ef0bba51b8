"""Tables of the ledger. Times are seconds since 1970 UTC (float); enumerations are stored by value."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

BigId = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts only INTEGER primary keys by itself

nodes = Table(
    "nodes",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("fields", JSON, nullable=False),
    Column("profile", JSON),
    Column("created", Float, nullable=False),
    Column("updated", Float, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(120), nullable=False, unique=True),
    Column("kind", String(32), nullable=False),
    Column("fields", JSON, nullable=False),
    Column("fingerprint", String(64), nullable=False, index=True),
    Column("follow", Boolean, nullable=False),
    Column("state", String(16), nullable=False),
    Column("pass_number", Integer, nullable=False),
    Column("planning", Boolean, nullable=False, default=True),
    Column("note", Text, nullable=False, default=""),
    Column("problem", Text, nullable=False, default=""),
    Column("created", Float, nullable=False),
    Column("started", Float),
    Column("finished", Float),
)

cursors = Table(
    "cursors",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("source", String(64), primary_key=True),
    Column("cursor", BigInteger),
    Column("inventoried_pass", Integer, nullable=False, default=0),
    Column("left_out", BigInteger, nullable=False, default=0),
    Column("left_out_pass", Integer, nullable=False, default=0),
)

studies = Table(
    "studies",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("pass_number", Integer, nullable=False),
    Column("source", String(64), nullable=False),
    Column("study_uid", String(64), nullable=False),
    Column("ref", Text, nullable=False),
    Column("patient_name", Text, nullable=False, default=""),
    Column("patient_id", Text, nullable=False, default=""),
    Column("birth_date", String(32), nullable=False, default=""),
    Column("sex", String(16), nullable=False, default=""),
    Column("study_date", String(32), nullable=False, default=""),
    Column("study_time", String(32), nullable=False, default=""),
    Column("description", Text, nullable=False, default=""),
    Column("accession", Text, nullable=False, default=""),
    Column("modalities", Text, nullable=False, default=""),
    Column("listed", Float),
    Column("settled", Float),
    UniqueConstraint("job_id", "pass_number", "source", "study_uid"),
)

series = Table(
    "series",
    metadata,
    Column("study_id", ForeignKey("studies.id", ondelete="CASCADE"), primary_key=True),
    Column("series_uid", String(64), primary_key=True),
    Column("number", String(16), nullable=False, default=""),
    Column("modality", String(16), nullable=False, default=""),
    Column("description", Text, nullable=False, default=""),
)

instances = Table(
    "instances",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("study_id", ForeignKey("studies.id", ondelete="CASCADE"), nullable=False),
    Column("sop_uid", String(64), nullable=False),
    Column("series_uid", String(64), nullable=False),
    Column("sop_class", String(64), nullable=False, default=""),
    Column("ref", Text, nullable=False),
    Column("size", BigInteger),
    Column("digest", String(64)),
    Column("transfer_syntax", String(64)),
    Column("source_state", String(16), nullable=False),
    Column("source_answer", Text),
    Column("source_at", Float),
    UniqueConstraint("study_id", "sop_uid"),
)

transfers = Table(
    "transfers",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("studies.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("job_id", Integer, nullable=False),
    Column("pass_number", Integer, nullable=False),
    Column("source", String(64), nullable=False),
    Column("destination", String(64), nullable=False),
    Column("instead_of", String(64), nullable=False, default=""),
    Column("path", String(16), nullable=False, default=""),
    Column("path_reason", Text, nullable=False, default=""),
    Column("priority", Integer, nullable=False, default=0),
    Column("overwrite", Boolean, nullable=False, default=False),
    Column("planned", Integer, nullable=False, default=0),
    Column("sending", Integer, nullable=False, default=0),
    Column("sent", Integer, nullable=False, default=0),
    Column("verified", Integer, nullable=False, default=0),
    Column("committed", Integer, nullable=False, default=0),
    Column("skipped", Integer, nullable=False, default=0),
    Column("conflict", Integer, nullable=False, default=0),
    Column("failed", Integer, nullable=False, default=0),
    Column("cancelled", Integer, nullable=False, default=0),
    Column("bytes_total", BigInteger, nullable=False, default=0),
    Column("bytes_done", BigInteger, nullable=False, default=0),
    Column("state", String(16), nullable=False),
    Column("needs_person", Boolean, nullable=False, default=False),
    Column("reason", Text, nullable=False, default=""),
    Column("next_step", Text, nullable=False, default=""),
    Column("attempt", Integer, nullable=False, default=0),
    Column("next_attempt", Float),
    Column("started", Float),
    Column("updated", Float, nullable=False),
    Column("revision", BigInteger, nullable=False, default=0),
    Index("ix_transfers_job_pass_state", "job_id", "pass_number", "state"),
    Index("ix_transfers_revision", "revision"),
    Index("ix_transfers_state", "state"),
)

failures = Table(
    "failures",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("code", String(64), nullable=False),
    Column("class", String(16), nullable=False),
    Column("sentence", Text, nullable=False),
    Column("next_step", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("side", String(16), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("transfer_id", ForeignKey("transfers.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("instance_id", ForeignKey("instances.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("path", String(16)),
    Column("planned_at", Float, nullable=False),
    Column("sent_at", Float),
    Column("answer", Text),
    Column("destination_ref", Text),
    Column("method", String(16)),
    Column("evidence_at", Float),
    Column("evidence_digest", String(64)),
    Column("evidence_note", Text),
    Column("failure_id", ForeignKey("failures.id")),
    Column("next_attempt", Float),
)
Index(  # failures are few among very many deliveries, and asked for often
    "ix_deliveries_failure",
    deliveries.c.failure_id,
    deliveries.c.transfer_id,
    deliveries.c.state,
    sqlite_where=deliveries.c.failure_id.is_not(None),
)

changes = Table(  # what processing steps made of an instance; written before it is sent
    "changes",
    metadata,
    Column("delivery_id", ForeignKey("deliveries.id", ondelete="CASCADE"), primary_key=True),
    Column("sop_uid", String(64), nullable=False),
    Column("series_uid", String(64), nullable=False),
    Column("study_uid", String(64), nullable=False),
    Column("patient_id", Text, nullable=False),
    Column("source_digest", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("done", Text, nullable=False),
)

commands = Table(
    "commands",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("verb", String(32), nullable=False),
    Column("job_id", Integer),
    Column("transfer_id", Integer),
    Column("origin", String(64), nullable=False, default=""),
    Column("handled", Float),
)

log = Table(
    "log",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("level", String(16), nullable=False),
    Column("text", Text, nullable=False),
    Column("job_id", Integer),
    Column("node", String(64), nullable=False, default=""),
    Column("detail", Text, nullable=False, default=""),
)
