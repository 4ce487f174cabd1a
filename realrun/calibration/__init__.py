"""Measuring what the simulator must know of a machine and its network.

``collectives``  seconds of collectives, with all ranks starting at one moment
``operations``   seconds of a model's operations, alone and while communicating
``links``        rate and round trip between two ranks, when nobody has limited them
``fit``          from measured collectives to the host costs of the message model
``records``      all of it as a hardware file
``launch``       what one launch of workers measures of itself, piece by piece
"""
