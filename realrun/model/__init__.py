"""The replica that a worker trains.

replica: Tensors behind the verbs: passes through the stages, gradients, the inner optimizer.
module_state: What a module remembers that is no trained parameter: buffers, frozen parameters,
  extra state.
stages: A model as a sequence of stages: what training layer by layer asks of any torch module.
build: From [model] to what is trained: the decoder of realrun.model.gpt, or a module of the user's.
gpt: A decoder-only transformer to train, as a sequence of stages, one per layer.
paced: A model that takes up room on the wire and none of the machine's time.
outer: The outer half of DiLoCo and its kin: outer parameters, outer gradients, outer SGD.
outer_state: Where outer state is between two uses: on the device, or in the host's memory.
sharded: The optimizer in shards: ZeRO-1, and the updates of ACCO, DPU and WP during computation.
optimizers: The inner optimizer: its learning rate, its sharded form, and its state as tensors by
  name.
functional: AdamW and SGD on a few vectors, through the functions behind torch's classes.
buffers: What collectives carry: flat tensors under a name, and slices of one vector.
randomness: Random numbers that a module draws: seeded on every worker, and part of a checkpoint.
memory: What a worker's state takes in memory, known before a model is built.
contentless: Tensors of torch's meta device, whose arithmetic is left out.
"""
