"""Colors and markers of all pictures."""

# Okabe and Ito's palette: told apart by color-blind readers and on grey printers.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = "os^Dv<>P"
CAUSE_COLORS = {
    "compute": "#0072B2",
    "optimizer": "#56B4E9",
    "quantize": "#009E73",
    "contention": "#F0E442",
    "exposed_communication": "#D55E00",
    "waiting": "#CC79A7",
    "setup": "#E69F00",
    "other": "#999999",
}
