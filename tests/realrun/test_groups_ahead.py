"""Process groups of islands are there before the run that will need them."""

from __future__ import annotations

import json
from pathlib import Path
from time import sleep

import pytest

torch = pytest.importorskip("torch")

from support.processes import together  # noqa: E402

from realrun.device import Host  # noqa: E402
from realrun.model.paced import PacedModel  # noqa: E402
from realrun.runtime.groups_ahead import make_groups_ahead  # noqa: E402
from realrun.runtime.shared import Limits, Shared  # noqa: E402
from realrun.runtime.worker import TorchWorker  # noqa: E402
from sim.records.islands import accelerators_of  # noqa: E402
from sim.scenario import load  # noqa: E402

SETTINGS = [
    "site.inside.method=zero1",
    "site.inside.accelerators=2",
    "method.comm_dtype=int8",
    "method.sync_every=2",
]


def process(rank: int, out: Path) -> None:
    asked = accelerators_of(load("quick_start", {"--method": "diloco"}, SETTINGS))
    model = PacedModel(asked.model, 1, 1024, torch.device("cpu"))
    shared = Shared(rank, 4, model, Limits(rounds=1))
    make_groups_ahead(shared, asked)
    found = {
        name: [lane.process_group is not None for lane in (group._plain, group._second)]
        for name, group in shared.groups.items()
    }
    sleep(0.2)
    shared.time_on(Host())  # as when a measured run begins
    worker = TorchWorker(shared)
    worker.drive(asked.method.program(worker, **asked.method.arguments))
    shared.close()
    late = [row.operation for row in shared.rows if not row.begin_s <= row.end_s <= shared.now()]
    (out / f"{rank}.json").write_text(json.dumps([found, late]))


def test_every_rank_makes_its_own_groups_and_no_others(tmp_path: Path) -> None:
    """Inside an island, and across islands, where int8 has a second process group."""
    together(4, process, tmp_path)
    for rank in range(4):
        island, place = divmod(rank, 2)
        inside, across = f"main[{2 * island},{2 * island + 1}]", f"main[{place},{place + 2}]"
        found, late = json.loads((tmp_path / f"{rank}.json").read_text())
        assert not late  # groups that were there already have the run's clock
        assert found == {inside: [True, False], across: [True, True]}
