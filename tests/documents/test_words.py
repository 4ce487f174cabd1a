"""The prose of the repository: expressions that never belong in plain technical English.

Each is listed with what to write instead. Documents, comments, docstrings and messages are read;
names in code are no prose.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Since Python 3.12 an f-string is several tokens.
STRINGS = (tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING))
FSTRING = (
    ['f"""two', 'lines of {beside}"""'] if sys.version_info < (3, 12) else ["two", "lines of "]
)
INSTEAD = {
    "the own": "its own, this worker's",
    "anew": "again, re-",
    "so many (?!as |that )": "that many, N",
    "only who": "only if someone",
    "beside": "next to, during, in addition to",
    "errs by": "has an error of",
    "whoever": "a person who, a process that",
    "colours?": "color",
    "quantisation": "quantization",
}
# Histories of what was, records of measurements, and words that users may write.
EXCEPT = ("CHANGELOG.md", "validation/lab/", "tests/golden/", "sim/scenario/words.py")
HERE = "tests/documents/test_words.py"


def files() -> Iterator[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "*.md", "*.toml", "*.ipynb"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("needs the repository: the files are those that it tracks")
    for name in listed.stdout.splitlines():
        if not name.startswith((*EXCEPT, HERE)) and (ROOT / name).exists():
            yield ROOT / name


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of a file that a person reads: of code, comments and strings of several words."""
    if path.suffix != ".py":
        yield from enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        return
    with tokenize.open(path) as file:
        for token in tokenize.generate_tokens(file.readline):
            if token.type == tokenize.COMMENT or (
                token.type in STRINGS and " " in token.string.strip()
            ):
                yield from enumerate(token.string.splitlines(), token.start[0])


@pytest.fixture(scope="module")
def lines() -> dict[str, str]:
    return {
        f"{path.relative_to(ROOT)}:{number}": line
        for path in files()
        for number, line in prose(path)
    }


def uses(expression: str, text: str) -> bool:
    return re.search(rf"\b{expression}\b", text, re.IGNORECASE) is not None


@pytest.mark.parametrize("expression", INSTEAD)
def test_an_expression_is_not_used(expression: str, lines: dict[str, str]) -> None:
    found = [f"{place}: {line.strip()}" for place, line in lines.items() if uses(expression, line)]
    assert not found, f"write {INSTEAD[expression]}:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("the result replaces the own slice", "the own"),
        ("After so many steps", "so many (?!as |that )"),
        ("the published one beside it", "beside"),
    ],
)
def test_the_patterns_find_what_they_are_for(text: str, expression: str) -> None:
    assert expression in INSTEAD
    assert uses(expression, text)


def test_code_is_no_prose(tmp_path: Path) -> None:
    path = tmp_path / "code.py"
    path.write_text('beside = {"anew": 1}  # so many things\nf"""two\nlines of {beside}"""\n')
    assert [line for _, line in prose(path)] == ["# so many things", *FSTRING]
