"""Curves of a run while it trains, for TensorBoard or Weights & Biases.

Both libraries are optional; each is imported where it is asked for, on rank 0 alone.

logger: What a logger is, and which there are.
logged: What a logger is given of a run; its failures are told and end nothing.
of_run: The loggers of one run: opened together, fed each by a thread of its own.
opening: From a name and a place to a logger; what each needs to be installed.
tensorboard_events: Event files, which TensorBoard shows.
weights_and_biases: A run of W&B, online where a key is known, else kept in a folder.
"""
