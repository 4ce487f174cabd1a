"""The package ``sim`` under the project's name, also where a ``sim.py`` of your own hides it.

``import bandwise`` loads the ``sim`` that is installed next to it, whatever lies in the working
directory; from then on ``import sim`` means that one everywhere in the program. A program that has
imported another ``sim`` before is told so.
"""

import os
import sys
from types import ModuleType

TYPE_CHECKING = False  # which type checkers read as True
if TYPE_CHECKING:
    from sim import __version__ as __version__
    from sim import compare as compare
    from sim import load as load
    from sim import make_scenario as make_scenario
    from sim import plan as plan
    from sim import reproduce as reproduce
    from sim import required as required
    from sim import simulate as simulate
    from sim import sweep as sweep


def _sim() -> ModuleType:
    """Return the package next to this one, of which all modules import each other as ``sim``."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if "sim" not in sys.modules:
        sys.path.insert(0, folder)
        try:
            import sim  # noqa: F401
        finally:
            sys.path.remove(folder)
    found = sys.modules["sim"]
    place = getattr(found, "__file__", None) or ""
    if not place or os.path.realpath(place) != os.path.realpath(
        os.path.join(folder, "sim", "__init__.py")
    ):
        raise ImportError(
            f'bandwise: another module "sim" was imported before ({place or "built in"}); '
            "import bandwise first, or give that file another name"
        )
    return found


_found = _sim()
__all__ = list(_found.__all__)


if not TYPE_CHECKING:  # else a type checker would take any name for one of ours

    def __getattr__(name):
        if name.startswith("__") and name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(_found, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
