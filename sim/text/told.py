"""An error of the user's code as one line: what it says, in which file, at which line."""

from __future__ import annotations

import re
import sys
import sysconfig
import traceback
from pathlib import Path

from sim.text.visible import visible

_STANDARD = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")]
_OURS = [Path(__file__).parents[2] / name for name in ("realrun", "sim")]
_BACKENDS_SOURCE = re.compile(r"^\[\S+\.cc:\d+\] ")
_LONGEST_LINE = 1600
_LONGEST_WORD = 500  # longer than any path that people type
_INSTALLED = {"site-packages", "dist-packages"}


def first_line(error: BaseException) -> str:
    r"""Return the first line of what an error says, or its name if it says nothing.

    Without the place in gloo's source with which its messages begin.

    Examples
    --------
    >>> first_line(OSError("no space left\nat line 3")), first_line(KeyboardInterrupt())
    ('no space left', 'KeyboardInterrupt')
    >>> first_line(RuntimeError("[/gloo/transport/tcp/pair.cc:534] Connection closed by peer"))
    'Connection closed by peer'
    """
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return _BACKENDS_SOURCE.sub("", line)


def one_line(text: str) -> str:
    r"""Return a message as one line that any terminal shows, with endless words shortened.

    Examples
    --------
    >>> one_line("no such\n file: \x1b[31m" + "a" * 5000)
    'no such file: \\x1b[31maaaaaaaaaaaaaaaaaaa ... aaaaaaaaaaaaaaaaaaaaaaaa'
    """
    words = (
        word if len(word) <= _LONGEST_WORD else f"{word[:24]} ... {word[-24:]}"
        for word in text.split()
    )
    line = visible(" ".join(words))
    return line if len(line) <= _LONGEST_LINE else f"{line[:600]} ... {line[-600:]}"


def raised_at(error: BaseException) -> str:
    """Return where in a file of the user's an error came from: "mine.py, line 12".

    That is the deepest call that lies neither in an installed package, nor in torch, nor in
    Python's library, nor here; else the deepest one in an installed package; else "".
    """
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{_shown(error.filename)}, line {error.lineno}"
    calls = traceback.extract_tb(error.__traceback__)
    for whose in ("user", "package"):
        found = [call for call in calls if whose_file(call.filename) == whose]
        if found:
            return f"{_shown(found[-1].filename)}, line {found[-1].lineno}"
    return ""


def told(error: BaseException) -> str:
    """Return an error of the user's code as a line: kind, first line, file and line."""
    where = raised_at(error)
    kind = f"{type(error).__name__}: " if str(error) else ""
    return f"{kind}{first_line(error)}" + (f" ({where})" if where else "")


def method_failed(program: object, error: BaseException) -> str:
    """Return in a clause that a method of the user's failed; "" if the program is one of ours."""
    code = getattr(program, "gi_code", None)
    if code is None or whose_file(code.co_filename) == "ours":
        return ""
    return f"method {code.co_name} failed: {told(error)}"


def whose_file(name: str) -> str:
    """Return "user", or whose else a source file is: "package", "torch", "python", "ours"."""
    path = Path(name)
    if not path.is_absolute():  # <string>, <frozen importlib>
        return "python"
    if any(path.is_relative_to(place) for place in _OURS):
        return "ours"
    torch = getattr(sys.modules.get("torch"), "__file__", None)
    if torch is not None and path.is_relative_to(Path(torch).parent):
        return "torch"
    if _INSTALLED & set(path.parts):
        return "package"
    return "python" if any(path.is_relative_to(place) for place in _STANDARD) else "user"


def _shown(name: str) -> str:
    """Return a path, from the working directory on where it lies below."""
    path, here = Path(name), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
