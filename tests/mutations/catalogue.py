"""The deliberate bugs: each is one exact replacement in one file, and the tests that catch it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

_DUCKDB = "tests/connectors/test_duckdb_destination.py::TestDuckdb::"
_SNOWFLAKE = "tests/connectors/test_snowflake_destination.py::TestSnowflake::"
_POSTGRES = "tests/connectors/test_postgres_destination.py::TestPostgres::"
_PIPELINES = "tests/pipelines/"
_FAILED = _PIPELINES + "test_failed_records.py::"
_CRASH = _PIPELINES + "test_crash.py::test_a_crash_leaves_no_trace_once_resumed"
_LEDGER = "tests/checkpoints/test_sqlite_ledger.py::TestSqliteLedger::"


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """`before` is in the file exactly once."""

    name: str
    bug: str  # what somebody might have written, as a sentence
    path: str  # from the root
    before: str
    after: str
    tests: tuple[str, ...]  # what pytest is given

    def applied(self, text: str) -> str:
        """The file's text with the bug; raises ValueError unless it applies exactly once."""
        found = text.count(self.before)
        if found != 1:
            raise ValueError(
                f"Mutation {self.name} applies {found} times to {self.path}, not once. The code "
                f"has changed: let its `before` be the lines that do the same now, in "
                f"tests/mutations/catalogue.py."
            )
        return text.replace(self.before, self.after)


MUTATIONS = (
    Mutation(
        name="receipt-outside-the-transaction",
        bug="The receipt is written in a transaction of its own, after that of the rows.",
        path="connectors/destinations/duckdb.py",
        before="            receipts.write_receipt(work,",
        after="        with self._transaction(doing, keep=not probe) as work:\n"
        "            receipts.write_receipt(work,",
        tests=(_DUCKDB + "test_rows_and_receipt_come_together_or_not_at_all",),
    ),
    Mutation(
        name="receipt-outside-the-transaction-postgres",
        bug="The same at a PostgreSQL target.",
        path="connectors/destinations/postgres.py",
        before="            receipts.write_receipt(work,",
        after="        with self._transaction(doing, keep=not probe) as work:\n"
        "            receipts.write_receipt(work,",
        tests=(_POSTGRES + "test_rows_and_receipt_come_together_or_not_at_all",),
    ),
    Mutation(
        name="equal-version-overwrites",
        bug="The fence lets an equal version pass: `<=` where `<` belongs.",
        path="connectors/destinations/duckdb_merge.py",
        before="""({quoted(VERSION_COLUMNS, 't.')}) >= \"""",
        after="""({quoted(VERSION_COLUMNS, 't.')}) > \"""",
        tests=(_DUCKDB + "test_an_equal_version_is_superseded",),
    ),
    Mutation(
        name="equal-version-overwrites-postgres",
        bug="The same at a PostgreSQL target.",
        path="connectors/destinations/postgres_apply.py",
        before="""({quoted(VERSION_COLUMNS, 't.')}) >= (""",
        after="""({quoted(VERSION_COLUMNS, 't.')}) > (""",
        tests=(_POSTGRES + "test_an_equal_version_is_superseded",),
    ),
    Mutation(
        name="position-before-the-commit",
        bug="The stream's position moves when the manifest is prepared, before the target has it.",
        path="checkpoints/batches.py",
        before="            manifests.write(connection, row.id, row.stream_id, stored)\n",
        after="            manifests.write(connection, row.id, row.stream_id, stored)\n"
        "            streams.change(connection, row.stream_id, position=manifest.position_after)\n",
        tests=(_LEDGER + "test_a_prepared_batch_moves_nothing",),
    ),
    Mutation(
        name="ledger-closes-before-the-write",
        bug="The ledger closes the batch, and only then is it written to the target.",
        path="pipelines/commit.py",
        before="                superseded = write(",
        after="                nothing = pa.array([], pa.uint32())\n"
        "                lane.ledger.batches.close(batch.batch_id, nothing)\n"
        "                superseded = write(",
        tests=(
            _PIPELINES + "test_lost_replies.py::test_cut_before_the_commit_until_patience_ends",
        ),
    ),
    Mutation(
        name="source-forgets-before-the-write",
        bug="The source may forget a batch that is not yet at the target.",
        path="pipelines/commit.py",
        before="        lane.faults(Point.PREPARED)\n",
        after="        lane.acknowledge(plan.position_after or changes.position)\n"
        "        lane.faults(Point.PREPARED)\n",
        tests=(_CRASH + "[trigger-prepared]",),
    ),
    Mutation(
        name="tombstone-forgotten",
        bug="A hard delete leaves no tombstone.",
        path="connectors/destinations/duckdb_merge.py",
        before="        bury = deleted\n",
        after="        bury = np.zeros(len(applied), dtype=np.bool_)\n",
        tests=(_DUCKDB + "test_a_deleted_row_is_not_brought_back",),
    ),
    Mutation(
        name="tombstone-forgotten-postgres",
        bug="The same at a PostgreSQL target.",
        path="connectors/destinations/postgres_apply.py",
        before="            self._bury()\n",
        after="",
        tests=(_POSTGRES + "test_a_deleted_row_is_not_brought_back",),
    ),
    Mutation(
        name="late-version-becomes-current",
        bug="In a history the version that came last is current, whatever its place.",
        path="connectors/destinations/history.py",
        before="ended AS (SELECT *, lead(starts) OVER ({ordered}) AS ends FROM timed)",
        after="ended AS (SELECT *, lead(starts) OVER (PARTITION BY k ORDER BY n NULLS FIRST, "
        "{_VERSION}) AS ends FROM timed)",
        tests=tuple(
            f"{one[:-2]}History::test_a_late_version_goes_to_its_place"
            for one in (_DUCKDB, _POSTGRES)
        ),
    ),
    Mutation(
        name="versions-of-a-batch-do-not-wait",
        bug="In a history newer versions are loaded past one of the same batch that failed.",
        path="pipelines/holding.py",
        before="        if stream.keeps_versions:\n",
        after="        if False:\n",
        tests=(_PIPELINES + "test_history.py::test_later_versions_wait_and_follow_in_order",),
    ),
    Mutation(
        name="gap-not-closed",
        bug="A record that is loaded at last stays in _rowtrail_gaps.",
        path="connectors/destinations/gaps.py",
        before="    touched = [*load.gaps_closed, *(",
        after="    touched = [*(",
        tests=(_DUCKDB + "test_gaps_open_and_close_with_the_rows",),
    ),
    Mutation(
        name="sweep-without-the-epoch",
        bug="What a new snapshot finds gone is deleted under the version of an earlier epoch, so "
        "that the fence keeps it.",
        path="connectors/capture/full_read.py",
        before="                keys_gone(engine, table, known, span, keys),\n"
        "                table,\n"
        "                version(page),\n",
        after="                keys_gone(engine, table, known, span, keys),\n"
        "                table,\n"
        "                version(page)._replace(epoch=1),\n",
        tests=(_PIPELINES + "test_superseded.py",),
    ),
    Mutation(
        name="batch-of-an-earlier-epoch-moves-the-new-one",
        bug="A batch that was read before a new snapshot was asked for moves its position.",
        path="checkpoints/batches.py",
        before="    if row.stream_epoch == row.epoch:\n",
        after="    if row.stream_epoch >= row.epoch:\n",
        tests=(_LEDGER + "test_a_batch_of_an_earlier_epoch_does_not_move_the_new_one",),
    ),
    Mutation(
        name="owner-row-not-checked",
        bug="A write does not look whether it has hit the owner row.",
        path="connectors/destinations/owner.py",
        before="    if touched == 1:\n",
        after="    if touched >= 0:\n",
        tests=(_PIPELINES + "test_takeover.py::test_a_paused_process_cannot_write_to_the_target",),
    ),
    Mutation(
        name="superseded-counted-as-loaded",
        bug="The result counts rows as loaded that the fence has kept out.",
        path="pipelines/commit.py",
        before="        loaded=int(np.count_nonzero(~late & ~deletes)),\n",
        after="        loaded=int(np.count_nonzero(~deletes)),\n",
        tests=(_PIPELINES + "test_superseded.py",),
    ),
    Mutation(
        name="superseded-kept-as-loaded",
        bug="The ledger is not told which rows the fence has kept out.",
        path="pipelines/commit.py",
        before="        rows = pc.indices_nonzero(superseded).cast(pa.uint32())\n",
        after="        rows = pa.array([], pa.uint32())\n",
        tests=(_PIPELINES + "test_superseded.py",),
    ),
    Mutation(
        name="held-records-not-left-out",
        bug="Reconciliation does not know the records that the ledger holds back.",
        path="pipelines/known.py",
        before="        if held is None:\n            return at_target\n",
        after="        return at_target\n",
        tests=(_FAILED + "test_a_delete_takes_the_place_of_a_failed_insert",),
    ),
    Mutation(
        name="recovery-takes-any-receipt",
        bug="Recovery closes a batch because its stream has a receipt, whichever batch that is of.",
        path="pipelines/recovery.py",
        before="        written = receipt is not None and receipt.batch_id == batch.batch_id\n",
        after="        written = receipt is not None\n",
        tests=(_CRASH + "[trigger-prepared]",),
    ),
    Mutation(
        name="older-target-not-noticed",
        bug="Recovery does not compare the ledger's last batch with the target's.",
        path="pipelines/recovery.py",
        before="    same = receipt is not None and receipt.batch_id == record.last_batch_id\n",
        after="    same = True\n",
        tests=(
            _PIPELINES
            + "test_recovery.py::test_an_older_target_stops_the_stream_until_it_is_read_anew",
        ),
    ),
    Mutation(
        name="replay-without-a-revision",
        bug="A replayed record keeps the version that it had, and loses against itself.",
        path="pipelines/fetching.py",
        before="changes.with_revision(revision)",
        after="changes.with_revision(0)",
        tests=(_FAILED + "test_a_replay_wins_over_itself_and_twice_changes_nothing",),
    ),
    Mutation(
        name="request-carried-out-twice",
        bug="Whoever asked carries a request out without looking whether another one has done it.",
        path="pipelines/requests.py",
        before="        if current.state is not DecisionState.PENDING:\n",
        after="        if False:\n",
        tests=(
            _PIPELINES
            + "test_many_requests.py::test_what_a_run_has_done_meanwhile_is_not_done_again",
        ),
    ),
    Mutation(
        name="breaker-never-speaks",
        bug="The search for bad records goes on when its budget of attempts is spent.",
        path="pipelines/isolation.py",
        before="        if self.limit is not None and self.spent >= self.limit:\n",
        after="        if self.limit is not None and self.spent > 100 * self.limit:\n",
        tests=(_PIPELINES + "test_isolation.py::test_a_budget_that_is_spent_stops_the_search",),
    ),
    Mutation(
        name="tombstones-stay-narrow",
        bug="A key is widened in the table, and not in the one that remembers what was deleted.",
        path="connectors/destinations/duckdb_layout.py",
        before="(target, layout, wanted), *_retype(target, table, tombstones, in_key)]",
        after="(target, layout, wanted)]",
        tests=(_DUCKDB + "test_a_key_is_widened_with_its_tombstones",),
    ),
    Mutation(
        name="integers-become-floats",
        bug="A column of integers is widened to floats, which hold them all, though not exactly.",
        path="connectors/destinations/postgres_types.py",
        before="    if wanted in _FLOATS or (in_key",
        after="    if (in_key",
        tests=(_POSTGRES + "test_a_column_of_another_kind_is_refused",),
    ),
    Mutation(
        name="a-key-becomes-decimals",
        bug="A key of integers is widened to decimals, so that each record gets another id.",
        path="connectors/destinations/duckdb_types.py",
        before=" or (in_key and existing in _INTEGERS and wanted not in _INTEGERS):",
        after=":",
        tests=(_DUCKDB + "test_a_key_does_not_become_one_of_another_kind",),
    ),
    Mutation(
        name="snowflake-takes-an-equal-version",
        bug="Snowflake merges a version that it has already, so that a late replay changes a row.",
        path="connectors/destinations/snowflake_merge.py",
        before="_STAGED_VERSION, or_same=True)",
        after="_STAGED_VERSION, or_same=False)",
        tests=(_SNOWFLAKE + "test_an_equal_version_is_superseded",),
    ),
    Mutation(
        name="ddl-in-a-transaction",
        bug="A table is dropped in a transaction, which Snowflake would commit half done.",
        path="connectors/destinations/snowflake.py",
        before="self._reading(doing) as work:\n            stream.clear(work, table)",
        after="self._transaction(doing) as work:\n            stream.clear(work, table)",
        tests=(_SNOWFLAKE + "test_a_table_that_was_dropped_goes_to_who_makes_it_again",),
    ),
    Mutation(
        name="nanoseconds-are-cut-off",
        bug="A time in Snowflake loses what it has beyond microseconds, and nobody is told.",
        path="connectors/sources/snowflake_values.py",
        before="        if pc.any(beyond).as_py():",
        after="        if False:",
        tests=("tests/connectors/test_snowflake_reading.py::test_nanoseconds_hold_their_row_back",),
    ),
    Mutation(
        name="second-row-of-a-snowflake-key",
        bug="The second row of a key is not looked for on the next page, where Snowflake has it.",
        path="connectors/sources/snowflake_rows.py",
        before=".take(limit, peek=1), ahead",
        after=".take(limit), ahead",
        tests=(
            "tests/connectors/test_snowflake_reading.py::test_a_primary_key_of_which_there_are_two_rows",
        ),
    ),
    Mutation(
        name="snowflake-claims-past-the-gate",
        bug="Two ledgers that claim a schema in Snowflake at once do not wait for each other.",
        path="connectors/destinations/snowflake_own.py",
        before="        _pass_gate(work)\n        claim(",
        after="        claim(",
        tests=(
            "tests/connectors/test_snowflake_claims.py::test_of_two_ledgers_that_claim_at_once_"
            "one_wins",
        ),
    ),
    Mutation(
        name="snowflake-waits-for-its-own-lost-session",
        bug="A session that was lost keeps its transaction, and with it the owner row.",
        path="connectors/destinations/snowflake.py",
        before="                if is_new:\n                    self._end_lost(work)\n",
        after="",
        tests=(
            _PIPELINES
            + "test_snowflake_crashes.py::test_a_connection_that_breaks_within_the_transaction",
        ),
    ),
    Mutation(
        name="snowflake-copies-what-is-there",
        bug="A staged file that is gone when it is to be copied is not missed.",
        path="connectors/destinations/snowflake_staging.py",
        before="    if loaded != rows:\n",
        after="    if False:\n",
        tests=(
            "tests/connectors/test_snowflake_script.py::test_a_staged_file_that_is_gone_is_missed",
        ),
    ),
    Mutation(
        name="any-type-may-be-asked",
        bug="`types` may ask a column of SQLite for what no value of it can be.",
        path="connectors/sources/sqlite_types.py",
        before="        if not can_be_read(declared, held, wanted):",
        after="        if False:",
        tests=(
            "tests/connectors/test_sqlite_values.py::test_what_a_column_cannot_be_read_as_is_refused",
        ),
    ),
    Mutation(
        name="retyped-while-read",
        bug="Rows of a column that got another type while it was read end the run.",
        path="connectors/sources/postgres_values.py",
        before="        except pa.ArrowException as error:",
        after="        except ZeroDivisionError as error:",
        tests=(_PIPELINES + "test_drift_in_flight.py::test_integers_are_widened",),
    ),
    Mutation(
        name="chosen-records-asked-as-a-batch",
        bug="A retry or replay of one record is asked for what only a whole batch can meet.",
        path="pipelines/replay.py",
        before="            stage=ready.lane.stage_chosen,\n",
        after="            stage=ready.lane.stage,\n",
        tests=(
            _PIPELINES
            + "test_expected_runs.py::test_it_is_asked_of_each_batch_and_not_of_chosen_records",
        ),
    ),
    Mutation(
        name="decimals-beside-doubles",
        bug="Great Expectations compares decimals with bounds that it has as doubles.",
        path="pipelines/expectation_frames.py",
        before="            if misfits.true_count:\n",
        after="            if True:\n",
        tests=(_PIPELINES + "test_expectations.py::test_ranges_are_exact",),
    ),
    Mutation(
        name="bound-of-the-nearest-value",
        bug="A bound between two values of the column's type is taken for the nearest of them.",
        path="pipelines/bounds.py",
        before="    whole = math.ceil(exact) if low else math.floor(exact)\n",
        after="    whole = round(exact)\n",
        tests=(_PIPELINES + "test_checks.py::test_values_outside_a_range_are_found",),
    ),
    Mutation(
        name="changed-check-is-no-news",
        bug="Failed records wait out their back-off though the check that held them was changed.",
        path="pipelines/lane.py",
        before="        *(one.fingerprint for one in (*stream.checks, *stream.checks_where_found)),"
        "\n",
        after="",
        tests=(
            _PIPELINES
            + "test_checked_runs.py::test_a_check_that_was_changed_lets_the_next_run_try_again_"
            "at_once",
        ),
    ),
    Mutation(
        name="asked-before-it-is-durable",
        bug="What is known is told to a capture while changes that it is about are gathered.",
        path="pipelines/read_ahead.py",
        before="            if is_about(self._gatherer.parts):\n",
        after="            if False:\n",
        tests=(
            _PIPELINES
            + "test_read_ahead.py::test_what_a_question_is_about_is_durable_before_it_is_answered",
        ),
    ),
    Mutation(
        name="first-read-knows-nothing-of-itself",
        bug="A first read is told that the target has none of the keys that it has given.",
        path="pipelines/first_read.py",
        before="            return self._given is None or not self._given.may_have(after, upto)\n",
        after="            return True\n",
        tests=(_PIPELINES + "test_first_read.py::test_only_what_was_given_is_asked_for",),
    ),
    Mutation(
        name="ahead-of-what-is-held-back",
        bug="What was made of a batch ahead is loaded although a record of it has to wait.",
        path="pipelines/commit.py",
        before="        if ahead is None or (lane.stream.policy is Policy.BLOCK "
        "and lane.held.all()):\n",
        after="        if ahead is None:\n",
        tests=(
            _PIPELINES
            + "test_snowflake_target.py::test_what_was_made_ahead_is_made_again_where_a_record_"
            "is_held_back",
        ),
    ),
    Mutation(
        name="follower-asks-before-it-is-durable",
        bug="While the log is followed, a truncation does not know of what is gathered before it.",
        path="pipelines/follow.py",
        before="        if may_have(self.gatherer.parts, after, upto):\n",
        after="        if False:\n",
        tests=(
            _PIPELINES + "test_gathered_runs.py::test_what_is_followed_is_one_batch_in_the_end",
        ),
    ),
    Mutation(
        name="gathered-rows-beside-each-other",
        bug="A history gets a row that was read twice in one batch, as two versions of its record.",
        path="pipelines/gathering.py",
        before="            and (not self.once or self._is_apart(changes))\n",
        after="",
        tests=(_PIPELINES + "test_gathered_runs.py::test_a_history_has_no_version_that_never_was",),
    ),
    Mutation(
        name="gathered-with-what-was-rejected",
        bug="What cannot be represented is in one batch with a newer row that puts it to an end.",
        path="pipelines/gathering.py",
        before="            and not self._parts[-1].rejected\n",
        after="",
        tests=(
            _PIPELINES + "test_gathering.py::test_what_was_rejected_is_with_its_own_item_alone",
        ),
    ),
    Mutation(
        name="neighbouring-ordinals-of-a-cursor",
        bug="A delete and the next page look like one change of a key, and wait for each other.",
        path="connectors/capture/cursor.py",
        before="        return replace(self, ordinal=self.ordinal + 2)\n",
        after="        return replace(self, ordinal=self.ordinal + 1)\n",
        tests=(
            _PIPELINES
            + "test_gathered_runs.py::test_a_delete_beside_a_failed_row_is_no_change_of_its_key",
        ),
    ),
)
