"""Predict how long a distributed training run takes and how busy its accelerators are.

    import sim

    scenario = sim.make_scenario(model="10B", method="diloco", sites=3, bandwidth="1 Gbit/s")
    sim.simulate(scenario)

``make_scenario`` and ``load`` give a scenario; ``simulate``, ``sweep``, ``compare``, ``plan``,
``required`` and ``memory`` ask about it; ``reproduce`` computes a published table again. Each is
loaded when it is first asked for: :mod:`sim.api`.
"""

from sim.version import __version__ as __version__

TYPE_CHECKING = False  # which type checkers read as True; typing would take time to import
if TYPE_CHECKING:
    from sim.api.comparison import compare as compare
    from sim.api.memory import memory as memory
    from sim.api.planning import plan as plan
    from sim.api.reproduction import reproduce as reproduce
    from sim.api.requirement import required as required
    from sim.api.scenarios import load as load
    from sim.api.scenarios import make_scenario as make_scenario
    from sim.api.simulation import simulate as simulate
    from sim.api.sweeping import sweep as sweep

_MODULES = {
    "make_scenario": "scenarios",
    "load": "scenarios",
    "simulate": "simulation",
    "sweep": "sweeping",
    "compare": "comparison",
    "plan": "planning",
    "required": "requirement",
    "memory": "memory",
    "reproduce": "reproduction",
}

__all__ = [
    "__version__",
    "compare",
    "load",
    "make_scenario",
    "memory",
    "plan",
    "reproduce",
    "required",
    "simulate",
    "sweep",
]


if not TYPE_CHECKING:  # else a type checker would take any name for one of ours

    def __getattr__(name):
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        found = getattr(import_module(f"sim.api.{_MODULES[name]}"), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
