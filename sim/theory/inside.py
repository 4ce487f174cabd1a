"""Recurrences of what the accelerators of one worker do within a step."""

from __future__ import annotations

from collections.abc import Sequence

from sim.theory.costs import Costs, Group, Result, Seconds, Times


def fsdp(
    costs: Costs, rounds: int, comm_dtype: str, prefetch: bool = True, reshard: bool = True
) -> Result:
    """t_m <- max(t_m, end of l's gathering) + forward or backward of l, layer after layer.

    With ``prefetch`` the next layer's gathering is called just before that computation.
    """
    group, times = Group(costs), Times(costs.workers)
    param_dtype = costs.scenario.model.param_dtype
    forward = list(range(costs.layers))
    held: dict[int, float] = {}
    begins = []

    def gather(layer: int) -> None:
        if layer not in held:
            held[layer] = group.end(times.mark, "all_gather", costs.sizes[layer], param_dtype)

    def compute(order: Sequence[int], place: int, seconds: Seconds) -> None:
        gather(order[place])
        times.wait(held[order[place]])
        if prefetch and place + 1 < len(order):
            gather(order[place + 1])
        times.compute(seconds)

    for _ in range(rounds):
        begins.append(times.mark)
        for micro_batch in range(costs.micro_batches):
            ends = []
            for layer in forward:
                compute(forward, layer, costs.forward_layer)
                if reshard and layer != forward[-1]:
                    del held[layer]
            for place, layer in enumerate(reversed(forward)):
                compute(forward[::-1], place, costs.backward_layer[layer])
                del held[layer]
                if micro_batch == costs.micro_batches - 1:
                    call = times.call(group.quantizing(costs.sizes[layer], comm_dtype))
                    size = costs.sizes[layer]
                    ends.append(group.end(call, "reduce_scatter", size, comm_dtype))
        times.wait(max(ends))
        times.compute(costs.optimizer / costs.workers)
    begins.append(times.mark)
    for layer in forward:
        gather(layer)
    times.wait(max(held.values()))
    return times.mark, begins
