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
