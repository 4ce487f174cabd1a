"""The measuring half: the programs of ``sim.methods``, run on torch.distributed.

``realrun`` imports ``sim``, never the reverse.
"""
