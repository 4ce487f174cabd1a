"""Recordings: what a torch.distributed program did, replayed as a program of the vocabulary.

- ``vocabulary``: how what was recorded is called in traces and programs.
- ``files``: recordings on disk, a trace with a note.
- ``plan``: what each worker does in a step, from the rows of a recording.
- ``program``: the method that replays it.
"""
