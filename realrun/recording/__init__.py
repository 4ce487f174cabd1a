"""Recording a torch.distributed program: what it sends, and how long it computes in between.

- ``inside/``: what the recorded program loads: a hook, and a process group that notes its calls.
- ``parts``: the file of one process, read back.
- ``steps``: where a step begins, found by what repeats.
- ``edges``: where each process has its steps, by marks or by what repeats.
- ``matching``: whether the processes' files belong together.
- ``rows``: the rows of one rank, as a trace has them.
- ``load``: how busy the processors were meanwhile.
- ``join``: the processes' files, made one recording.
- ``run``: starts the program, and watches it.
- ``guard``: ends what is left of it, even where the recording process is killed.
"""
