"""Models that programs train in virtual time.

sized: Models without tensors: bytes only, and a toy whose mathematics can be followed by hand.
quadratic: A toy model whose mathematics can be followed by hand, for tests and notebooks.
rounding: What arrives of a number that travels in a narrower type: the reference for both runtimes.
"""
