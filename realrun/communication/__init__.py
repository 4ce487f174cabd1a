"""Collectives on gloo and NCCL, and what int8 and FP4 make of them.

groups: Collectives on buffers of sim's vocabulary, started asynchronously on a process group.
process_groups: A process group that its members make by themselves, and the thread that issues its
  calls.
control: Control messages: small ones that all members exchange before something may start.
transfers: The five collectives as calls of the backend: what is sent, and where the result goes.
nccl: What NCCL does where a peer is lost, and how the host hears of it.
connections: New connections, with their windows opened, before something is measured over them.
quantize: All-reduce and reduce-scatter that carry FP4 or int8
  (:mod:`realrun.communication.packing`).
packing: FP4 and int8 as bytes: what a quantized number is, and how it is packed.
packing_triton: The kernels of :mod:`realrun.communication.packing` for CUDA, with the same bits as
  on a CPU.
"""
