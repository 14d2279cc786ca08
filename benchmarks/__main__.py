"""`python -m benchmarks [NAME...]`: runs all benchmarks, or those named, and prints tables."""

from __future__ import annotations

import argparse
import json
import tempfile
from importlib import import_module
from pathlib import Path

from benchmarks.machine import facts
from benchmarks.report import Report
from benchmarks.settings import Settings

NAMES = (
    "sync",
    "ledger_size",
    "retry",
    "poison",
    "trail",
    "memory",
    "archive",
    "postgres_full_sync",
    "postgres_memory",
    "postgres_incremental",
    "postgres_log",
    "postgres_replay",
    "snowflake",
)


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="rowtrail-", dir=options.folder) as folder:
        settings = Settings(
            folder=Path(folder),
            rounds=options.rounds,
            scale=options.scale,
            peers=options.peers,
        )
        machine = facts(settings.folder)
        for name, value in machine.items():
            print(f"{name}: {value}")
        print(f"rounds: {settings.rounds}; ratios are medians over rounds, with their spread")
        if settings.scale != 1:
            print(f"all row counts times {settings.scale:g}; limits are judged at 1 only")
        reports = {}
        for name in options.names or NAMES:
            print(flush=True)
            reports[name] = _run(name, settings)
            print(reports[name].text(judged=settings.scale == 1), flush=True)
    if options.json is not None:
        options.json.write_text(_document(machine, settings, reports), encoding="utf-8")


def _run(name: str, settings: Settings) -> Report:
    report: Report = import_module(f"benchmarks.{name}").main(settings)
    return report


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each variant")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies all row counts")
    parser.add_argument("--folder", type=Path, help="where the data goes, for another disk")
    parser.add_argument(
        "--peers",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="measure other programs too; each is installed on first use",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every single figure")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(NAMES))
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    if options.rounds < 1 or options.scale <= 0:
        parser.error("--rounds starts at 1, and --scale is above 0")
    return options


def _document(machine: dict[str, str], settings: Settings, reports: dict[str, Report]) -> str:
    document = {
        "machine": machine,
        "rounds": settings.rounds,
        "scale": settings.scale,
        "benchmarks": {
            name: {
                "figures": report.raw,
                "limits": [limit.document() for limit in report.limits],
            }
            for name, report in reports.items()
        },
    }
    return json.dumps(document, indent=1)


if __name__ == "__main__":
    main()
