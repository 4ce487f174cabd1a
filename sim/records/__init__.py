"""The resolved scenario: frozen records in SI units that the simulator reads.

scenario: the records, with everything filled in. islands: workers of many accelerators. pairs:
links by pair of sites; profiles: how a link varies over time, and varying: which links of a
scenario do. connections: what TCP would carry. memory_keys: how bytes of memory are counted.
flops: operations by parameters; cold_start: what a pause costs. flat_ring: collectives whose
algorithm nobody has named. identity: the hash of all that decides an answer.

This package knows neither TOML nor options nor units; :mod:`sim.scenario` makes these records.
"""
