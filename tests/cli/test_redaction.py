"""No value of a redacted column is in the ledger, at the target's gaps, or in any output."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import psycopg
import pytest

from rowtrail.connectors.changes import Changes
from rowtrail.pipelines import commit, retrying
from tests.cli.place import Answer, Place
from tests.duckdb_files import write_into

TABLE = (
    "CREATE TABLE people (id INTEGER PRIMARY KEY, email TEXT, born DATE, pin INTEGER, "
    "amount DECIMAL(10,2), code TEXT)"
)
FILE = """\
[pipeline]
name = "shop"
source = "sqlite:///source.db"
destination = "{destination}"
install_capture = true

[defaults]
capture = "trigger"

[streams.people]
transforms = ["picky:lower", "picky:picky"]
redact = ["email", "Born", "pin"]
"""
CODE = """
import pandas as pd

def lower(people: pd.DataFrame) -> pd.DataFrame:
    people["email"] = "mailto:" + people["email"].str.swapcase()
    return people

def picky(people: pd.DataFrame) -> pd.DataFrame:
    for row in people.itertuples():
        if row.code == "strange":
            raise ValueError(f"no rate for 'strange' and {row.email!r} of {row.born}")
        if row.code == "part":
            raise LookupError(f"no such host {row.email.partition('@')[2]}, pin {row.pin:,}")
        if row.code == "changed":
            raise ValueError("odd name " + repr(row.email[7:12][::-1]))
        if row.code == "cut":
            raise ValueError("no such person: " + row.email[:25] + "…")
    rows = people.itertuples()
    amounts = [[1, row.email] if row.code == "mixed" else row.amount for row in rows]
    people["amount"] = pd.Series(amounts, index=people.index, dtype=object)
    return people
"""

# id, email, born, pin, amount, code; the stage at which each fails.
PEOPLE: dict[int, tuple[tuple[object, ...], str]] = {
    1: (("Fine-Emil@fine.example.org", "1970-01-02", 111111, 1, "fine"), ""),
    2: (
        ("Extract-Erna@secret.example.net", "1971-02-03", 20417733, "twelve", "extract"),
        "extract",
    ),
    3: (("Born-Bert@secret.example.net", "born-1972-secret", 30417733, 1, "born"), "extract"),
    4: (("Quoted-Quinn@secret.example.net", "1973-04-05", 40417733, 1, "strange"), "transform"),
    5: (("Part-Paula@parted.example.net", "1974-05-06", 50417733, 1, "part"), "transform"),
    6: (("Xyzzy-Changed@secret.example.net", "1975-06-07", 60417733, 1, "changed"), "transform"),
    7: (
        ("Cut-Cuthbert-the-Long@secret.example.net", "1976-07-08", 70417733, 1, "cut"),
        "transform",
    ),
    8: (("Mixed-Maria@secret.example.net", "1977-08-09", 80417733, 1, "mixed"), "transform"),
    9: (("Load-Lotte@secret.example.net", "1978-09-10", 90417733, 1, "refused"), "load"),
}
SECRETS: dict[int, tuple[str, ...]] = {
    2: ("extract-erna", "1971-02-03", "20417733"),
    3: ("born-bert", "born-1972-secret", "30417733"),
    4: ("quoted-quinn", "1973-04-05", "40417733"),
    5: ("part-paula", "parted", "50417733", "50,417,733"),
    6: ("xyzzy", "yzzyx", "60417733"),
    7: ("cut-cuthbert", "70417733"),
    8: ("mixed-maria", "80417733"),
    9: ("load-lotte", "90417733"),
}
COMMANDS = (
    ("run",), ("run", "--json"), ("status",), ("failures",), ("failures", "--causes", "--json"),
    ("retry", "--dry-run"), ("retry", "--debug"), ("retry", "people", "--from", "transform"),
    ("check", "--debug"), ("replay", "people", "4", "9", "--json"),
    ("ignore", "people", "2", "--reason", "x"), ("record", "people", "2", "--json"),
    ("ledger", "backup", "copy.ledger"),
)  # fmt: skip


@dataclass
class Secretive:
    """A place whose target refuses code `refused`."""

    place: Place
    destination: str

    def write(self, text: str = FILE, code: str = CODE) -> None:
        self.place.write(text.replace("{destination}", self.destination))
        (self.place.folder / "picky.py").write_text(code, encoding="utf-8")

    def at_target(self, *statements: str) -> list[tuple[object, ...]]:
        """Runs them at the target, and gives the rows of the last one."""
        if self.destination.startswith("duckdb"):
            with write_into(self.place.target) as connection:
                for statement in statements:
                    connection.execute(statement)
                return connection.fetchall()
        with psycopg.connect(self.destination, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def fill(self) -> None:
        """The first person is loaded; then the target gets its rule, the others come."""
        self.put(1)
        assert self.place.type("run").code == 0
        if self.destination.startswith("duckdb"):
            self.place.sql("INSERT INTO people VALUES (10, 'ten', '1970-01-01', 1, 1, 'refused')")
            assert self.place.type("run").code == 0
            self.at_target("CREATE UNIQUE INDEX one_code ON people (code)")
        else:
            self.at_target(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                "IF NEW.code = 'refused' THEN RAISE EXCEPTION 'Key (email)=(%) is no good, % %', "
                "NEW.email, NEW.pin, upper(NEW.email) USING ERRCODE = 'check_violation'; END IF; "
                "RETURN NEW; END $$",
                "CREATE TRIGGER refuse BEFORE INSERT ON people FOR EACH ROW "
                "EXECUTE FUNCTION refuse()",
            )
        self.put(*range(2, 10))

    def put(self, *ids: int) -> None:
        for one in ids:
            values = PEOPLE[one][0]
            self.place.sql("INSERT INTO people VALUES (?, ?, ?, ?, ?, ?)", (one, *values))

    def type(self, *line: str) -> Answer:
        """One command line, in whose answer there is no secret."""
        answer = self.place.type(*line)
        assert leaked((answer.out + answer.err).encode()) == set(), answer
        return answer

    def kept(self) -> set[int]:
        """Whose secrets are in files of ours, or in the gaps at the target."""
        found: set[int] = set()
        looked = [
            path
            for path in self.place.folder.rglob("*")
            if path.is_file() and path != self.place.source and "picky" not in path.name
        ]
        assert self.place.ledger in looked
        for path in looked:
            found |= leaked(path.read_bytes())
        gaps = self.at_target("SELECT * FROM _rowtrail_gaps")
        return found | leaked(str(gaps).encode())


def leaked(data: bytes) -> set[int]:
    """Whose secrets are in it, in whatever case."""
    data = data.lower()
    return {one for one, texts in SECRETS.items() if any(t.encode() in data for t in texts)}


@pytest.fixture(params=["duckdb", "postgres"])
def secretive(request: pytest.FixtureRequest, place: Place) -> Iterator[Secretive]:
    destination = "duckdb:///target.duckdb"
    if request.param == "postgres":
        destination = request.getfixturevalue("postgres_url")
    yield _people(place, destination)


def stages(place: Place) -> dict[int, str]:
    found = place.type("failures", "--json").document["failures"]
    return {int(one["record_id"].partition(":")[2]): one["stage"] for one in found}


def test_after_failures_at_every_stage(secretive: Secretive) -> None:
    secretive.fill()
    assert secretive.type("run").code == 3
    assert stages(secretive.place) == {one: stage for one, (_, stage) in PEOPLE.items() if stage}
    assert secretive.kept() == set()
    for command in COMMANDS:
        secretive.type(*command)
    assert secretive.kept() == set()


def test_a_comparison_tells_no_value(secretive: Secretive) -> None:
    secretive.fill()
    secretive.type("run")
    for one in PEOPLE:
        line = ("record", "people", str(one), "--compare")
        told = secretive.type(*line).out
        secretive.type(*line, "--json")
        if one in (2, 3):  # the source cannot represent it, the target has none
            assert "has a row that the stream cannot take: Column " in told
        else:
            assert "(redacted)" in told


def test_the_same_without_redaction_is_in_all_of_them(secretive: Secretive) -> None:
    """So that the test above looks where the values would be."""
    secretive.write(FILE.replace('redact = ["email", "Born", "pin"]', "batch_rows = 100"))
    secretive.fill()
    answer = secretive.place.type("run")
    told = secretive.place.type("failures").out
    assert answer.code == 3
    assert leaked((answer.err + told).encode()) >= {4, 5, 6, 7}
    assert secretive.kept() == set(SECRETS)


def test_what_is_left_of_a_message_still_helps(secretive: Secretive) -> None:
    """Names, and values of other columns, stay; failures of one cause are one group."""
    secretive.fill()
    secretive.type("run")
    told = {one: secretive.type("record", "people", str(one)).out for one in PEOPLE}
    assert "ValueError: no rate for 'strange' and '***' of ***" in told[4]
    assert "LookupError: no such host ***.***.NET, pin ***" in told[5]
    assert "ValueError: odd name '***'" in told[6]
    assert "ValueError: no such person: ***" in told[7]
    assert "column amount has values of several types" in told[8]
    if not secretive.destination.startswith("duckdb"):
        assert "Key (email)=(***) is no good, *** ***" in told[9]
    for one in range(2, 10):
        assert "Image   in the ledger (without email, born, pin, which are redacted)" in told[one]


def test_a_retry_reads_the_row_and_says_so(place: Place) -> None:
    secretive = _people(place, "duckdb:///target.duckdb")
    secretive.fill()
    secretive.type("run")
    secretive.write(code="def lower(people):\n    return people\n\npicky = lower\n")
    secretive.place.sql("UPDATE people SET code = 'fine' || id, amount = 1, born = '1972-01-01'")
    answer = secretive.type("retry", "people", "4")
    assert answer.code == 0
    assert (
        "from the row at the source (its image is without email, born, pin, which are redacted): "
        "1 loaded" in answer.out
    )
    assert secretive.at_target("SELECT email, pin FROM people WHERE id = 4") == [
        ("Quoted-Quinn@secret.example.net", 40417733)
    ], "the target has the values"
    assert secretive.type("retry").code == 0
    assert secretive.type("run").code == 0


@pytest.mark.parametrize("how", ["alone", "together"])
def test_what_stops_a_stream_says_none_either(place: Place, how: str) -> None:
    """A transform that is broken, and rows that fail only together."""
    secretive = _people(place, "duckdb:///target.duckdb")
    many = "any()" if how == "alone" else "sum() > 1"
    code = (
        "def lower(people):\n"
        "    people['email'] = people['email'].str.upper()\n"
        "    return people\n"
        "def picky(people):\n"
        f"    if people['email'].str.contains('SECRET').{many}:\n"
        "        every = ', '.join(people['email'])\n"
        "        raise ValueError(f'bad: {every} {people.email!r}')\n"
        "    return people\n"
    )
    secretive.write(code=code)
    secretive.put(1)
    secretive.place.sql("UPDATE people SET email = 'secret-fine'")
    for number in range(100, 140):
        values = (number, "Quoted-Quinn@secret.example.net", "1973-04-05", number, 1, "x")
        secretive.place.sql("INSERT INTO people VALUES (?, ?, ?, ?, ?, ?)", values)
    for line in (("run",), ("run", "--debug"), ("run", "--json"), ("status",), ("check",)):
        answer = secretive.type(*line)
        assert answer.code == (1 if line[0] != "check" or how == "alone" else answer.code)
        assert "transform picky:picky" in answer.out + answer.err
    with closing(_ledger(place)) as ledger:
        record = ledger.streams.get("people")
        assert record is not None and record.state_reason is not None
        assert "bad: ***" in record.state_reason
    assert leaked(place.ledger.read_bytes()) == set()


@pytest.mark.parametrize("capture", ["log", "trigger", "snapshot"])
def test_rows_of_postgresql_that_cannot_be_read_whole(
    place: Place, postgres_url: str, capture: str
) -> None:
    """In a first read, and in a later one from the log, the change log or another snapshot."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE people (id int PRIMARY KEY, email text, born date, pin int, code text)"
        )
        connection.execute("INSERT INTO people VALUES (1, 'fine', '2000-01-01', 1, 'x')")
        connection.execute(_PERSON, (2, SECRETS[2][0], "x"))
        secretive = _people(place, "duckdb:///target.duckdb")
        file = FILE.replace("sqlite:///source.db", postgres_url)
        file = file.replace('"trigger"', f'"{capture}"')
        secretive.write(file, "def lower(people):\n    return people\n\npicky = lower\n")
        assert secretive.type("run").code == 3
        connection.execute(_PERSON, (3, SECRETS[3][0], "x"))
        connection.execute("UPDATE people SET code = 'y' WHERE id = 2")
        assert secretive.type("run", "--debug").code == 3
        assert stages(place) == {2: "extract", 3: "extract"}
        for line in (("record", "people", "3"), ("retry", "--debug"), ("failures", "--json")):
            secretive.type(*line)
        assert secretive.kept() == set()
        connection.execute("UPDATE people SET born = '1972-01-01'")
        assert secretive.type("retry").code == 0
    assert secretive.at_target("SELECT email FROM people WHERE id = 3") == [("born-bert",)]


_PERSON = "INSERT INTO people VALUES (%s, %s, 'infinity', 5, %s)"


def test_what_is_waited_for_says_none(
    place: Place, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target that is busy is tried again, and that is told at once."""
    secretive = _people(place, postgres_url)
    secretive.write(code="def lower(people):\n    return people\n\npicky = lower\n")
    secretive.put(1)
    assert place.type("run").code == 0
    secretive.at_target(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'busy with %', NEW.email USING ERRCODE = '40001'; END $$",
        "CREATE TRIGGER refuse BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    monkeypatch.setattr(retrying, "PATIENCE", 0.0)
    monkeypatch.setattr(retrying, "FIRST_WAIT", 0.0)
    secretive.put(9)
    answer = secretive.type("run", "--debug")
    assert answer.code == 1
    assert "busy with ***" in answer.err and "Trying again" in answer.err
    assert "busy with ***" in secretive.type("status").out
    assert secretive.kept() == set()


def test_a_mistake_of_ours_says_none(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    secretive = _people(place, "duckdb:///target.duckdb")
    secretive.put(1, 9)

    def broken(changes: Changes, *rest: object, **more: object) -> None:
        raise KeyError(changes.rows.column("email")[1].as_py())

    monkeypatch.setattr(commit, "make_plan", broken)
    answer = secretive.type("run", "--debug")
    assert answer.code == 1
    assert "Rowtrail itself is at fault: RuntimeError: KeyError: '***'" in answer.err
    assert leaked(place.ledger.read_bytes()) == set()


def _people(place: Place, destination: str) -> Secretive:
    place.sql("DROP TABLE orders")
    place.sql(TABLE)
    secretive = Secretive(place, destination)
    secretive.write()
    return secretive


def _ledger(place: Place):  # type: ignore[no-untyped-def]
    from rowtrail.checkpoints.ledger import open_ledger

    return open_ledger(place.ledger, "shop")


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ('redact = ["emial"]', "is to redact emial, which table people does not have"),
        ('redact = ["id"]', "cannot redact column id, which is part of the key"),
    ],
)
def test_a_column_that_cannot_be_redacted(place: Place, setting: str, told: str) -> None:
    secretive = _people(place, "duckdb:///target.duckdb")
    secretive.write(FILE.replace('redact = ["email", "Born", "pin"]', setting))
    secretive.put(1)
    for command in ("check", "run"):
        answer = place.type(command)
        assert answer.code == 1
        assert told in answer.out + answer.err
