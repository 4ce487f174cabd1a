"""What is asked of many runs.

replications: Predictions of what is random: the median of several replications, with an interval.
memory: Bytes per accelerator, by part, of one worker of each kind of site.
activations: What those of a decoder take in memory, an estimate.
effort: What predicting a scenario takes, in seconds of one processor and bytes, before it is begun.
variations: The same scenario with other sites or other bandwidth: what what-if questions vary.
study: Many runs: base plus axes, in parallel processes, into one table; resumable.
study_folder: What the folder of a study holds: what it is, what is finished so far, the results.
streamed_study: Studies that outgrow one machine: cases made where they are run, results in parts.
method_text: The text of a user's method, by which results of another one are told apart.
result_files: Results of studies and sweeps, read back to be drawn; people may have edited them.
comparison: Methods side by side, on equal tokens, against one site alone and with a site left out.
target_search: How much bandwidth a run needs: bisection on the simulator.
quantities: What else may be asked for, a row each: rtt, sync_every, delay, comm_dtype, batch.
quantity_search: The best value of one of them that reaches a target: each one, or halving a range.
target_tables: Bandwidth that reaches each target, read off a study's curves or found by bisection.
reproduce: A published table next to ours, cell by cell.
cost: What a run costs: accelerator-hours, money, energy, and bytes that leave each site.
overlap: What ``overlap = "layer"`` would give, where nobody said how to overlap.
flat_ring: What a flat ring would give, where nobody said how collectives are carried out.
prefetch: What fully sharded training takes if gathering hides behind nothing.
alternative: What another value would give of a key that nobody gave; unasked: all that apply.
in_step: Whether workers that are not in step stay so over gloo, and what a run then takes.
levers: What one change of network, machines or method does to the time for equal tokens.
lever_candidates: A changed scenario that may be a lever, and how to type values.
levers_of_network: Levers of the network: bandwidth of all links or of the slowest, round trips.
levers_of_sites: Levers of machines and sites: faster accelerators, a slow site, one less or more.
levers_of_method: Levers of the method: inner steps, delay, type on the wire, overlap.
selected_runs: Which runs of results a picture shows, and whether its columns can be drawn.
"""
