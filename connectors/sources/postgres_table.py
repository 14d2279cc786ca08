"""What PostgreSQL's catalogs say of a table: its columns, keys, indexes, partitions.

Catalogs: https://www.postgresql.org/docs/current/catalogs.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rowtrail.connectors.errors import ConfigurationError, TransientError
from rowtrail.connectors.postgres_client import quote
from rowtrail.connectors.sources.postgres_connection import Connection
from rowtrail.connectors.sources.postgres_names import locate


@dataclass(frozen=True, kw_only=True)
class TableColumn:
    """A column. A domain counts as the type that it is made of, whatever lies between."""

    name: str
    number: int  # attnum
    declared: str  # the column's own type as format_type writes it, such as numeric(10,2)
    base: str  # the same of the base type; differs from `declared` for domains only
    type_oid: int  # of the base type
    type_schema: str
    type_name: str  # pg_type.typname, such as int4, bpchar or _text
    type_kind: str  # pg_type.typtype: b base, e enum, c composite, r range, m multirange
    type_modifier: int  # -1: none
    own_oid: int  # of the column's own type, as the log tells it
    own_modifier: int
    casts_to_text: bool  # `::text` is a function of its own, and may differ from the output
    not_null: bool
    generated: bool
    identity: bool
    collation: str  # of text: its name, such as C or default; empty for types without
    deterministic: bool  # equal texts have equal bytes under this collation

    @property
    def sql_type(self) -> str:
        """The base type as SQL names it, without its modifier."""
        return f"{quote(self.type_schema)}.{quote(self.type_name)}"

    @property
    def is_builtin(self) -> bool:
        return self.type_schema == "pg_catalog"


@dataclass(frozen=True, kw_only=True)
class UniqueIndex:
    name: str
    columns: tuple[str | None, ...]  # None: an expression
    partial: bool  # of the rows that a WHERE chooses
    immediate: bool  # False: a DEFERRABLE constraint's, which may not hold within a transaction

    @property
    def is_plain(self) -> bool:
        return None not in self.columns and not self.partial


@dataclass(frozen=True, kw_only=True)
class Partition:
    """A leaf of a partitioned table, which has rows."""

    oid: int
    schema: str
    name: str


@dataclass(frozen=True, kw_only=True)
class SourceTable:
    schema: str
    relation: str
    oid: int
    kind: str  # pg_class.relkind: r table, p partitioned, v view, m materialized view, f foreign
    columns: tuple[TableColumn, ...]
    primary_key: tuple[str, ...]  # in key order
    unique: tuple[UniqueIndex, ...]
    replica_identity: str  # pg_class.relreplident: d default, f full, n nothing, i index
    identity_columns: tuple[str, ...]  # that the log names a row by; empty: by nothing
    partitions: tuple[Partition, ...]  # the leaves of a partitioned table
    is_partition: bool
    has_heirs: bool  # tables that inherit from it the old way; reading it reads them too

    @property
    def name(self) -> str:
        """For messages and the schema: without `public`."""
        return self.relation if self.schema == "public" else f"{self.schema}.{self.relation}"

    @property
    def sql(self) -> str:
        """As SQL names it."""
        return f"{quote(self.schema)}.{quote(self.relation)}"

    @property
    def what(self) -> str:
        return _KINDS[self.kind]

    def column(self, name: str) -> TableColumn:
        """By its name; in lower case where there is none in that spelling."""
        for wanted in (name, name.lower()):
            for column in self.columns:
                if column.name == wanted:
                    return column
        raise ConfigurationError(
            f"Table {self.name} has no column {name}. It has "
            f"{', '.join(column.name for column in self.columns)}: mend the stream's settings."
        )

    def resolved(self, names: Sequence[str]) -> tuple[str, ...]:
        """The names as the database spells them."""
        return tuple(self.column(name).name for name in names)

    @property
    def guarded_keys(self) -> tuple[tuple[str, ...], ...]:
        """Columns that take no NULL and that a constraint keeps unique together."""
        whole = {column.name for column in self.columns if column.not_null}
        return tuple(
            tuple(name for name in index.columns if name is not None)
            for index in self.unique
            if index.is_plain and set(index.columns) <= whole and not self.has_heirs
        )

    @property
    def key_advice(self) -> str:
        """How a table without a key gets one, as a clause behind "or"."""
        view = (
            f"read with capture `snapshot` a view that tells rows by what they hold, with "
            f'key = ["row_hash", "occurrence"]: CREATE VIEW {quote(self.schema)}.'
            f"{quote(f'{self.relation}_keyed')} AS SELECT md5(t::text) AS row_hash, row_number() "
            f"OVER (PARTITION BY t::text) AS occurrence, t.* FROM {self.sql} AS t"
        )
        if self.kind not in ("r", "p"):
            return view
        return (
            f"give it one: ALTER TABLE {self.sql} ADD COLUMN row_id bigint GENERATED ALWAYS AS "
            f"IDENTITY PRIMARY KEY; or {view}"
        )

    def is_unique(self, names: Sequence[str]) -> bool:
        """Whether a constraint guarantees that no two rows are equal in these columns.

        An index says nothing of the rows of tables that inherit.
        """
        return not self.has_heirs and any(
            index.is_plain and set(index.columns) <= set(names) for index in self.unique
        )

    def is_always_unique(self, names: Sequence[str]) -> bool:
        """Whether that holds at each moment within a transaction, too."""
        immediate = tuple(index for index in self.unique if index.immediate)
        return replace(self, unique=immediate).is_unique(names)


_KINDS = {
    "r": "table",
    "p": "partitioned table",
    "v": "view",
    "m": "materialized view",
    "f": "foreign table",
}


_ATTEMPTS = 5
"""A table that is made again so often while it is described is left alone."""


def find_table(connection: Connection, name: str) -> SourceTable:
    """The table that `StreamSpec.table` means (see `postgres_names`).

    Raises ConfigurationError when there is none, or it is one of Rowtrail's own, TransientError
    when it is dropped and made again all the time.
    """
    for _ in range(_ATTEMPTS):
        oid = locate(connection, name)
        found = _read_table(connection, oid)
        # Dropped and made again meanwhile, what was read may be of both, or of nothing.
        if found is not None and locate(connection, name) == oid:
            return found
    raise TransientError(
        f"Table {name} at {connection.name} is dropped and made again all the time, so that it "
        f"cannot be described. Try again when that has ended."
    )


def _read_table(connection: Connection, oid: int) -> SourceTable | None:
    """None where there is no table of that number any more."""
    rows = connection.records(
        "SELECT n.nspname, c.relname, c.relkind::text, c.relreplident::text, c.relispartition, "
        "c.relkind = 'r' AND EXISTS (SELECT FROM pg_catalog.pg_inherits AS i "
        "WHERE i.inhparent = c.oid) "
        "FROM pg_catalog.pg_class AS c "
        "JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = %s",
        (oid,),
    )
    if not rows:
        return None
    schema, relation, kind, replica_identity, is_partition, has_heirs = rows[0]
    columns = _columns(connection, oid)
    primary_key, immediate, identity, unique = _indexes(connection, oid, columns)
    identities = {
        "d": primary_key if immediate else (),
        "i": identity,
        "f": tuple(column.name for column in columns if not column.generated),
    }
    return SourceTable(
        schema=schema,
        relation=relation,
        oid=oid,
        kind=kind,
        columns=columns,
        primary_key=primary_key,
        unique=unique,
        replica_identity=replica_identity,
        identity_columns=identities.get(replica_identity, ()),
        partitions=_partitions(connection, oid) if kind == "p" else (),
        is_partition=is_partition,
        has_heirs=has_heirs,
    )


_COLUMNS = """
WITH RECURSIVE bases AS (
  SELECT a.attnum, a.atttypid AS oid, a.atttypmod AS modifier, a.attnotnull AS not_null, 0 AS depth
  FROM pg_catalog.pg_attribute AS a
  WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
  SELECT b.attnum, t.typbasetype,
    CASE WHEN b.modifier >= 0 THEN b.modifier ELSE t.typtypmod END,
    b.not_null OR t.typnotnull, b.depth + 1
  FROM bases AS b JOIN pg_catalog.pg_type AS t ON t.oid = b.oid WHERE t.typtype = 'd'
)
SELECT a.attname, a.attnum, pg_catalog.format_type(a.atttypid, a.atttypmod),
  pg_catalog.format_type(b.oid, b.modifier), b.oid::int8, n.nspname, t.typname, t.typtype::text,
  b.modifier, a.atttypid::int8, a.atttypmod,
  EXISTS (SELECT FROM pg_catalog.pg_cast AS c WHERE c.castsource = b.oid
    AND c.casttarget = 'pg_catalog.text'::pg_catalog.regtype AND c.castmethod = 'f'),
  b.not_null, a.attgenerated <> '', a.attidentity <> '',
  coalesce(l.collname, ''), coalesce(l.collisdeterministic, true)
FROM bases AS b
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = %(oid)s AND a.attnum = b.attnum
JOIN pg_catalog.pg_type AS t ON t.oid = b.oid
JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
LEFT JOIN pg_catalog.pg_collation AS l ON l.oid = a.attcollation
WHERE t.typtype <> 'd'
ORDER BY a.attnum
"""


def _columns(connection: Connection, oid: int) -> tuple[TableColumn, ...]:
    return tuple(
        TableColumn(
            name=name,
            number=number,
            declared=declared,
            base=base,
            type_oid=type_oid,
            type_schema=type_schema,
            type_name=type_name,
            type_kind=type_kind,
            type_modifier=modifier,
            own_oid=own_oid,
            own_modifier=own_modifier,
            casts_to_text=casts_to_text,
            not_null=not_null,
            generated=generated,
            identity=identity,
            collation=collation,
            deterministic=deterministic,
        )
        for (
            name,
            number,
            declared,
            base,
            type_oid,
            type_schema,
            type_name,
            type_kind,
            modifier,
            own_oid,
            own_modifier,
            casts_to_text,
            not_null,
            generated,
            identity,
            collation,
            deterministic,
        ) in connection.records(_COLUMNS.replace("%(oid)s", str(oid)))
    )


def _indexes(
    connection: Connection, oid: int, columns: Sequence[TableColumn]
) -> tuple[tuple[str, ...], bool, tuple[str, ...], tuple[UniqueIndex, ...]]:
    """Primary key and whether it is not DEFERRABLE, columns of the index that is the replica
    identity, all unique indexes."""
    names = {column.number: column.name for column in columns}
    primary: tuple[str, ...] = ()
    immediate = False
    identity: tuple[str, ...] = ()
    unique = []
    for name, is_primary, is_immediate, is_identity, partial, numbers in connection.records(
        "SELECT c.relname, i.indisprimary, i.indimmediate, i.indisreplident, "
        "i.indpred IS NOT NULL, "
        "(i.indkey::int2[])[0:i.indnkeyatts - 1] "
        "FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid "
        "WHERE i.indrelid = %s AND i.indisunique AND i.indisvalid "
        "ORDER BY i.indisprimary DESC, c.relname",
        (oid,),
    ):
        keyed = tuple(names.get(number) for number in numbers)
        unique.append(
            UniqueIndex(name=name, columns=keyed, partial=partial, immediate=is_immediate)
        )
        whole = tuple(column for column in keyed if column is not None)
        if is_primary:
            primary, immediate = whole, is_immediate
        identity = whole if is_identity else identity
    return primary, immediate, identity, tuple(unique)


def _partitions(connection: Connection, oid: int) -> tuple[Partition, ...]:
    rows = connection.records(
        "SELECT c.oid::int8, n.nspname, c.relname "
        "FROM pg_catalog.pg_partition_tree(%s::int8::oid::regclass) AS p "
        "JOIN pg_catalog.pg_class AS c ON c.oid = p.relid "
        "JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace "
        "WHERE p.isleaf AND p.relid <> %s::int8::oid ORDER BY n.nspname, c.relname",
        (oid, oid),
    )
    return tuple(Partition(oid=part, schema=schema, name=name) for part, schema, name in rows)
