"""How a run shows that it goes on: live on a terminal, one line a batch in a log."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

from tests.cli.place import Place

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_a_terminal(place: Place, *line: str, columns: int = 80) -> tuple[int, str]:
    """The exit code, and all that a terminal of that width was sent."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "rowtrail", *line],
        cwd=place.folder,
        env={**os.environ, "TERM": "xterm", "COLUMNS": str(columns)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    sent = bytearray()
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other end was closed: EIO, on Linux
            break
        if not part:
            break
        sent += part
    os.close(ours)
    return process.wait(), sent.decode()


def test_a_terminal_shows_live_progress_and_no_log(place: Place) -> None:
    place.use_transform()
    place.put((1, 1, "good"), (2, 2, "bad"))
    code, sent = on_a_terminal(place, "run")
    assert code == 3
    assert "\x1b[?25l" in sent and "\x1b[?25h" in sent, "the cursor is hidden and comes back"
    shown = ESCAPES.sub("", sent)
    assert "orders (trigger)" in shown
    assert "2 records" in shown and "1 failed" in shown
    assert "loaded=1" not in shown
    assert shown.rstrip().splitlines()[-1].endswith("what to do.")


def test_a_terminal_wraps_between_words(place: Place) -> None:
    _, sent = on_a_terminal(place, "status", "-p", "nowhere.toml", columns=40)
    lines = sent.split("\r\n")
    assert max(map(len, lines)) <= 40
    assert " ".join(" ".join(lines).split()).startswith("Error: There is no pipeline file nowhere")


def test_a_log_gets_one_line_a_batch(place: Place) -> None:
    place.use_transform()
    place.file.write_text(f"{place.file.read_text()}batch_rows = 2\n")
    place.put((1, 1, "good"), (2, 2, "bad"), (3, 3, "test"), (4, 4, "good"))
    answer = place.spawn("run")
    assert answer.code == 3
    lines = answer.err.splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \w+", line) for line in lines)
    batches = [line for line in lines if ": batch " in line]
    assert len(batches) >= 2
    assert re.search(r"batch [0-9a-f-]{36} loaded=1 deleted=0 filtered=0 .* failed=1$", batches[0])
    assert sum("loaded=1" in line for line in batches) == 2
    assert lines[-1].endswith("orders: complete except 1")
    assert "\x1b" not in answer.err + answer.out


def test_a_log_says_why_a_stream_stopped(place: Place) -> None:
    place.use_transform("def picky(orders):\n    return 3\n")
    place.put((1, 1, "a"))
    answer = place.spawn("run")
    assert answer.code == 1
    assert "orders: stopped: " in answer.err and "returned int instead of a DataFrame" in answer.err


def test_with_json_there_is_no_progress(place: Place) -> None:
    place.put((1, 1, "a"))
    code, sent = on_a_terminal(place, "run", "--json")
    assert code == 0
    assert "\x1b" not in sent and sent.startswith("{") and sent.rstrip().endswith("}")
