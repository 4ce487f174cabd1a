"""What a run keeps: checkpoints, models, losses.

checkpoint: Checkpoints: one file per rank and round, written whole or not at all.
checkpoint_folder: Who may write checkpoints into a folder: one command at a time, rank by rank.
resuming: What a run keeps in its checkpoints, and how it resumes from one.
saved: Trained models as files: what --save writes, plain torch loads, and --start takes.
tensor_files: Files of tensors (safetensors), written whole or not at all, with a digest of each
  tensor.
loss_stream: The losses of one rank as they come, handed on by a thread so that no step waits.
loss_files: Losses as files: each rank's while it trains, and those of all ranks at the end.
room: Room on a disk, looked at before hours of training rely on it.
"""
