"""Links between accelerators that are known by name."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import PlainValidator

from sim.scenario.errors import did_you_mean
from sim.scenario.fields import RefusedError, read_rate

# Bytes/s in one direction, of one accelerator or one adapter.
# NVLink: NVIDIA H100 Tensor Core GPU Architecture (2022), table 5, and data sheets of A100 and
# B200: 600, 900 and 1,800 GB/s for both directions together. PCIe 4.0 and 5.0 x16: 16 and 32 GT/s
# with 128b/130b encoding (PCI-SIG). InfiniBand HDR, NDR, XDR: 200, 400 and 800 Gbit/s (IBTA).
INTERCONNECTS: dict[str, float] = {
    "NVLink 3": 300e9,
    "NVLink 4": 450e9,
    "NVLink 5": 900e9,
    "PCIe 4": 31.5e9,
    "PCIe 5": 63e9,
    "InfiniBand HDR": 25e9,
    "InfiniBand NDR": 50e9,
    "InfiniBand XDR": 100e9,
    "100G Ethernet": 12.5e9,
    "200G Ethernet": 25e9,
    "400G Ethernet": 50e9,
}


def read_interconnect(value: object) -> float:
    """Read a rate, or one or several links by name, like "8 x InfiniBand NDR".

    Examples
    --------
    >>> read_interconnect("NVLink 4"), read_interconnect("8 x infiniband ndr")
    (450000000000.0, 400000000000.0)
    >>> read_interconnect("400 Gbit/s")
    50000000000.0
    """
    if value is None:
        raise RefusedError('must be like "400 Gbit/s" or "8 x InfiniBand NDR"')
    match = re.fullmatch(r"\s*(?:(\d{1,4})\s*[x×*]\s*)?([A-Za-z\d].*?)\s*", str(value))
    known = {name.lower(): rate for name, rate in INTERCONNECTS.items()}
    if isinstance(value, str) and match:
        rate = known.get(" ".join(match[2].lower().split()))
        if rate is not None:
            return int(match[1] or 1) * rate
        if match[1] or not match[2][0].isdigit():
            raise RefusedError(f"is no known link{did_you_mean(match[2], INTERCONNECTS)}")
    return read_rate(value)


Interconnect = Annotated[float, PlainValidator(read_interconnect)]
