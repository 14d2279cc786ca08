"""The types of PostgreSQL, each with its edge values: the rows of the matrix."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

SETUP = (
    "CREATE TYPE mood AS ENUM ('sad', 'ok', 'very ''happy''')",
    "CREATE DOMAIN price AS numeric(10, 2) CHECK (VALUE >= 0)",
    "CREATE DOMAIN net_price AS price",
    "CREATE DOMAIN tags AS text[]",
    "CREATE TYPE pair AS (a integer, b text)",
    "CREATE TYPE text_range AS RANGE (subtype = text)",
    # Some types have no input: values of theirs come from the server's own statistics.
    "CREATE TABLE counted (a integer DEFAULT 1 + 1, b integer)",
    "INSERT INTO counted SELECT n % 5, n % 5 FROM generate_series(1, 100) AS n",
    "CREATE STATISTICS counted_statistics (ndistinct, dependencies, mcv) ON a, b FROM counted",
    "ANALYZE counted",
)
EXTENSIONS = ("hstore", "citext", "ltree")


@dataclass(frozen=True, kw_only=True)
class Value:
    """SQL that gives a value, where it is not worth showing or not there in each version."""

    sql: str
    shown: str
    since: int = 0  # server_version_num


@dataclass(frozen=True)
class Case:
    """A type as a column is declared, and SQL for values of it. NULL is one of each type."""

    declared: str
    values: tuple[str | Value, ...]
    twins: tuple[str, str] | None = None  # equal to PostgreSQL, but not written the same
    read_as: str | None = None  # the entry of `types`, also under default settings
    since: int = 0  # server_version_num
    extension: str | None = None

    @cached_property
    def column(self) -> str:
        """The column's name in the table of all types."""
        whole = f"{self.declared} {self.read_as or ''}".replace("[]", " array").replace(
            '"', "quoted "
        )
        return re.sub(r"\W+", "_", whole.strip()).strip("_").lower()

    def of(self, version: int) -> list[Value]:
        """The values that a server of this version has, NULL the last of them."""
        every = [
            Value(sql=one, shown=one.strip("'")) if isinstance(one, str) else one
            for one in (*self.values, "NULL")
        ]
        return [one for one in every if one.since <= version]


def texts(*values: str) -> tuple[str, ...]:
    """Literals of these texts."""
    return tuple("'" + value.replace("'", "''") + "'" for value in values)


def statistic(kind: str) -> tuple[str, ...]:
    return (f"(SELECT stxd{kind} FROM pg_statistic_ext_data LIMIT 1)",)


NINES = Value(sql="repeat('9', 500) || '.' || repeat('9', 500)", shown="500 digits on each side")
DAYS = (
    *texts("2024-02-29", "1969-12-31", "0001-01-01", "9999-12-31"),
    *texts("infinity", "-infinity", "0001-12-31 BC", "4713-01-01 BC", "10000-01-01"),
)
MOMENTS = (
    *texts("2024-01-31 10:00:00.5", "1969-12-31 23:59:59.999999", "0001-01-01 00:00:00"),
    *texts("9999-12-31 23:59:59.999999", "infinity", "-infinity", "0001-12-31 23:59:59.999999 BC"),
    *texts("4713-01-01 00:00:00 BC", "10000-01-01 00:00:00", "294276-12-31 23:59:59.999999"),
)
INSTANTS = (
    *texts("2024-01-31 10:00:00.5+00", "0001-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00"),
    # A time that its zone skips or has twice, a skipped day, an offset with seconds.
    *texts("2024-03-31 02:30 Europe/Berlin", "2024-10-27 02:30 Europe/Berlin"),
    *texts("2011-12-30 12:00 Pacific/Apia", "1950-01-01 00:00 Africa/Monrovia"),
    *texts("2024-07-01 12:00:00.000001+05:45", "infinity", "-infinity"),
    *texts("0001-12-31 23:59:59.999999+00 BC", "9999-12-31 23:59:59-12", "10000-01-01 00:00:00+00"),
    *texts("294276-12-31 23:59:59.999999+00"),
)
INTERVALS = (
    *texts("0", "1 mon", "1 year 2 mons -3 days 04:05:06.000007", "-1 mon 1 day -00:00:00.5"),
    *texts("178000000 years", "-178000000 years", "2147483647 days", "1000000 hours"),
    Value(sql="'infinity'", shown="infinity", since=170_000),
)

CASES = (
    # Numbers.
    Case("boolean", ("true", "false")),
    Case("smallint", texts("-32768", "0", "32767")),
    Case("integer", texts("-2147483648", "0", "2147483647")),
    Case("bigint", texts("-9223372036854775808", "9007199254740993", "9223372036854775807")),
    Case(
        "real",
        texts("0.1", "-0", "1e-45", "1.17549435e-38", "3.4028235e38", "NaN", "inf", "-inf"),
        twins=("'0'", "'-0'"),
    ),
    Case(
        "double precision",
        texts("0.1", "-0", "5e-324", "1.7976931348623157e308", "9007199254740993", "NaN")
        + texts("inf", "-inf", "1e15", "0.30000000000000004"),
        twins=("'0'", "'-0'"),
    ),
    Case("numeric(12,2)", texts("-9999999999.99", "0.01", "0", "NaN")),
    Case("numeric(38,0)", texts("9" * 38, "-" + "9" * 38, "1", "NaN")),
    Case("numeric(38,38)", texts("0." + "9" * 38, "-0." + "0" * 37 + "1", "NaN")),
    Case("numeric(5,-2)", texts("9999900", "-50", "100"), since=150_000),
    Case("numeric(2,5)", texts("0.00099", "-0.00001"), since=150_000),
    Case(
        "numeric",
        (
            *texts("0", "1.50", "-0.0000000001", "NaN"),
            Value(sql="'Infinity'", shown="Infinity", since=140_000),
            Value(sql="'-Infinity'", shown="-Infinity", since=140_000),
            Value(sql="repeat('9', 131072)::numeric", shown="131,072 digits"),
            Value(sql="('0.' || repeat('3', 16383))::numeric", shown="16,383 decimals"),
        ),
        twins=("'2.0'", "'2.00'"),
    ),
    Case(
        "numeric",
        (
            *texts("0", "1.5", "-0.0000000001", "1e27", "NaN", "0.12345678901", "1e28"),
            Value(sql="'Infinity'", shown="Infinity", since=140_000),
            Value(sql="repeat('9', 131072)::numeric", shown="131,072 digits"),
        ),
        read_as="decimal(38,10)",
        twins=("'2.0'", "'2.00'"),
    ),
    Case(
        "numeric",
        texts("0", "5.00", "9223372036854775807", "-9223372036854775808", "9223372036854775808")
        + texts("5.5", "NaN", "1e20"),
        read_as="int64",
        twins=("'2.0'", "'2.00'"),
    ),
    Case(
        "numeric(1000,500)",
        (*texts("0", "-1." + "0" * 499 + "1", "NaN"), Value(sql=f"({NINES.sql})::numeric", shown=NINES.shown)),
    ),
    Case("money", texts("-92233720368547758.08", "0", "92233720368547758.07")),
    # Texts.
    Case(
        "text",
        (
            *texts("", " a ", "é😀\u00a0", "NULL", "line\nline\ttab", "it's", r"\N \x00", "\x7f\x01"),
            Value(sql="repeat('é', 700000)", shown="700,000 letters"),
            Value(sql="(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 9999) AS n)", shown="random"),
        ),
    ),
    Case("varchar(3)", texts("", "ab ", "äöü", "   ")),
    Case("char(4)", texts("", "ab", "abcd", "é")),
    Case("bpchar", texts("", "ab", "ab ")),
    Case("name", texts("", "a", "é" * 31 + "x")),
    Case('"char"', texts("", "a", r"\377")),
    Case("citext", texts("", "Foo", "fOO ", "É"), twins=("'Bar'", "'bAR'"), extension="citext"),
    Case("json", texts("null", '{"b": 1,  "a":2, "a": 3}', '" \\u0000"', "1e400", "[]")),
    Case(
        "jsonb",
        texts("null", '{"b": 1,  "a":2, "a": 3}', '{"n": 12345678901234567890.123456789, "x": 1e400}')
        + texts("[]", '"é\\"\\\\"', "-0", "1.10"),
        twins=("'[1.0]'", "'[1.00]'"),
    ),
    Case("jsonpath", texts("$", '$.a[*] ? (@.b > 1.5)', 'strict $."é"')),
    Case("xml", texts("", "<a/>", '<?xml version="1.0" encoding="UTF-8"?><b>é</b>', "a<b/>c")),
    Case("hstore", texts("", "a=>1", '"é"=>NULL, "q\\"q"=>""'), extension="hstore"),
    Case("ltree", texts("", "Top.Science.Astronomy"), extension="ltree"),
    Case("tsvector", texts("", "'a':1A,2B 'it''s'", "é b c")),
    Case("tsquery", texts("", "'a' & !'b':*A", "x <-> y")),
    # Bytes and bits.
    Case(
        "bytea",
        (
            *texts(r"\x", r"\x00ff", r"\x5c78"),
            Value(sql="decode(repeat('00ff', 500000), 'hex')", shown="1,000,000 bytes"),
        ),
    ),
    Case("bit(3)", texts("101", "000")),
    Case("bit varying", (*texts("", "1", "01"), Value(sql="repeat('10', 5000)::varbit", shown="long"))),
    # Dates and times.
    Case("date", (*DAYS, *texts("5874897-12-31"))),
    Case("time", texts("00:00:00", "23:59:59.999999", "12:34:56.7", "24:00:00")),
    Case("time with time zone", texts("00:00:00+15:59", "23:59:59.999999-15:59", "24:00:00+00", "12:00:00+05:45:01")),
    Case("timestamp", MOMENTS),
    Case("timestamp(0)", texts("2024-01-31 10:00:00.5", "infinity")),
    Case("timestamp with time zone", INSTANTS),
    Case("timestamp(3) with time zone", texts("2024-01-31 10:00:00.1235+05:45", "-infinity")),
    Case("interval", INTERVALS, twins=("'2 mons'", "'60 days'")),
    Case("interval year to month", texts("1 year 2 mons", "-1 mon")),
    # Of the network.
    Case("inet", texts("10.0.0.1", "10.0.0.1/8", "0.0.0.0/0", "::1", "::ffff:1.2.3.4/128", "fe80::/10")),
    Case("cidr", texts("10.0.0.0/8", "0.0.0.0/0", "::1/128", "1.2.3.4")),
    Case("macaddr", texts("08-00-2B-01-02-03", "ff:ff:ff:ff:ff:ff")),
    Case("macaddr8", texts("08-00-2B-01-02-03", "ff:ff:ff:ff:ff:ff:ff:ff")),
    Case("uuid", texts("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "0" * 32, "f" * 32)),
    # Shapes.
    Case("point", texts("(0.1,-0)", "(Infinity,NaN)", "(1e300,5e-324)")),
    Case("line", texts("{1,-1,0.1}", "{0,-1,3}")),
    Case("lseg", texts("[(0,0),(0.1,1e300)]")),
    Case("box", texts("(2,2),(0.1,0)")),
    Case("path", texts("[(0,0),(1,1),(2,0)]", "((0.1,0),(1,1))")),
    Case("polygon", texts("((0,0),(1,1),(2,0))")),
    Case("circle", texts("<(0.1,0),5>", "<(0,0),0>")),
    # Made of others.
    Case("mood", texts("sad", "ok", "very 'happy'")),
    Case("net_price", texts("0", "99999999.99", "NaN")),
    Case("tags", texts("{}", "{a,NULL}")),
    Case("pair", ("ROW(1, 'x y')", "ROW(NULL, '')", "ROW(NULL, NULL)", """ROW(-1, '"a,(b)\\')""")),
    Case("integer[]", texts("{}", "{1,NULL,3}", "{{1,2},{3,4}}", "[0:1]={1,2}", "{{{{{{1}}}}}}")),
    Case("text[]", texts("{}", '{"",NULL,"NULL"}', '{"a,b","c\\"d","e\\\\f","{g}"," "}', "{{é,😀},{a,b}}")),
    Case("numeric[]", texts("{1.0,NaN,1e100}"), twins=("'{2.0}'", "'{2.00}'")),
    Case("timestamp with time zone[]", texts('{"2024-07-01 12:00+05:45",infinity}')),
    Case("bytea[]", texts(r'{"\\x00ff","\\x"}')),
    Case("double precision[]", texts("{0.1,NaN,-Infinity,0.30000000000000004}")),
    Case("jsonb[]", (r"""ARRAY['{"a": 1.10}', 'null']::jsonb[]""",)),
    Case("mood[]", texts('{sad,"very \'happy\'"}')),
    Case("int4range", texts("empty", "[1,5]", "(,)", "[-2147483648,2147483647)")),
    Case("int8range", texts("empty", "[1,5]", "[-9223372036854775808,)")),
    Case("numrange", texts("empty", "[1.50,NaN)", "(,0.1]"), twins=("'[2.0,3)'", "'[2.00,3)'")),
    Case("daterange", texts("empty", "[2024-02-29,infinity]", "(,0001-01-01 BC)")),
    Case("tsrange", texts("empty", "[2024-01-31 10:00:00.5,infinity]")),
    Case("tstzrange", texts("empty", "[2024-07-01 12:00+05:45,infinity)", "(-infinity,]")),
    Case("text_range", texts("empty", '["",é]', '["a b","c\\"d")')),
    Case("int4multirange", texts("{}", "{[1,5],[7,9)}"), since=140_000),
    Case("int8multirange", texts("{}", "{(,-9223372036854775808]}"), since=140_000),
    Case("nummultirange", texts("{}", "{[1.50,2),[3,NaN]}"), since=140_000),
    Case("datemultirange", texts("{}", "{[2024-02-29,infinity]}"), since=140_000),
    Case("tsmultirange", texts("{}", "{[2024-01-31 10:00:00.5,infinity]}"), since=140_000),
    Case("tstzmultirange", texts("{}", "{[2024-07-01 12:00+05:45,infinity)}"), since=140_000),
    # The server's own.
    Case("oid", texts("0", "2147483648", "4294967295")),
    Case("xid", texts("0", "4294967295")),
    Case("xid8", texts("0", "18446744073709551615")),
    Case("cid", texts("0", "4294967295")),
    Case("tid", texts("(0,0)", "(4294967295,65535)")),
    Case("pg_lsn", texts("0/0", "FFFFFFFF/FFFFFFFF")),
    Case("pg_snapshot", texts("10:20:10,14,15")),
    Case("txid_snapshot", texts("10:20:10,14,15")),
    Case("int2vector", texts("", "1 -2 3")),
    Case("oidvector", texts("", "1 4294967295")),
    Case("aclitem", texts("=r/postgres")),
    Case("refcursor", texts("", "a b")),
    Case("regclass", texts("pg_class", "public.counted", "-", "4294967295")),
    Case("regcollation", texts('"C"', "-")),
    Case("regconfig", texts("english")),
    Case("regdictionary", texts("simple")),
    Case("regnamespace", texts("public", "pg_catalog")),
    Case("regoper", texts("|/", "0")),
    Case("regoperator", texts("+(integer,integer)", "0")),
    Case("regproc", texts("now", "-")),
    Case("regprocedure", texts("abs(numeric)", "-")),
    Case("regrole", texts("pg_monitor", "-")),
    Case("regtype", texts("integer", "public.mood", "timestamp with time zone")),
    Case("pg_node_tree", ("(SELECT adbin FROM pg_attrdef WHERE adrelid = 'public.counted'::regclass)",)),
    Case("pg_ndistinct", statistic("ndistinct")),
    Case("pg_dependencies", statistic("dependencies")),
    Case("pg_mcv_list", statistic("mcv")),
    # Nothing but an index makes values of these.
    Case("gtsvector", ()),
    Case("pg_brin_bloom_summary", (), since=140_000),
    Case("pg_brin_minmax_multi_summary", (), since=140_000),
)  # fmt: skip
