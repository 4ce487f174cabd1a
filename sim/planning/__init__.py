"""From a question to a decision: which setting, why, and what to change next.

- ``settings``: one setting of a method and its collectives; how it is applied and typed
- ``asked``: which methods are searched, and what the user has fixed
- ``space``: the settings that are searched
- ``evidence``: what our trainings measured of each kind of setting
- ``limits``: which settings are admissible
- ``money``: what the prices of a scenario say before anything is simulated
- ``rehearsal``: a program run by one worker without peers: the least time that a setting takes
- ``predictions``: what a search simulates, several settings at a time where an engine computes
- ``search``: settings simulated in the order of that bound, until no other can be better
- ``effort``: what a search takes, before it is begun
- ``decision``: the recommended setting, its alternatives, what binds and what to change next
- ``tuning``: every method's own setting, for a comparison of methods at their best
"""
