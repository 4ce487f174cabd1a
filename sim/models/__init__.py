"""Models that programs train in virtual time.

sized: Models without tensors: bytes only, and a toy whose mathematics can be followed by hand.
held: What a worker comes to hold, counted in parameters: for memory.
quadratic: A toy model whose mathematics can be followed by hand, for tests and notebooks.
tensors: Which tensors the layers of a model consist of, where that is known.
rounding: What arrives of a number that travels in a narrower type: the reference for both runtimes.
"""
