"""Text, and which worker sees what of it.

batches: What a worker trains on: ``[data]`` opened, read in batches, restartable at an exact
  position.
keys: Keys of [data]: what each may hold, which kind takes it, and what it means.
corpus: Where tokens come from: one long row of numbers, and where each source in it begins.
token_files: A file of tokens, memory-mapped.
shards: Who trains on which part of a corpus, and which part nobody trains on.
"""
