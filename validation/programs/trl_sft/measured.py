"""Write the seconds of every recorded step: `measured.py RECORDING`."""

import sys
from pathlib import Path

import numpy as np

from sim.trace.files import load

steps = np.diff(load(Path(sys.argv[1])).round_begins().max(axis=1))
shown = ", ".join(f"{each:.2f}" for each in steps)
sys.stdout.write(f"measured, seconds per step: mean {steps.mean():.2f}, each {shown}\n")
