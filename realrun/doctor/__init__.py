"""Whether a machine or a cluster is ready. Every check is a function that returns a finding.

``finding``   what a check says
``software``  Python, torch, what carries tensors
``machine``   cores, memory, GPUs, open files, disk
``network``   the address that peers will use, and the port they meet at
``lab``       what ``realrun lab`` needs
``look``      all checks of one machine
``peers``     machines that look at each other: who reaches whom, clocks, a trial
``cluster``   what the ranks say, put together
"""
