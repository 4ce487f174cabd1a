"""What is looked at during training.

not_finite: A loss that is not finite ends a run, or is told (``train.not_finite``).
replica_check: Compares what a method keeps equal on all workers (``--check-replicas``).
replicas: Whether workers hold the same parameters and buffers, and how they come to.
evaluating: The loss on data that no worker trains on, evaluated at intervals during training.
"""
