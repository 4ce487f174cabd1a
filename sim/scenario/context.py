"""What the resolving modules share: the checked sections, and notes of what was assumed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sim.scenario.checking import place, refusal
from sim.scenario.document import Document
from sim.scenario.errors import ScenarioError, path_shown, problem
from sim.scenario.hardware import Hardware
from sim.scenario.schema import ScenarioFile


@dataclass
class Context:
    """A document on its way to a scenario."""

    document: Document
    sections: ScenarioFile
    hardware: Hardware | None = None
    assumed: list[tuple[str, str]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    #: Of every site, the number of the block that describes it; filled in as sites are read.
    block_of: list[int] = field(default_factory=list)

    def assume(self, key: str, value: str) -> None:
        """Note a value that no one gave."""
        self.assumed.append((key, value))

    def refuse(self, *path: str | int, text: str) -> ScenarioError:
        """Return the error about a key, wherever it was written."""
        return refusal(self.document, path, text)

    def refuse_key(self, *path: str | int, text: str) -> ScenarioError:
        """Return the error about a key that should not be there, whatever its value."""
        origin, key = place(self.document, path)
        return problem(origin, key, text)

    def file(self, name: str, *path: str | int) -> tuple[Path, str]:
        """Return a file named by a key, and how messages call it.

        Relative to the scenario's file; relative to the working directory if an option
        names it, as any command's arguments are.
        """
        given, _ = self.document.find(path)
        folder = Path() if given is None or given.origin.names_key else self.document.folder
        whole = folder / Path(name).expanduser()
        return whole, path_shown(whole)
