"""The tables of the spool's catalogue. What stands in them can be had again from the files."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text

VERSION = 1
"""Kept as ``user_version``: a catalogue of another version is made anew from the files."""

metadata = MetaData()

studies = Table(
    "studies",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_uid", String(64), nullable=False, unique=True),
    Column("patient_id", Text, nullable=False),
    Column("study_date", Text, nullable=False),
    Column("accession", Text, nullable=False),
    Column("attributes", Text, nullable=False),  # JSON, by keyword
    Column("last", Float, nullable=False),  # when an instance came last
    Column("settled", BigInteger, unique=True),  # sequence number of "stable"; null while it is not
)
Index("studies_patient", studies.c.patient_id)
Index("studies_date", studies.c.study_date)
Index("studies_accession", studies.c.accession)
Index("studies_unsettled", studies.c.last, sqlite_where=studies.c.settled.is_(None))

series = Table(
    "series",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("studies.id"), nullable=False),
    Column("series_uid", String(64), nullable=False),
    Column("modality", Text, nullable=False),
    Column("attributes", Text, nullable=False),
    Column("last", Float, nullable=False),
    Column("settled", BigInteger, unique=True),
)
Index("series_of_study", series.c.study_id, series.c.series_uid, unique=True)
Index("series_uid", series.c.series_uid)
Index("series_unsettled", series.c.last, sqlite_where=series.c.settled.is_(None))

instances = Table(
    "instances",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),  # its sequence number too
    Column("sop_uid", String(64), nullable=False, unique=True),
    Column("series_id", ForeignKey("series.id"), nullable=False),
    Column("sop_class", String(64), nullable=False),
    Column("transfer_syntax", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("digest", String(32), nullable=False),
    Column("data_offset", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("received", Float, nullable=False),
    Column("sender", Text, nullable=False),
    Column("attributes", Text, nullable=False),
)
Index("instances_of_series", instances.c.series_id, instances.c.sop_uid)
Index("instances_of_class", instances.c.sop_class, instances.c.transfer_syntax)

garbage = Table("garbage", metadata, Column("name", Text, primary_key=True))
"""Files of instances that are deleted and may not be gone from the disk yet."""

state = Table(
    "state",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""Two rows: "sequence", the number given last, which only grows, also when the catalogue is made anew; and "filled",
once every file that lay there has its record."""
