"""Which share of an accelerator's peak a site may say: with communication inside, or without."""

from __future__ import annotations

from sim.scenario.context import Context


def check_efficiency(context: Context, index: int) -> None:
    """Refuse a share of the peak that is not the one which is asked for."""
    site = context.sections.site[index]
    if site.inside is not None and site.mfu is not None:
        raise context.refuse(
            *("site", index, "mfu"),
            text="includes communication inside, which is simulated here; give "
            "compute_efficiency, the share of the peak that kernels alone reach",
        )
    if site.inside is None and site.compute_efficiency is not None:
        raise context.refuse(
            *("site", index, "compute_efficiency"),
            text="goes with inside (inside.method: ddp, zero1 or fsdp); without it give "
            "mfu, which includes communication inside",
        )
