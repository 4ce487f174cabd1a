"""What a collective costs on the links, and how several share them.

schedules: How each collective algorithm moves bytes: rounds of simultaneous transfers between
  ranks.
capacity: Bytes/s of every link.
prices: What a collective costs alone, by its schedule or by a measured table.
ring, direct: When a ring of unequal links ends, by classes; a direct exchange, by site.
links: The links of a scenario: what crosses them, and what collectives cost on them.
nccl: What a collective costs on NCCL, by the cost model that NCCL itself chooses with.
filling: How fast collectives that share links proceed (weighted max-min).
flows: The collectives that are on the wire, in virtual time.
gloo: Collectives as gloo carries them out: message by message, each rank in its own time.
messages: Messages between ranks: receiver-initiated rendezvous.
message_links: The links of a network at the level of messages: FIFO transmission, cut-through
  forwarding.
states: The factors on the capacity of links that vary, over time.
varying_flows, varying_links: The same two models of a network where links vary.
"""
