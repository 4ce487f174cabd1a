"""``bandwise serve`` as a process: where it listens, and what it says where it cannot."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator

import pytest
from support.serving import served
from support.sockets import listening

from sim.output.errors import UserError
from sim.web import serving


@pytest.fixture(scope="module")
def page() -> Iterator[tuple[int, str]]:
    pytest.importorskip("starlette", reason="the extra web is not installed")
    with served() as found:
        yield found


def test_it_listens_on_loopback_alone(page: tuple[int, str]) -> None:
    process, address = page
    port = int(address.rstrip("/").rpartition(":")[2])
    assert listening([process]) == {("127.0.0.1", port)}


def test_it_answers_in_another_process(page: tuple[int, str]) -> None:
    _, address = page
    with urllib.request.urlopen(f"{address}answer?model=1B&method=diloco", timeout=60) as reply:
        assert b'"compute_utilization"' in reply.read()


def test_a_port_that_is_in_use_is_named() -> None:
    pytest.importorskip("starlette", reason="the extra web is not installed")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"--port {port}: .* choose another"):
            serving.serve(port, opened=False)


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "bandwise\[web\]"'):
        serving.serve(0, opened=False)
