"""`rowtrail check`: what would stop a run or spoil it, before it does."""

from __future__ import annotations

import pytest

from rowtrail.connectors.errors import ConfigurationError
from tests.cli.place import FILE, Place
from tests.pipelines import logged_source


@pytest.fixture
def ready(place: Place) -> Place:
    place.type("init", "--capture", "--yes")
    place.put(*((number, number, f"note {number}") for number in range(1, 101)))
    return place


def test_a_sound_pipeline_is_ready(ready: Place) -> None:
    ready.use_transform()
    answer = ready.type("check")
    assert (answer.code, answer.out) == (0, "Ready: 1 stream can be run.\n")
    assert ready.type("check", "--json").document == {
        "ready": True,
        "problems": [],
        "streams": ["orders"],
        "retained_log": {},
    }
    assert not ready.ledger.exists() and not ready.target.exists()


def test_missing_triggers_are_found(place: Place) -> None:
    place.write(FILE.replace("install_capture = true", "install_capture = false"))
    answer = place.type("check")
    assert answer.code == 1
    assert "rowtrail init --capture" in answer.out
    assert "Not ready: 1 problem would stop a run." in answer.out
    document = place.type("check", "--json").document
    assert document["ready"] is False
    assert document["problems"][0]["stream"] == "orders"


def test_notes_do_not_stop_a_run(place: Place) -> None:
    place.sql("ALTER TABLE orders ADD COLUMN seen INTEGER")
    place.write(FILE + 'capture = "cursor"\ncursor = "seen"\n')
    answer = place.type("check")
    assert answer.code == 0
    assert answer.out.startswith("Note: orders: Column seen of orders has no index")
    assert "Ready: 1 stream" in answer.out


@pytest.mark.parametrize(
    "body",
    [
        "return orders.assign(amount=orders['amount'].rank().astype(orders['amount'].dtype))",
        "return orders.assign(note=[str(len(orders))] * len(orders))",
        "return orders.head(3)",
        "return orders[orders['amount'] >= orders['amount'].mean()]",
        "return orders.assign(note=orders['note'].shift(1))",
    ],
    ids=["ranks", "counts", "takes the first", "compares with the mean", "looks at its neighbour"],
)
def test_a_transform_that_is_not_row_wise_is_found(ready: Place, body: str) -> None:
    ready.use_transform(f"def picky(orders):\n    {body}\n")
    answer = ready.type("check")
    assert answer.code == 1
    assert "100 sample records" in answer.out
    assert "A transform must be a function of each row" in answer.out


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return None", "returned NoneType instead of a DataFrame"),
        ("return orders.drop(columns=['id'])", "lost the key column id"),
        ("return orders.assign(extra=1)", "returned column extra, which it does not declare"),
        ("return orders.reset_index(drop=True).rename(index=lambda n: n + 500)", "was not given"),
    ],
    ids=["no DataFrame", "no key", "undeclared column", "other rows"],
)
def test_a_transform_with_another_shape_is_found(ready: Place, body: str, words: str) -> None:
    ready.use_transform(f"def picky(orders):\n    {body}\n")
    answer = ready.type("check")
    assert answer.code == 1
    assert words in answer.out


def test_a_target_that_has_been_filled_is_ready_for_the_next_night(ready: Place) -> None:
    ready.type("run")
    assert ready.type("check").code == 0


def test_a_lost_ledger_is_found(ready: Place) -> None:
    ready.type("run")
    ready.ledger.unlink()
    answer = ready.type("check")
    assert answer.code == 1
    assert "and there is none at" in answer.out
    assert "`rowtrail ledger rebuild`" in answer.out
    assert not ready.ledger.exists()
    assert ready.type("check", "--json").document["problems"][0]["stream"] is None


def test_another_ledger_is_found(ready: Place) -> None:
    ready.type("run")
    ready.ledger.unlink()
    target = ready.target.rename(ready.target.with_suffix(".away"))
    ready.type("run")
    target.rename(ready.target)
    answer = ready.type("check")
    assert answer.code == 1
    assert "Two ledgers must not fill one target" in answer.out


def test_a_target_that_cannot_be_used_is_found(ready: Place) -> None:
    ready.target.write_text("no database, but long enough to be looked at as one")
    answer = ready.type("check")
    assert answer.code == 1
    assert "is not a DuckDB file" in answer.out


def test_a_missing_folder_of_the_target_is_found(ready: Place) -> None:
    ready.write(FILE.replace("duckdb:///", "duckdb:///no/such/"))
    answer = ready.type("check")
    assert answer.code == 1
    assert "does not exist. Create it" in answer.out


def test_what_a_run_installs_by_itself_is_no_problem(place: Place) -> None:
    assert place.type("check").code == 0


def test_the_log_that_the_source_keeps_is_told(
    ready: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = logged_source.use(monkeypatch)
    text = FILE.replace("sqlite:", "logged:").replace('"trigger"', '"log"')
    ready.write(text.replace("source.db", f"{ready.source}"))
    assert "keeps" not in ready.type("check").out
    assert ready.type("run").code == 0
    server.kept = {"orders": 1_500_000_000}
    answer = ready.type("check")
    assert (answer.code, answer.out) == (
        0,
        "The source keeps 1.5 GB of its log, back to where stream orders is; `retained_log` is 10 "
        "GB.\nReady: 1 stream can be run.\n",
    )
    assert ready.type("check", "--json").document["retained_log"] == {"orders": 1_500_000_000}
    server.kept = {"orders": 11 * 10**9}
    answer = ready.type("check")
    assert answer.code == 0
    assert "Note: orders: the source keeps 11 GB of its log for it, more than" in answer.out
    server.error = ConfigurationError("permission denied for it")
    assert "Note: shop: permission denied for it" in ready.type("check").out
