"""The settings of a pipeline's TOML file, as models: what there is, of which type, and what for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from rowtrail.connectors.base import DEFAULT_BATCH_ROWS
from rowtrail.pipelines.ages import parse_age
from rowtrail.pipelines.definition import (
    DEFAULT_READERS,
    DEFAULT_RETRIES,
    LONGEST_SLOT,
    Breakers,
)
from rowtrail.pipelines.definition_mistakes import MOST_READERS
from rowtrail.pipelines.sizes import parse_size

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"type": ["string", "integer"]}),
]
"""Bytes, also as text with a unit."""

Age = Annotated[timedelta, BeforeValidator(parse_age), WithJsonSchema({"type": "string"})]
"""A length of time, as text with a unit."""

NAME_PATTERN = r"^[A-Za-z0-9_.-]+$"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ContractSection(_Section):
    """What becomes of a stream whose source has changed its shape since `rowtrail.lock` was
    written: it goes along (`evolve`, if not set), it stops (`freeze`), the column is left out
    (`discard`), or the rows that do not fit are held back (`quarantine`)."""

    new_column: Annotated[
        Literal["evolve", "freeze", "discard", "quarantine"],
        Field(description="The source has a column more."),
    ] = "evolve"
    dropped_column: Annotated[
        Literal["evolve", "freeze"], Field(description="The source has a column less.")
    ] = "evolve"
    type_change: Annotated[
        Literal["evolve", "freeze", "discard", "quarantine"],
        Field(description="A column has another type; one of the key is a `key_change`."),
    ] = "evolve"
    nullability: Annotated[
        Literal["evolve", "freeze", "quarantine"],
        Field(description="A column that took no NULL may be NULL."),
    ] = "evolve"
    key_change: Annotated[
        Literal["evolve", "freeze"],
        Field(description="The key has other columns, or one of another type."),
    ] = "evolve"


class _OneForAll:
    """A word in place of the table: that mode for every kind of change."""

    WORDS = ("evolve", "freeze")

    @classmethod
    def spelled_out(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value not in cls.WORDS:
            raise ValueError(
                f"should be {' or '.join(cls.WORDS)}, or a table with a mode for each kind of "
                f'change, such as {{ new_column = "discard" }}'
            )
        return dict.fromkeys(ContractSection.model_fields, value)

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [{"enum": list(self.WORDS)}, handler(core_schema)]}


Contract = Annotated[ContractSection, BeforeValidator(_OneForAll.spelled_out), _OneForAll()]


Bound = Annotated[Any, WithJsonSchema({"type": ["number", "string"]})]
"""A number, a text, or a date or time as TOML has them."""
Member = Annotated[Any, WithJsonSchema({"type": ["number", "string", "boolean"]})]


class CheckSection(_Section):
    """What is asked of a column's values, in the rows as they are loaded. NULL passes all but
    `not_null`."""

    not_null: Annotated[bool | None, Field(description="Whether NULL breaks it.")] = None
    unique: Annotated[
        bool | None,
        Field(
            description="Whether a value that several rows of a batch have breaks it: in all of "
            'them, since none is known to be the right one. With `deletes = "history"` versions of '
            "one record may have it."
        ),
    ] = None
    min: Annotated[
        Bound,
        Field(
            description="Least value: a number, a date, a time or text, as the column has them. "
            "NaN breaks it."
        ),
    ] = None
    max: Annotated[Bound, Field(description="Greatest value, likewise.")] = None
    pattern: Annotated[
        str | None,
        Field(
            description="Regular expression (RE2) that a text matches from its first character to "
            "its last."
        ),
    ] = None
    one_of: Annotated[
        list[Member] | None, Field(alias="in", description="All values that there are.")
    ] = None
    severity: Annotated[
        Literal["fail", "warn"],
        Field(
            description="What becomes of a row that breaks it: a failed record, or it is loaded "
            "and the run tells of it."
        ),
    ] = "fail"


def _several(value: object) -> object:
    return [value] if isinstance(value, Mapping) else value


class _TableOrTables:
    """A table in place of a list of one."""

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        several = handler(core_schema)
        return {"anyOf": [several["items"], several]}


Checks = Annotated[list[CheckSection], BeforeValidator(_several), _TableOrTables()]


class PipelineSection(_Section):
    """What the whole pipeline shares."""

    name: Annotated[
        str,
        Field(
            pattern=NAME_PATTERN,
            description="Name of the pipeline: letters, digits, `_`, `.` and `-`. It names the "
            "ledger, and the pipeline at the target.",
        ),
    ]
    source: Annotated[
        str, Field(description="URL of the database to read, for example `sqlite:///shop.db`.")
    ]
    destination: Annotated[
        str,
        Field(description="URL of the warehouse, for example `duckdb:///warehouse.duckdb`."),
    ]
    ledger: Annotated[
        str | None,
        Field(description="File of the ledger; `.rowtrail/NAME.ledger` if not set."),
    ] = None
    install_capture: Annotated[
        bool,
        Field(
            description="Whether a run may make what captures need at the source: publication and "
            "slot, or change logs and triggers. Otherwise only `rowtrail init --capture` does, "
            "which shows the SQL and asks."
        ),
    ] = False
    slot: Annotated[
        str | None,
        Field(
            pattern=rf"^[a-z0-9_]{{1,{LONGEST_SLOT}}}$",
            description="Capture `log`: name of the replication slot and of the publication that "
            "the streams share, 1 to 63 of `a` to `z`, `0` to `9` and `_`. `rowtrail_NAME` if not "
            "set, after the pipeline.",
        ),
    ] = None
    readers: Annotated[
        int,
        Field(
            ge=1,
            le=MOST_READERS,
            description="Capture `log`: how many connections read a first snapshot side by side.",
        ),
    ] = DEFAULT_READERS
    retained_log: Annotated[
        Size | None,
        Field(
            description="Capture `log`: how much of its log the source may keep for a stream that "
            'is stopped, paused or not run, such as `"500MB"`; a number alone is bytes. A stream '
            "above it is given up: it needs a new snapshot, and no longer holds the log. "
            '`"10GB"` if not set.'
        ),
    ] = None
    image_key: Annotated[
        str | list[str] | None,
        Field(
            description="Key that encrypts the rows of failed records in the ledger, such as "
            '`"${ROWTRAIL_IMAGE_KEY}"`; of a list the first encrypts, and each is tried to '
            "decrypt. Needs `pip install 'rowtrail[encryption]'`. Not encrypted if not set."
        ),
    ] = None
    lock: Annotated[
        str | None,
        Field(
            description="File of the shapes that the source's tables were agreed to have, which "
            "`rowtrail schema --accept` writes; named like the pipeline file, with `.lock`, if not "
            "set."
        ),
    ] = None
    archive: Annotated[
        str | None,
        Field(
            description="Folder, or URL for fsspec such as `s3://bucket/archive`, in which every "
            "batch is kept as it was read, as Parquet: `rowtrail replay --from archive` rebuilds a "
            "target from it. No archive if not set."
        ),
    ] = None


class StreamSection(_Section):
    """One source table and the target table that it fills. What is not set is as in [defaults]."""

    table: Annotated[
        str | None, Field(description="The source table; the stream's name if not set.")
    ] = None
    target: Annotated[
        str | None, Field(description="The target table; the stream's name if not set.")
    ] = None
    exclude_tables: Annotated[
        list[str] | None,
        Field(
            description="Of a pattern: names and patterns of tables that it leaves out; none if "
            "not set."
        ),
    ] = None
    new_tables: Annotated[
        Literal["take", "report"] | None,
        Field(
            description="Of a pattern: whether a table that is made later becomes a stream by "
            "itself (`take`, if not set), or every run only reports it."
        ),
    ] = None
    capture: Annotated[
        Literal["log", "trigger", "cursor", "snapshot"] | None,
        Field(
            description="How changes are found: in the database's own log (PostgreSQL), in a "
            "change log that triggers fill, by an updated-at column (with a comparison of keys for "
            "deletes), or by a full read that is compared with the last one. Must be set here or "
            "in [defaults]."
        ),
    ] = None
    deletes: Annotated[
        Literal["soft", "hard", "history"] | None,
        Field(
            description="What a delete does at the target: the row stays with "
            "`_rowtrail_deleted_at` set (`soft`, if not set), it goes (`hard`), or every version "
            "of it stays, with the time for which it held (`history`: SCD2, under policy `block`)."
        ),
    ] = None
    key: Annotated[
        list[str] | None,
        Field(description="Columns that identify a row; the primary key if not set."),
    ] = None
    cursor: Annotated[
        str | None,
        Field(description='The updated-at column; needed with `capture = "cursor"`.'),
    ] = None
    cursor_lag: Annotated[
        float | None,
        Field(
            ge=0,
            description="How far before the last cursor value each read starts again, for rows "
            "committed late: seconds, or units of a numeric cursor. 0 if not set; of Snowflake's "
            "times an hour.",
        ),
    ] = None
    columns: Annotated[list[str] | None, Field(description="Columns to take; all if not set.")] = (
        None
    )
    exclude: Annotated[
        list[str] | None, Field(description="Columns to leave out; none if not set.")
    ] = None
    types: Annotated[
        dict[str, str] | None,
        Field(
            description="Type by column or by declared type, where the source's own cannot be "
            'mapped, for example `amount = "decimal(12,2)"`. Added to those of [defaults].'
        ),
    ] = None
    transforms: Annotated[
        list[str] | None,
        Field(description="Transforms as `module:function`, in the order in which they run."),
    ] = None
    batch_rows: Annotated[
        int | None,
        Field(
            ge=1,
            le=1_000_000,
            description=f"Most changes in one batch; {DEFAULT_BATCH_ROWS} if not set, and into "
            "Snowflake as many as are gathered there.",
        ),
    ] = None
    capture_images: Annotated[
        bool | None,
        Field(
            description="Whether the ledger keeps the row of a failed record, so that a retry need "
            "not read it again. `true` if not set."
        ),
    ] = None
    image_bytes: Annotated[
        Size | None,
        Field(
            description="Largest row of a failed record that the ledger keeps, such as "
            '`"200kB"`; a number alone is bytes. `"1MB"` if not set.'
        ),
    ] = None
    redact: Annotated[
        list[str] | None,
        Field(
            description="Columns whose values are not to be in the ledger, in messages or in "
            "`_rowtrail_gaps`; the target gets them. Added to those of [defaults]; none if not set."
        ),
    ] = None
    policy: Annotated[
        Literal["latest", "block", "reread"] | None,
        Field(
            description="What becomes of later changes of a record while one of its changes is "
            "failed: they are loaded and take its place (`latest`, if not set), they wait behind "
            "it in order (`block`), or they are loaded and, besides, each run fetches the row of a "
            "failed record again (`reread`)."
        ),
    ] = None
    retries: Annotated[
        int | None,
        Field(
            ge=0,
            description="How often runs try a failed record again by themselves: after 1, 4, 16 … "
            "minutes, at most a day, and at once when the transforms' code has changed. Then a "
            f"person decides. {DEFAULT_RETRIES} if not set; 0 for never.",
        ),
    ] = None
    contract: Annotated[
        Contract | None,
        Field(
            description="What becomes of the stream when its source has another shape than "
            "`rowtrail.lock` says: `freeze` or `evolve` for every kind of change, or a table."
        ),
    ] = None
    checks: Annotated[
        dict[str, Checks] | None,
        Field(
            description="What is asked of the rows before they are loaded, by column: a table, or "
            "a list of tables. Those of [defaults] are asked of every column that says nothing "
            "else, where a table has it."
        ),
    ] = None
    expectations: Annotated[
        str | list[str] | None,
        Field(
            description="File with a suite of Great Expectations 1.x, JSON or YAML, that each "
            "batch is held to before it is loaded; or a list of files. Needs `pip install "
            "'rowtrail[expectations]'`."
        ),
    ] = None
    archive: Annotated[
        bool | None,
        Field(
            description="Whether its batches go into the pipeline's archive, if there is one. "
            "`true` if not set."
        ),
    ] = None


class RetentionSection(_Section):
    """How long the ledger and the archive keep what has ended. A run drops what is older, once a
    day."""

    images: Annotated[
        Age | None,
        Field(
            description="How long rows of failed records are kept once the failure has ended, such "
            'as `"30d"`. For ever if not set.'
        ),
    ] = None
    trails: Annotated[
        Age | None,
        Field(
            description="How long trails are kept: what was loaded, failures that have ended and "
            'decisions, such as `"1y"`. For ever if not set.'
        ),
    ] = None
    archive: Annotated[
        Age | None,
        Field(
            description="How long batches stay in the archive, the last of each stream whatever "
            'its age, such as `"1y"`. For ever if not set.'
        ),
    ] = None


class BreakersSection(_Section):
    """When a stream stops and asks, counted over one run of the stream."""

    failed_records: Annotated[int, Field(ge=0, description="Most records that may fail.")] = (
        Breakers.failed_records
    )
    failed_share: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Largest share of the changes read that may fail, once `sample` were read.",
        ),
    ] = Breakers.failed_share
    deleted_share: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Largest share of the target's rows that may be deleted, when it has "
            "`sample` rows or more; all of them count from ten rows on. "
            "`rowtrail run --allow-deletes` allows more once.",
        ),
    ] = Breakers.deleted_share
    sample: Annotated[
        int, Field(ge=1, description="From how many records on a share means something.")
    ] = Breakers.sample
    waiting_records: Annotated[
        int,
        Field(
            ge=0,
            description="Policy `block`: most changes of a stream that may wait behind failed "
            "ones.",
        ),
    ] = Breakers.waiting_records
    attempts: Annotated[
        int,
        Field(ge=1, description="Most attempts that a batch may spend on finding bad records."),
    ] = Breakers.attempts


class PipelineFile(_Section):
    """A pipeline's TOML file. `${NAME}` in a text stands for an environment variable."""

    pipeline: PipelineSection
    defaults: Annotated[
        StreamSection, Field(description="What holds for every stream that says nothing else.")
    ] = StreamSection()
    streams: Annotated[
        dict[str, StreamSection],
        Field(
            description="The streams by name: `[streams.orders]`, or by a pattern of tables' "
            'names: `[streams."public.*"]`.'
        ),
    ]
    breakers: BreakersSection = BreakersSection()
    retention: RetentionSection = RetentionSection()


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the file, for editors; published as docs/rowtrail.schema.json."""
    schema = PipelineFile.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "rowtrail.toml",
    }


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=2))
