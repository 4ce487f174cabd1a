"""Doctor, calibrate and validate on all machines of a cluster, and one archive of the results.

together: The ranks of one launch run commands one after the other, and agree in between.
making: Which commands, what each of them leaves, and when to stop.
machine: What a machine runs, and which names are not to leave it.
predictions: What the simulator says of a study's runs before any of them.
packing: The archive: what is in it, and without which names.
"""
