"""From a [[site]] block to the seconds that each operation takes on one of its workers."""

from __future__ import annotations

import re
from typing import TypeVar

from sim.scenario.context import Context
from sim.scenario.errors import did_you_mean, listed
from sim.scenario.hardware import MachineRecord, Pairs
from sim.scenario.presets import ACCELERATORS, MODELS, accelerator, step_seconds_from_flops
from sim.scenario.reading import there
from sim.scenario.resolved import Jitter, Machine, ModelSize
from sim.scenario.samples import normalised, read_samples
from sim.scenario.schema import SiteSection
from sim.units import format_count, format_flops, format_percent, format_seconds

DEFAULT_MFU = 0.40
DEFAULT_BATCH = 2**20

Assumed = list[tuple[str, str]]
_T = TypeVar("_T", int, float)

# Scenario key, hardware key: operations whose time grows with the parameters.
_OPERATIONS = (
    ("optimizer_time", "inner_optimizer_s"),
    ("outer_gradient_time", "outer_gradient_s"),
    ("outer_step_time", "outer_step_s"),
    ("quantize_time", "quantize_s"),
)


class MachineReader:
    """Resolves one [[site]] block; ``assumed`` collects keys without the site's name."""

    def __init__(self, context: Context, index: int, model: ModelSize) -> None:
        self.context = context
        self.index = index
        self.model = model
        self.site: SiteSection = context.sections.site[index]
        self.assumed: Assumed = []
        self.measured_name, self.measured = self._measured()
        self.accelerators, self.peak_flops = 0, 0.0  # of a worker, where they are given

    def machine(self) -> Machine:
        """Return the machine of one worker of this site."""
        step_seconds, batch_tokens = self._step()
        site = self.site
        n_grad_accumulation = self._or("n_grad_accumulation", site.n_grad_accumulation, 1, "1")
        speed = self._or("speed", site.speed, 1.0, "1")
        jitter = self._jitter()
        first = self._or("first_layer_backward", site.first_layer_backward, 1.0, "1")
        times = {key: self._operation(key, name) for key, name in _OPERATIONS}
        return Machine(
            step_seconds=step_seconds,
            batch_tokens=batch_tokens,
            n_grad_accumulation=n_grad_accumulation,
            first_layer_backward=first,
            speed=speed,
            jitter=jitter,
            optimizer_seconds=times["optimizer_time"],
            outer_gradient_seconds=times["outer_gradient_time"],
            outer_step_seconds=times["outer_step_time"],
            quantize_seconds=times["quantize_time"],
            communication_slowdown=self._slowdown("communication_slowdown"),
            side_slowdown=self._slowdown("side_slowdown"),
            communication_s_per_byte=self._per_byte(),
            transmission_slowdown=self._on_line(),
            cold_start=self._cold_start(),
            accelerators=self.accelerators,
            peak_flops=self.peak_flops,
        )

    def _measured(self) -> tuple[str, MachineRecord | None]:
        hardware, wanted = self.context.hardware, self.site.machine
        document = self.context.document
        name = document.site_name(self.index)
        name = document.stands_for.get(name, name)
        if hardware is None:
            if wanted is not None:
                raise self._refuse(
                    "machine", "there is no hardware file to look it up in; give hardware = ..."
                )
            return "", None
        found = hardware.machine(wanted, name)
        if found is None and wanted is not None:
            raise self._refuse(
                "machine", f"not in {hardware.label}{did_you_mean(wanted, hardware.machines)}"
            )
        if found is None and hardware.machines:
            names = listed(hardware.machines, "and")
            raise self._refuse(
                "machine", f"missing; {hardware.label} has {names}: say which one this site uses"
            )
        return (f"{hardware.label}, machine {found[0]}", found[1]) if found else ("", None)

    def _step(self) -> tuple[float, float]:
        """Return seconds and tokens of one inner step."""
        site, run = self.site, self.context.sections.run
        if site.accelerators is None:
            for key in ("mfu", "peak"):
                if getattr(site, key) is not None:
                    raise self._refuse(
                        key, 'goes with accelerators; give accelerators = "64 x H100" as well'
                    )
        else:
            if site.batch_tokens is None:
                raise self._refuse(
                    "batch_tokens",
                    "missing; the step time of accelerators follows from the tokens per step, "
                    'like batch_tokens = "1Mi" (--batch-tokens 1Mi)',
                )
            return self._from_accelerators(site.accelerators, site.batch_tokens)
        measured = self.measured if site.step_time is None else None
        batch = float(site.batch_tokens) if site.batch_tokens is not None else None
        if batch is None and measured is not None and measured.batch_tokens is not None:
            batch = measured.batch_tokens
            self._assume("batch_tokens", f"{format_count(batch)} ({self.measured_name})")
        if site.step_time is not None:
            seconds = site.step_time
        elif measured is not None and measured.inner_step_s is not None:
            seconds = self._scaled(measured, measured.inner_step_s, batch)
        elif (name := self.context.sections.model.name) in MODELS:
            seconds = MODELS[name].step_seconds
            self._assume("step_time", f"{format_seconds(seconds)} (arXiv:2501.18512, Table 4)")
        else:
            raise self._refuse(
                "step_time",
                'missing; give step_time = "2.5 s" (--step-time 2.5s), or accelerators = '
                '"64 x H100" and batch_tokens = "1Mi"',
            )
        if batch is None:
            if run.tokens is not None:
                raise self._refuse(
                    "batch_tokens",
                    "missing; run.tokens is divided by the tokens of a step, so give them, like "
                    'batch_tokens = "1Mi" (--batch-tokens 1Mi)',
                )
            batch = float(DEFAULT_BATCH)
            self._assume("batch_tokens", format_count(batch))
        return seconds, batch

    def _from_accelerators(self, text: str, batch_tokens: int) -> tuple[float, float]:
        match = re.fullmatch(r"\s*(?:(\d[\d_]*)\s*[x×*]\s*)?(\S.*?)\s*", text)
        count = int((match[1] or "1").replace("_", "")) if match else 0
        name = match[2] if match else ""
        if not match or name.isdigit() or not 0 < count <= 10**7:
            raise self._refuse("accelerators", 'write how many and of what, like "64 x H100"')
        known = accelerator(name)
        peak = self.site.peak
        if peak is None:
            if known is None:
                raise self._refuse(
                    "accelerators",
                    f"unknown accelerator{did_you_mean(name, ACCELERATORS)} (for another one "
                    'give peak = "989 TFLOP/s" as well)',
                )
            peak = known.peak
            self._assume("peak", f"{format_flops(peak)} in {known.dtype} ({known.source})")
        self.accelerators, self.peak_flops = count, peak
        mfu = self._or("mfu", self.site.mfu, DEFAULT_MFU, format_percent(DEFAULT_MFU))
        seconds = step_seconds_from_flops(
            self.model.active_parameters, batch_tokens, count, peak, mfu
        )
        if seconds > 365 * 86400:
            raise self._refuse("accelerators", "one inner step would take more than a year")
        active = "active " if self.model.active_parameters != self.model.parameters else ""
        rate = f"{count} x {format_flops(peak)} x {format_percent(mfu)}"
        self._assume(
            "step_time", f"{format_seconds(seconds)} (6 x {active}parameters x tokens / ({rate}))"
        )
        return seconds, float(batch_tokens)

    def _scaled(self, measured: MachineRecord, seconds: float, batch: float | None) -> float:
        """Return a measured step for this model and batch: its time grows with both."""
        wanted = self.model.active_parameters
        size = measured.active_parameters or measured.parameters or wanted
        ratio = wanted / size
        if batch is not None and measured.batch_tokens is not None:
            ratio *= batch / measured.batch_tokens
        note = self.measured_name
        if not _same(ratio, 1) or not _same(wanted, size):
            note += f"; EXTRAPOLATED from {format_count(size)} parameters"
            if measured.batch_tokens is not None:
                note += f" and {format_count(measured.batch_tokens)} tokens"
        self._assume("step_time", f"{format_seconds(seconds * ratio)} ({note})")
        return seconds * ratio

    def _operation(self, key: str, name: str) -> float:
        given: float | None = getattr(self.site, key)
        if given is not None:
            return given
        measured = getattr(self.measured, name) if self.measured else None
        if measured is None:
            self._assume(key, "0 s")
            return 0.0
        size = (self.measured.parameters if self.measured else None) or self.model.parameters
        ratio = self.model.parameters / size
        note = self.measured_name
        if not _same(ratio, 1):
            note += f"; EXTRAPOLATED from {format_count(size)} parameters"
        self._assume(key, f"{format_seconds(measured * ratio)} ({note})")
        return float(measured * ratio)

    def _slowdown(self, key: str) -> float:
        given: float | None = getattr(self.site, key)
        if given is not None:
            return given
        measured: float | None = getattr(self.measured, key) if self.measured else None
        if measured is None:
            self._assume(key, "1")
            return 1.0
        self._assume(key, f"{measured:g} ({self.measured_name})")
        return measured

    def _on_line(self) -> tuple[tuple[float, float], ...]:
        measured = self.measured.transmission_slowdown if self.measured else None
        if measured is None:
            return self._pairs("transmission_slowdown", None, "1")
        least, most = min(measured.slowdown), max(measured.slowdown)
        said = f"{least:.3g} to {most:.3g} by rate"
        return self._pairs("transmission_slowdown", measured, said)

    def _cold_start(self) -> tuple[tuple[float, float], ...]:
        measured = self.measured.cold_start if self.measured else None
        if measured is None:
            return self._pairs("cold_start_time", None, "0 s")
        pause, longer = measured.pairs[-1]
        said = f"{format_seconds(longer)} after {format_seconds(pause)}"
        return self._pairs("cold_start_time", measured, said)

    def _pairs(
        self, key: str, measured: Pairs | None, said: str
    ) -> tuple[tuple[float, float], ...]:
        """Return what the site gives for every value of a quantity, else what was measured."""
        given: float | None = getattr(self.site, key)
        if given is not None:
            return ((0.0, given),)
        self._assume(key, f"{said} ({self.measured_name})" if measured is not None else said)
        return measured.pairs if measured is not None else ()

    def _per_byte(self) -> float:
        given: float | None = self.site.communication_byte_time
        if given is not None:
            return given
        measured = self.measured.communication_s_per_byte if self.measured else None
        note = f" ({self.measured_name})" if measured is not None else ""
        self._assume("communication_byte_time", f"{format_seconds(measured or 0.0)}{note}")
        return measured or 0.0

    def _jitter(self) -> Jitter:
        jitter = self.site.jitter
        if jitter is None:
            if self.measured is not None and self.measured.samples is not None:
                factors, cv = normalised(self.measured.samples)
                self._assume(
                    "jitter", f"{len(factors)} samples, cv {cv:.3g} ({self.measured_name})"
                )
                return Jitter("empirical", cv, factors)
            self._assume("jitter", "none")
            return Jitter()
        kind = jitter.distribution
        if kind == "empirical":
            if jitter.file is None:
                raise self._refuse("jitter", 'empirical needs file = "samples.csv"')
            if jitter.cv is not None:
                raise self._refuse("jitter", "empirical takes its cv from the file; leave cv out")
            path, label = self.context.file(jitter.file, "site", self.index, "jitter")
            if not there(path):
                raise self._refuse("jitter", f"there is no file {label}")
            factors, cv = normalised(read_samples(path, label))
            return Jitter(kind, cv, factors)
        if jitter.file is not None:
            raise self._refuse("jitter", f'only "empirical" reads a file; {kind} has a cv')
        if kind == "constant":
            if jitter.cv:
                raise self._refuse("jitter", 'constant times have no cv; did you mean "lognormal"?')
            return Jitter()
        if jitter.cv is None:
            raise self._refuse("jitter", f"{kind} needs cv, standard deviation / mean, like 0.05")
        return Jitter(kind, jitter.cv)

    def _or(self, key: str, given: _T | None, default: _T, shown: str) -> _T:
        if given is not None:
            return given
        self._assume(key, shown)
        return default

    def _assume(self, key: str, value: str) -> None:
        self.assumed.append((key, value))

    def _refuse(self, key: str, text: str) -> Exception:
        return self.context.refuse("site", self.index, key, text=text)


def _same(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-6 * abs(b)
