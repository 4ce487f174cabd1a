"""The text of a scenario file to start from."""

from __future__ import annotations

from collections.abc import Sequence

from sim.scenario.errors import Origin, problem, shown
from sim.scenario.schema import usable_name

_HEAD = """\
# A scenario for bandwise: who trains what, and how the sites are connected.
# Loads as it is; lines marked EDIT hold placeholders. Print what was not given with:
#     bandwise simulate THIS_FILE

[run]
tokens = "200B"                 # EDIT: or steps = 10000, or rounds = 100, or steps = "steady"
seed = 0

[model]
parameters = "10B"              # EDIT: or name = "10B" for a preset with its own step time
layers = 48                     # EDIT
# active_parameters = "3B"      # mixture of experts: what one token computes with
# frozen_parameters = "7B"      # computed with, neither trained nor sent: a base under adapters

[method]
name = "streaming_diloco"       # bandwise methods lists them all, with their arguments
sync_every = 100                # inner steps between two outer steps of the same layers

"""
_SITE = """\
[[site]]
name = {name}
workers = 1                     # model replicas here
step_time = "2.5 s"             # EDIT: one inner step; or, instead of it, the next two lines
# accelerators = "64 x H100"    # what one worker runs on
# mfu = 0.40                    # part of their peak that training reaches
batch_tokens = "1Mi"            # EDIT: per worker and inner step
# jitter = {{ distribution = "lognormal", cv = 0.1 }}    # how much the times of steps vary
# uplink = "10 Gbit/s"          # all that leaves the site, where it is not network.bandwidth
# downlink = "10 Gbit/s"        # all that enters it

"""
_LINE = """\
[network]
bandwidth = "1 Gbit/s"          # EDIT: goodput per direction, as iperf3 prints it
per = "site"                    # each site's own link; "pair": every pair of sites has it
rtt = "30 ms"                   # EDIT: as ping prints it
"""
_MATRICES = """\
[network]
# Row = from, column = to, in this order; the diagonal is not read.
order = [{order}]
# EDIT: goodput per direction, as iperf3 prints it. Each pair of sites has its own to itself; what
# a site sends, or receives, in all is limited by its uplink and downlink alone.
bandwidth = {{ unit = "Gbit/s", matrix = [
{bandwidth}
] }}
# EDIT: round trips, as ping prints them.
rtt = {{ unit = "ms", matrix = [
{rtt}
] }}
collective = {{ algorithm = "ring", order = "best" }}
"""


def template(sites: Sequence[str]) -> str:
    """Return a commented scenario for sites with these names; it loads as it is.

    Raises
    ------
    ScenarioError
        If a name cannot be a site's, or appears twice, or there is none.
    """
    origin = Origin("--sites")
    if not sites:
        raise problem(origin, "", "name the sites, like paris,dallas,osaka")
    for place, name in enumerate(sites):
        if not name.strip() or not usable_name(name):
            raise problem(origin, "", "cannot be a site's name; use letters and digits", name)
        if name in sites[:place]:
            raise problem(origin, "", "is named twice", name)
    blocks = "".join(_SITE.format(name=shown(name)) for name in sites)
    if len(sites) < 3:
        return _HEAD + blocks + _LINE
    network = _MATRICES.format(
        order=", ".join(shown(name) for name in sites),
        bandwidth=_rows(len(sites), "1.0"),
        rtt=_rows(len(sites), "30"),
    )
    return _HEAD + blocks + network


def _rows(size: int, number: str) -> str:
    nothing = "0".rjust(len(number))
    return "\n".join(
        "    [" + ", ".join(nothing if i == j else number for j in range(size)) + "],"
        for i in range(size)
    )
