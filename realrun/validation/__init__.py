"""Predictions held against measured runs of the same configurations.

``run``             the whole of it, in order: plan, measure, predict, report
``plan``            which configurations are run, how long each, in which order
``networks``        the networks that they and the calibration need
``labs``            workers on this machine, in labs that become these networks
``handing_over``    how these workers get the plan
``measure``         the workers' side: calibrate, then one run after the other
``cpu_load``        how much of the machine others used in the meantime
``archive``         what is kept: a record per run, traces, calibrations; each file is read once
``predict``         what the simulator says of a configuration, computed once
``collect``         both side by side, a row per run; ``rows`` checks them and is report.csv
``configurations``  repeats of a configuration as one line
``statistics``      errors and their intervals; ``order`` of methods, ``verdict`` on tolerances
``report``          report.md, of the parts that follow
                    ``conditions``, ``coverage``, ``error_tables``, ``method_order``,
                    ``worst_cases``; ``markdown`` writes their numbers and tables
``page``            the report as a page of one file
``pictures``        the report's; ``lost_time`` by cause, ``timelines`` of single runs
"""
