"""``python -m support.read_page PAGE``: read a page in Markdown as a person does, in this folder.

Blocks in order: ``file: NAME`` is saved, commands run, ``python`` is executed, and each line of
``text`` must have been printed by what stands before it. A block with ``not-run: REASON`` is left
out. A failure ends the process with the reason on standard error.
"""

from __future__ import annotations

import io
import shlex
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from support.fences import fences


def read(page: Path) -> int:
    """Read a page; return how many commands ran."""
    names: dict[str, Any] = {}
    printed, commands = "", 0
    for block in fences(page.read_text(encoding="utf-8")):
        if block.file:
            Path(block.file).write_text(block.text)
        elif block.not_run:
            continue
        elif block.language in ("", "sh"):
            lines = block.text.replace("\\\n", " ").splitlines()
            printed, commands = "".join(map(_ran, lines)), commands + len(lines)
        elif block.language == "python":
            said = io.StringIO()
            with redirect_stdout(said):
                exec(compile(block.text, page.name, "exec"), names)
            printed = said.getvalue()
        elif block.language == "text":
            shown = [line for line in block.text.splitlines() if line]
            missing = [line for line in shown if line not in printed.splitlines()]
            if missing:
                sys.exit(f"{page.name} shows what was not printed: {missing[0]}\n{printed}")
    return commands


def _ran(line: str) -> str:
    """Run a command and return what it printed; ``bandwise`` in this process, which saves time."""
    program, *arguments = shlex.split(line)
    if program == "realrun":
        done = subprocess.run(
            [sys.executable, "-m", "realrun", *arguments], capture_output=True, text=True
        )
        status, printed = done.returncode, done.stdout + done.stderr
    elif program == "bandwise":
        from sim.cli import main

        said = io.StringIO()
        sys.argv = ["bandwise", *arguments]
        with redirect_stdout(said), redirect_stderr(said):
            try:
                main()
            except SystemExit as end:
                status = int(end.code or 0)
        printed = said.getvalue()
    else:
        sys.exit(f"no command of ours: {line}")
    if status or "Traceback" in printed or not printed.strip():
        sys.exit(f"{line}: status {status}\n{printed}")
    return printed


if __name__ == "__main__":
    sys.stdout.write(f"{read(Path(sys.argv[1]))} commands ran\n")
