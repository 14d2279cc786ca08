"""The commands that the docs show, run as a person would type them, one shell for all.

`python -m tests.readme_steps` prints the README's section with the answers that the commands give
now; with a page's path, that page.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
TITLE = "When a record fails"
_MARK = "--- end of the answer ---"
_BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
_CHANGING = (
    (r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?", "TIME"),
    (r"\d\d:\d\d:\d\d\.\d{3}", "TIME"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID"),
    (r"in \d+\.\d s|took \d+\.\d s", "DURATION"),
    (r"for (under a minute|\d+ minutes?)", "DURATION"),
    (r"by \S+, from stage", "by SOMEBODY, from stage"),
    (r"[ \t]+", " "),
)


def section() -> str:
    text = README.read_text("utf-8")
    start = text.index(f"## {TITLE}\n")
    return text[start : text.index("\n## ", start)]


def steps(text: str) -> list[tuple[str, str]]:
    """Each command of the section with the answer that it shows."""
    found = []
    for block in _BLOCK.findall(text):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, answer = part.partition("\n")
            found.append((command, answer))
    return found


def answers(commands: list[str], folder: Path) -> list[str]:
    """What the commands print when they are typed in this folder, one after the other."""
    script = "".join(f"{command}\necho; echo '{_MARK}'\n" for command in commands)
    done = subprocess.run(
        ["bash"],
        cwd=folder,
        env={**os.environ, "COLUMNS": "80"},
        input=script,
        text=True,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    return [part.strip("\n") for part in done.stdout.split(_MARK)[:-1]]


def steady(text: str) -> str:
    """Without what differs each time: times, durations, ids of runs, the width of columns."""
    for pattern, word in _CHANGING:
        text = re.sub(pattern, word, text)
    return text.strip()


def main() -> None:
    """Prints the section or the page; the current folder must hold a fresh `demo`."""
    text = Path(sys.argv[1]).read_text("utf-8") if len(sys.argv) > 1 else section()
    told = iter(answers([command for command, _ in steps(text)], Path.cwd()))

    def with_answers(block: re.Match[str]) -> str:
        lines = []
        for part in re.split(r"^\$ ", block[1], flags=re.MULTILINE)[1:]:
            answer = next(told)
            lines += [f"$ {part.partition(chr(10))[0]}", *([answer] if answer else [])]
        return "```console\n" + "\n".join(lines) + "\n```"

    sys.stdout.write(_BLOCK.sub(with_answers, text) + "\n")


if __name__ == "__main__":
    main()
