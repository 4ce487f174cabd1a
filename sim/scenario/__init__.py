"""Scenario files: TOML, options and settings in; frozen records in SI units out.

``load`` reads one scenario, ``loaded`` one with the sections that realrun needs as well,
``load_study`` a base with axes, ``sweep`` makes a study of options alone. Every mistake of a user
is a ``ScenarioError`` of one line.

From text to checked sections: loading finds a scenario, reading and toml read it, document lays
options and settings over it, schema and fields say what a key may hold, described what it means,
tables what [study] and hardware files may hold, checking checks, consent asks before code is
imported. What was wrong: errors, with advice and words of other projects.

From sections to records: resolution, with context for what its parts share. machines, measured,
hardware and samples: seconds of operations; islands, efficiency, nodes and interconnects: steps of
many accelerators; cores: workers that share one; balance: batches with which nobody waits,
inner_steps: inner steps by site. models and presets: sizes; tensors: what layers consist of.
recorded: a recording in place of a file. method: a program's arguments, and signatures what they
mean. memory: how bytes are counted. tariffs: what a site costs. links and rings: the network;
varying: how its links vary over time; csv_files: tables that a scenario names. The records are
those of :mod:`sim.records`.

Many scenarios: options of the command line, keywords of Python, axes, their combinations, cases
(held or generated), study and study_section, validation_study.
template: a file to begin with. given: what people wrote, listed.
"""

from sim.records.scenario import Scenario
from sim.scenario.cases import Case
from sim.scenario.consent import Allowed
from sim.scenario.errors import ScenarioError
from sim.scenario.loading import Loaded, bundled, load, loaded, sections
from sim.scenario.options import OPTIONS, Option
from sim.scenario.schema import ScenarioFile
from sim.scenario.study import Study, load_study, sweep
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
