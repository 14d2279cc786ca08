"""`rowtrail schema`: source and target side by side."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from tests.cli.place import FILE, Place


@pytest.fixture
def loaded(place: Place) -> Place:
    place.put((1, 1, "one"), (2, 2, "two"))
    assert place.type("run").code == 0
    return place


def test_they_agree(loaded: Place) -> None:
    answer = loaded.type("schema")
    assert answer.code == 0
    assert answer.out == (
        "orders: table orders at the source, orders at the target: 3 same.\n\n"
        "column  source         target         NULL  key  verdict\n"
        "────────────────────────────────────────────────────────\n"
        "id      INTEGER        BIGINT         no    1    same\n"
        "amount  DECIMAL(10,2)  DECIMAL(10,2)  yes        same\n"
        "note    TEXT           VARCHAR        yes        same\n\n"
        "Source and target agree: 1 stream.\n"
    )


def test_before_the_first_run(place: Place) -> None:
    answer = place.type("schema")
    assert answer.code == 0
    assert "which the first run makes." in answer.out
    assert "note    TEXT           VARCHAR        yes        missing" in answer.out
    assert not place.target.exists() and not place.ledger.exists()


def test_what_a_run_would_do_and_lose(loaded: Place) -> None:
    loaded.sql("ALTER TABLE orders ADD COLUMN place TEXT")
    answer = loaded.type("schema", "orders")
    assert answer.code == 1
    assert "3 same, 1 missing." in answer.out
    assert "  place: rows that are there have NULL until they are loaded again.\n" in answer.out
    assert '  A run would: ALTER TABLE "orders" ADD COLUMN "place" VARCHAR\n' in answer.out
    assert answer.out.endswith("a run would fail on, or lose something of, orders.\n")
    document = loaded.type("schema", "--json").document
    assert document["agree"] is False
    (orders,) = document["streams"]
    assert orders["loses"] is True
    assert orders["plan"] == ['ALTER TABLE "orders" ADD COLUMN "place" VARCHAR']
    assert orders["columns"][-1] == {
        "name": "place",
        "source": {
            "type": "TEXT",
            "nullable": True,
            "key": None,
            **dict.fromkeys(("length", "precision", "scale")),
        },
        "target": {
            "type": "VARCHAR",
            "nullable": True,
            "key": None,
            **dict.fromkeys(("length", "precision", "scale")),
        },
        "verdict": "missing",
        "why": "rows that are there have NULL until they are loaded again",
        "loses": True,
    }


def test_what_would_stop_a_run(loaded: Place) -> None:
    loaded.sql("DROP TABLE orders")
    answer = loaded.type("schema")
    assert answer.code == 1
    assert "  Problem: There is no table orders in" in answer.out


class Page(HTMLParser):
    """The texts of the cells, and the tags that there are."""

    def __init__(self) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.lasttag == "td" and self.cells:
            self.cells[-1] += data


def test_reports(loaded: Place) -> None:
    """Names come from a database: none of them becomes markup."""
    odd = "a|b<script>alert(1)</script>"
    loaded.sql(f'ALTER TABLE orders ADD COLUMN "{odd}" TEXT')
    answer = loaded.type("schema", "--report", "schema.html")
    assert answer.code == 1
    assert "The report is in schema.html.\n" in answer.out
    page = Page()
    page.feed((loaded.folder / "schema.html").read_text(encoding="utf-8"))
    assert odd in page.cells and "script" not in page.tags
    assert loaded.type("schema", "--report", "schema.md", "--json").document["agree"] is False
    markdown = (loaded.folder / "schema.md").read_text(encoding="utf-8")
    assert r"| a\|b&lt;script&gt;alert(1)&lt;/script&gt; | TEXT | VARCHAR |" in markdown
    assert "<script>" not in markdown.split("```sql")[0]


def test_wrong_use(loaded: Place) -> None:
    assert loaded.type("schema", "--report", "schema.pdf").code == 2
    answer = loaded.type("schema", "nothing")
    assert answer.code == 2 and "no stream nothing" in answer.err
    loaded.write(FILE.replace("duckdb:///target.duckdb", "oracle://host/target"))
    assert loaded.type("schema").code == 2


def test_agreeing_on_shapes(loaded: Place) -> None:
    lock = loaded.folder / "rowtrail.lock"
    answer = loaded.type("schema", "--accept")
    assert (answer.code, answer.out) == (
        0,
        "orders: the shape of its table is new.\n"
        "rowtrail.lock was written. Keep it with the pipeline file.\n",
    )
    before = lock.read_text(encoding="utf-8")
    assert '{"name": "amount", "type": "decimal(10,2)", "nullable": true, ' in before
    assert loaded.type("schema", "--accept").out == "rowtrail.lock says the same already.\n"
    assert lock.read_text(encoding="utf-8") == before

    loaded.sql("ALTER TABLE orders ADD COLUMN place TEXT")
    answer = loaded.type("schema")
    words = "Changed since it was agreed on: column place is new (text): the target gets it."
    assert f"  {words}\n" in answer.out
    (orders,) = loaded.type("schema", "--json").document["streams"]
    assert orders["drift"] == [
        {
            "change": "new_column",
            "column": "place",
            "before": "",
            "after": "text",
            "mode": "evolve",
            "words": "column place is new (text): the target gets it",
        }
    ]
    loaded.type("schema", "--report", "schema.html")
    assert words in (loaded.folder / "schema.html").read_text(encoding="utf-8")
    assert loaded.type("schema", "--accept", "orders").out == (
        "orders: column place is new (text).\n"
        "rowtrail.lock was written. Keep it with the pipeline file.\n"
    )
    document = loaded.type("schema", "--accept", "--json").document
    assert document["written"] is False and document["path"] == str(lock)


def test_a_contract_stops_a_stream_until_its_shape_is_accepted(loaded: Place) -> None:
    loaded.write(FILE + 'contract = "freeze"\n')
    assert "has yet to be written" in loaded.type("check").out
    loaded.type("schema", "--accept")
    assert loaded.type("run").code == 0
    loaded.sql("ALTER TABLE orders ADD COLUMN place TEXT")
    for command in ("check", "schema", "run"):
        answer = loaded.type(command)
        assert answer.code == 1
        assert "was stopped by its contract: column place is new (text)" in answer.out
        assert "`rowtrail schema --accept orders`" in answer.out
    loaded.type("schema", "--accept", "orders")
    assert loaded.type("run").code == 0
    assert loaded.type("schema").code == 0


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ('contract = "discard"', "should be evolve or freeze, or a table with a mode"),
        ("contract = 3", "contract"),
        ('contract = { dropped_column = "discard" }', "'evolve' or 'freeze'"),
        ('contract = { new_colum = "freeze" }', "did you mean new_column?"),
        ('columns = ["id"]\ncontract = "freeze"', "leaves every new column out"),
    ],
)
def test_contracts_that_contradict_themselves(loaded: Place, setting: str, words: str) -> None:
    loaded.write(FILE + setting + "\n")
    answer = loaded.type("schema")
    assert answer.code == 2
    assert words in answer.err, answer.err


def test_a_lock_file_of_another_pipeline(loaded: Place) -> None:
    loaded.type("schema", "--accept")
    loaded.write(FILE.replace('"shop"', '"other"'))
    for line in (["schema"], ["schema", "--accept"], ["check"], ["run"]):
        answer = loaded.type(*line)
        assert answer.code == 2
        assert "rowtrail.lock is of pipeline shop, not of other" in answer.err
    loaded.write(FILE.replace('"shop"', '"other"').replace("install", 'lock = "o.lock"\ninstall'))
    assert loaded.type("schema", "--accept").code == 0
    assert (loaded.folder / "o.lock").exists()


def test_accepting_makes_no_report(loaded: Place) -> None:
    assert loaded.type("schema", "--accept", "--report", "schema.md").code == 2
