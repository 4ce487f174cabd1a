"""How much one run may come to: what a program that never ends runs into, in both runtimes."""

MOST_ROWS = 3_000_000  # about a gigabyte and twenty seconds
#: Simulated workers from which a run's rows are kept as columns, and how many times as many rows
#: it may then have: about two and a half gigabytes and three minutes.
PACKED_FROM, PACKED_TIMES = 512, 10
MOST_MESSAGES = 20_000_000  # some minutes
#: Started and not ended; also what a program may wait for that has ended, while no time passes.
MOST_UNFINISHED = 300_000
#: Begun by one worker in one round of a real run; the longest rounds have some ten thousand.
MOST_IN_A_ROUND = 1_000_000
