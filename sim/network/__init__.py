"""What a collective costs on the links, and how several share them.

schedules: How each collective algorithm moves bytes: rounds of simultaneous transfers between
  ranks.
links: What a collective costs on the scenario's links, and how collectives on the wire share them.
gloo: Collectives as gloo carries them out: message by message, each rank in its own time.
messages: Messages between ranks: receiver-initiated rendezvous.
message_links: The links of a network at the level of messages: FIFO transmission, cut-through
  forwarding.
states: The factors on the capacity of links that vary, over time.
varying_flows, varying_links: The same two models of a network where links vary.
"""
