"""What a collective costs on NCCL, by the cost model that NCCL itself chooses with.

constants: Latencies, bandwidth limits and correction factors, by release of NCCL.
fabric: The ranks and links that a collective runs on.
costs: Latency and bandwidth of each algorithm and protocol.
choice: The fastest pair of algorithm and protocol, and its time.
scenario_links: The fabric that the links of a scenario are to NCCL.
calibration: A fabric whose bandwidth, or bandwidth and latency, come from measured times.
"""
