"""The process groups behind a program's group."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import pytest

pytest.importorskip("torch")

from support.processes import together

from realrun.communication.groups import Group
from realrun.device import Host

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it counts sockets in /proc")


def sockets() -> int:
    """Return how many this process has open."""
    return sum(place.is_socket() for place in Path("/proc/self/fd").iterdir())


def process(rank: int, fresh: bool) -> None:
    before = sockets()
    group = Group(256, timedelta(seconds=60), Host(), fresh=fresh)
    made = sockets() - before
    group.close()
    assert (made > 0) is fresh


@pytest.mark.parametrize("fresh", [False, True])
def test_a_lab_that_has_become_another_network_gets_new_connections(fresh: bool) -> None:
    together(2, process, fresh)
