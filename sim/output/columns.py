"""What the columns of results hold: of results.csv and results.parquet, and of ``--format csv``."""

from __future__ import annotations

RUNS: dict[str, str] = {
    "schema": "Version of the columns.",
    "version": "Version of bandwise that made the row.",
    "scenario_sha256": "Hash of the scenario: of all that differs from the defaults.",
    "workers": "Number of workers.",
    "wall_clock_s": "Time of the evaluated rounds; seconds.",
    "total_wall_clock_s": "Time of the whole run, its last exchange included; seconds.",
    "total_is_lower_bound": "Whether the total is only known to be at least that much.",
    "extrapolated": "Whether the horizon lies beyond the rounds that were simulated.",
    "evaluated_tokens": "Tokens of all workers in the evaluated rounds.",
    "evaluated_updates": "Updates in the evaluated rounds.",
    "steady": "Whether the evaluated rounds repeat.",
    "inner_step_s": "Time of the evaluated rounds per inner step; seconds.",
    "tokens": "Tokens of all workers in the whole run.",
    "tokens_per_s": "Tokens of all workers per second, in the evaluated rounds.",
    "updates": "Updates of the model in the whole run.",
    "tokens_per_update": "Tokens of all workers per update.",
    "sent_bytes_per_worker": "Bytes that a worker sends in the evaluated rounds, the mean.",
    "mean_bandwidth_bytes_per_s": "Those bytes over the time of the evaluated rounds.",
    "peak_bandwidth_bytes_per_s": "The most sent by a worker in one inner step's time, over it.",
    "replications": "Predictions of which the row is the one of median wall-clock.",
    "wall_clock_low_s": "Lower end of the interval for the median wall-clock; seconds.",
    "wall_clock_high_s": "Upper end of the interval for the median wall-clock; seconds.",
    "collective_model": "How collectives were modeled, in words.",
    "tokens_per_s_per_accelerator": "Tokens per second and accelerator, where all are known.",
    "mfu_end_to_end_fraction": "Model FLOPs utilization of the run as a whole, 0 to 1.",
    "accelerator_hours": "Accelerators x hours of the whole run, where all are known.",
    "egress_tb": "Bytes that leave their site in the whole run, all sites; 10^12 bytes.",
    "money": "Accelerator-hours and egress of the whole run at the sites' prices, where given.",
    "currency": "Currency of the money, where one is given.",
    "money_is_lower_bound": "Whether some site is not priced, or the time is a lower bound.",
    "energy_kwh": "Energy of the whole run, PUE included, where power is given; kWh.",
    "energy_is_lower_bound": "Whether some site's power is not given, or the time is a bound.",
    "compute_fraction": "Share of workers x wall-clock on passes that enter an update.",
    "optimizer_fraction": "Share on inner and outer optimizers.",
    "quantize_fraction": "Share on packing values before int8 and fp4 collectives.",
    "contention_fraction": "Share lost to compute/communication interference.",
    "exposed_communication_fraction": "Share blocked on communication that nothing hides.",
    "exposed_inside_fraction": "Share in which accelerators of one worker wait for each other.",
    "waiting_fraction": "Share waiting for a slower worker.",
    "setup_fraction": "Share exposed while a group's first collective makes its connections.",
}
"""Columns that both kinds of results have."""

STUDY: dict[str, str] = {
    "method.name": "Name of the method.",
    "compute_utilization_fraction": "Compute utilization in the evaluated rounds, 0 to 1.",
    "figures_are_bounds": "Whether times are lower bounds, shares and rates upper ones.",
    "evaluated_periods": "Periods of the links' profile that the evaluated rounds take; where the "
    "profile repeats.",
}
"""What results of a study or sweep have in addition, next to a column per axis."""

ONE_RUN: dict[str, str] = {
    "prediction": "Whether the figures are simulated or measured.",
    "scenario": "Name of the scenario.",
    "method": "Name of the method.",
    "sites": "Number of sites.",
    "interval_coverage": "Probability with which the interval holds the median.",
    "declares_updates": "Whether the program declares its updates; else there is no count.",
    "compute_utilization": "Compute utilization in the evaluated rounds, 0 to 1.",
    "rounds": "Rounds of the whole run.",
    "window_rounds": "Number of evaluated rounds.",
    "skipped_rounds": "Rounds before them.",
    "window_is_whole_run": "Whether the evaluated rounds are all rounds.",
    "accelerators": "Accelerators of all workers together, where all are known.",
    "other_fraction": "Share that has no other cause; of measured runs alone.",
}
"""What ``--format csv`` of one run has in addition."""

PLAN: dict[str, str] = {
    "which": "What was chosen: recommended, fastest, leanest, cheapest, as given; or front.",
    "compute_utilization": "Compute utilization in the evaluated rounds, 0 to 1.",
    "time_for_tokens_s": "Time for the tokens at the rate of the evaluated rounds; seconds.",
    "tokens_per_update": "Tokens of all workers per update.",
    "sent_bytes_per_worker": "Bytes that a worker sends for all tokens, the mean.",
    "accelerator_hours": "Accelerators x hours for the tokens, where a price or power is given.",
    "money": "Accelerator-hours and egress at the sites' prices, where given.",
    "energy_kwh": "Energy, PUE included, where power is given; kWh.",
    "egress_tb": "Bytes that leave their site, all sites; 10^12 bytes; with money or energy.",
    "typed": "The setting as options of the command line.",
    "key": "changes.csv: the key of which another value was tried.",
    "before": "changes.csv: its value in the recommended setting.",
    "after": "changes.csv: the other value, of which the figures in the row are.",
    "beyond": "changes.csv: the limits that the changed setting is beyond; empty for none.",
    "lever": "levers.csv: what is changed of network, machines or method.",
    "change_of_time_fraction": "levers.csv: relative change of the time for the tokens.",
    "money_change": "levers.csv: change of the money for the tokens at the same prices; none where "
    "nothing is priced.",
    "currency": "levers.csv: currency of the money, where one is given.",
    "training_changes": "levers.csv: whether what is learned changes.",
    "figures_are_bounds": "levers.csv: whether the time is a lower bound.",
    "setting": "levers.csv: the change as options of the command line.",
}
"""What the tables of a plan have: settings.csv, changes.csv and levers.csv."""
