"""Scenario files: TOML, options and settings in; frozen records in SI units out.

``load`` reads one scenario, ``loaded`` one with the sections that realrun needs as well,
``load_study`` a base with axes, ``sweep`` makes a study of options alone. Every mistake of a user
is a ``ScenarioError`` of one line.
"""

from sim.scenario.consent import Allowed
from sim.scenario.errors import ScenarioError
from sim.scenario.loading import Loaded, bundled, load, loaded, sections
from sim.scenario.options import OPTIONS, Option
from sim.scenario.resolved import Scenario
from sim.scenario.schema import ScenarioFile
from sim.scenario.study import Case, Study, load_study, sweep
from sim.scenario.template import template

__all__ = [
    "OPTIONS",
    "Allowed",
    "Case",
    "Loaded",
    "Option",
    "Scenario",
    "ScenarioError",
    "ScenarioFile",
    "Study",
    "bundled",
    "load",
    "load_study",
    "loaded",
    "sections",
    "sweep",
    "template",
]
