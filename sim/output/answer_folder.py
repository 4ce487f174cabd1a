"""Folders that hold one answer: which files are its own, and that another question keeps out.

A JSON file says with two digests of which question the folder is: what was asked, and what
computed it. A folder of another question is refused before anything is computed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.questions.study_folder import StudyError
from sim.storage.files import clear_partial, replacing
from sim.storage.locks import locked


@dataclass(frozen=True)
class AnswerFolder:
    """One kind of folder."""

    #: What it holds, as messages name it: "plan".
    what: str
    tables: tuple[str, ...]
    #: Pictures without the endings, .png and .svg.
    pictures: tuple[str, ...]

    @property
    def about(self) -> str:
        """Name of the file that says of which question it is."""
        return f"{self.what}.json"

    @property
    def drawn(self) -> list[str]:
        """Names of all files of pictures."""
        return _files_of(self.pictures)

    def identity(self, asked: str, program: str) -> dict[str, str]:
        """Return the two digests under their names."""
        return {f"{self.what}_sha256": asked, "program_sha256": program}

    @contextmanager
    def opened(self, out: Path, identity: Mapping[str, str]) -> Iterator[None]:
        """Make the folder, lock it until the end, and refuse one of another question.

        Raises
        ------
        StudyError
            If it holds the answer to another question, or files of an unknown one.
        LockedError
            If another process works there.
        """
        out.mkdir(parents=True, exist_ok=True)
        with locked(out):
            clear_partial(out)
            self._refuse_other(out, identity)
            yield

    def write(self, out: Path, texts: Mapping[str, str], figures: Mapping[str, Any]) -> list[str]:
        """Write texts, the one that says what the folder is first, and pictures; return names.

        Tables and pictures of a run with other options for output are removed.
        """
        from sim.figures.plots import save

        for name in sorted(texts, key=lambda name: name != self.about):
            with replacing(out / name) as partial_file:
                partial_file.write_text(f"{texts[name]}\n", encoding="utf-8")
        drawn = _files_of(tuple(figures))
        for name in drawn:
            save(figures[Path(name).stem], out / name)
        written = [*texts, *drawn]
        for name in {*self.tables, *self.drawn} - {*written}:
            (out / name).unlink(missing_ok=True)
        return written

    def _refuse_other(self, out: Path, identity: Mapping[str, str]) -> None:
        about, key = out / self.about, f"{self.what}_sha256"
        if not about.exists():
            unknown = [name for name in (*self.tables, *self.drawn) if (out / name).exists()]
            if unknown:
                raise StudyError(
                    f"{out}: holds {' and '.join(unknown)} of a {self.what} that is not known "
                    f"({self.about} is missing); choose another --out, or remove them"
                )
            return
        try:
            known = json.loads(about.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            known = None
        rule = "choose another --out, or remove that file"
        if not isinstance(known, dict):
            raise StudyError(f"{about}: does not say of which {self.what} it is; {rule}")
        if all(known.get(name) == value for name, value in identity.items()):
            return
        if known.get(key) == identity[key]:
            raise StudyError(
                f"{about}: holds this {self.what} by another version of the program (bandwise "
                f"{known.get('version', 'unknown')}, or another text of a method of yours); {rule}"
            )
        raise StudyError(f"{about}: holds the {self.what} of another question; {rule}")


def _files_of(pictures: tuple[str, ...]) -> list[str]:
    return [f"{name}.{kind}" for name in pictures for kind in ("png", "svg")]
