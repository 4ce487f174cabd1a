"""Which key was probably meant: advice that can be followed as it stands."""

from __future__ import annotations

from collections.abc import Collection

from sim.scenario.errors import listed, nearest
from sim.scenario.method import method_arguments, who_takes
from sim.scenario.schema import SECTIONS, known_keys
from sim.scenario.words import OR, SYNONYMS, WRITTEN


def meant(
    word: str, section: tuple[str, ...], method: str = "", takes: Collection[str] | None = None
) -> str:
    """Return a hint at the key that was probably meant, in this section if any is near.

    Parameters
    ----------
    word, section
        What was written, and where.
    method, takes
        The method that the scenario names, and its arguments; None where they are not known.
    """
    return hinted(word, section, method, takes) or _keys_of(section)


def hinted(
    word: str, section: tuple[str, ...], method: str = "", takes: Collection[str] | None = None
) -> str:
    """Return a hint at a key, "" where none is near."""
    name = ".".join(section)
    here = _here(section, takes)
    called = synonym(word, name, here)
    own = called is not None and called.rpartition(".")[0] == name
    near = nearest(word, here, 0.9) or (None if own else nearest(word, here, 0.75))
    if near is None and called is not None:
        return f"here it is called {shown(called)}{also(word)}{_not_of(called, method, takes)}"
    near = near or nearest(word, here)
    if near is not None:
        return f"did you mean {_path((*section, near))}?"
    elsewhere = _elsewhere(word)
    if not elsewhere:
        return ""
    return f"did you mean {listed(elsewhere)}?{_not_of(elsewhere[0], method, takes)}"


def synonym(word: str, section: str = "", here: Collection[str] = ()) -> str | None:
    """Return the key that a paper's letter or another project's word stands for.

    The one of this section, or of this name in it, goes before those of others.
    """
    keys = SYNONYMS.get(word) or SYNONYMS.get(word.lower().replace("-", "_")) or ()
    for key in keys:
        if key.rpartition(".")[0] == section:
            return key
        if key.rpartition(".")[2] in here and section:
            return f"{section}.{key.rpartition('.')[2]}"
    return keys[0] if keys else None


def shown(key: str) -> str:
    """Return a key as advice names it, with an example where its value is written in our way."""
    if key == "site":
        return "[[site]], one block per site (or --sites 3)"
    if key == "site.workers":
        return "site.workers (model replicas at each site)"
    return f"{key}, written like {WRITTEN[key]}" if key in WRITTEN else key


def also(word: str) -> str:
    """Return in brackets what a word may mean besides its key, "" for most."""
    text = OR.get(word.lower().replace("-", "_"))
    return f" ({text})" if text else ""


def _not_of(key: str, method: str, takes: Collection[str] | None) -> str:
    """Say that the method named does not take an argument, and which do."""
    section, _, argument = key.rpartition(".")
    if section != "method" or argument == "name" or takes is None or argument in takes:
        return ""
    return f" ({method} does not take it; {who_takes(argument)})"


def _here(section: tuple[str, ...], takes: Collection[str] | None) -> list[str]:
    here = list(SECTIONS[section].model_fields) if section in SECTIONS else []
    return [*here, *(takes or ())] if section == ("method",) else here


def _elsewhere(word: str) -> list[str]:
    """Return the keys of other sections that are called nearly so, those nearest to the top."""
    keys = [*(f"method.{name}" for name in method_arguments()), *known_keys()]
    last = nearest(word, [key.rpartition(".")[2] for key in keys], 0.8)
    same = [key for key in keys if key.rpartition(".")[2] == last]
    least = min((key.count(".") for key in same), default=0)
    return [key for key in same if key.count(".") == least]


def _keys_of(section: tuple[str, ...]) -> str:
    here = _here(section, None)
    if not section:
        return f"a scenario has {listed([*here, 'study'], 'and')}"
    return f"the keys of {'.'.join(section)} are {listed(here, 'and')}"


def _path(path: tuple[str, ...]) -> str:
    return "[[site]]" if path == ("site",) else ".".join(path)
