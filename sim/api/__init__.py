"""What ``import sim`` offers: the questions of the command line, asked from Python.

``sim`` loads a function when it is asked for, so nothing is imported here. Every function takes
the same scenario, and returns a result with the figures, the table and the flat rows of the
command line. Nothing is written to disk unless a place is named.

scenarios: Scenarios, made of keywords or read from a file. keywords: What describes one.
simulation: ``simulate``. sweeping: ``sweep``. comparison: ``compare``. planning: ``plan``.
requirement: ``required``. methods: Several methods, as calls take them.
memory: ``memory``. reproduction: ``reproduce``. results: What all results have in common.
levers: What to change first. drawing: Where they are drawn. calls: Calls that cannot be meant.
wording: Messages of the command line in words of Python.
"""
