"""From a [[site]] block to the seconds that each operation takes on one of its workers."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from sim.operations import Operation, timed
from sim.records.flops import flops_per_token
from sim.records.scenario import Jitter, Machine, ModelSize
from sim.scenario.balance import BALANCED
from sim.scenario.context import Context
from sim.scenario.efficiency import check_efficiency
from sim.scenario.errors import did_you_mean
from sim.scenario.hardware import MachineRecord, Pairs
from sim.scenario.measured import machine_of, real_speed, slowed_by_sleeping
from sim.scenario.presets import (
    ACCELERATORS,
    MODELS,
    accelerator,
    step_seconds_from_flops,
)
from sim.scenario.reading import there
from sim.scenario.samples import normalised, read_samples
from sim.scenario.schema import SiteSection
from sim.units import format_count, format_flops, format_percent, format_seconds

DEFAULT_MFU = 0.40
DEFAULT_COMPUTE_EFFICIENCY = 0.50
DEFAULT_BATCH = 2**20

Assumed = list[tuple[str, str]]
_T = TypeVar("_T", int, float)


class MachineReader:
    """Resolves one [[site]] block; ``assumed`` collects keys without the site's name."""

    def __init__(self, context: Context, index: int, model: ModelSize) -> None:
        self.context = context
        self.index = index
        self.model = model
        self.site: SiteSection = context.sections.site[index]
        self.assumed: Assumed = []
        self.found = machine_of(context, index)
        self.measured = self.found.computation
        self.measured_name = self.found.name
        self.balanced = self.site.batch_tokens == BALANCED
        given = self.site.batch_tokens
        self._given_batch = given if isinstance(given, int) else None
        self._replaced: set[str] = set()
        self.flops = flops_per_token(
            model.parameters, model.frozen_parameters, model.active_parameters
        )
        self.accelerators, self.peak_flops = 0, 0.0  # of a worker, where they are given
        self.accelerator = ""  # by its name

    def machine(self) -> Machine:
        """Return the machine of one worker of this site."""
        step_seconds, batch_tokens = self._step()
        site = self.site
        n_grad_accumulation = self._or("n_grad_accumulation", site.n_grad_accumulation, 1, "1")
        speed = self._speed()
        jitter = self._jitter()
        first = self._or("first_layer_backward", site.first_layer_backward, 1.0, "1")
        times: dict[str, Any] = {row.field: self._operation(row) for row in timed()}
        machine = Machine(
            step_seconds=step_seconds,
            batch_tokens=batch_tokens,
            n_grad_accumulation=n_grad_accumulation,
            first_layer_backward=first,
            speed=speed,
            jitter=jitter,
            **times,
            communication_slowdown=self._slowdown("communication_slowdown"),
            background_slowdown=self._slowdown("background_slowdown"),
            communication_s_per_byte=self._per_byte(),
            transmission_slowdown=self._on_line(),
            cold_start=self._cold_start(),
            backward_ratio=self.flops / (2 * self.model.active_parameters) - 1,
            accelerators=self.accelerators,
            peak_flops=self.peak_flops,
        )
        if self.site.inside is not None:
            # Late: what is simulated for one answer is not loaded for all.
            from sim.scenario.islands import with_inside

            return with_inside(self.context, self.index, machine, self.model, self.assumed)
        return slowed_by_sleeping(machine) if self.found.goes_first else machine

    def note_balanced(self, default: Machine, machine: Machine) -> None:
        """Say which batch was chosen, and the step that follows, in place of the default ones."""
        self.assumed = [
            note for note in self.assumed if note[0] not in ("batch_tokens", "step_time")
        ]
        self._assume("batch_tokens", f"{machine.batch_tokens:.0f} (balanced)")
        before = f"{format_seconds(default.step_seconds)} for {format_count(default.batch_tokens)}"
        self._assume(
            "step_time", f"{format_seconds(machine.step_seconds)} (balanced; {before} tokens)"
        )

    def _step(self) -> tuple[float, float]:
        """Return seconds and tokens of one inner step."""
        site = self.site
        measured = self.measured
        step_time = self._own("step_time", measured.inner_step_s)
        accelerators = self._own("accelerators", measured.inner_step_s)
        check_efficiency(self.context, self.index)
        if site.accelerators is None:
            for key in ("mfu", "compute_efficiency", "peak"):
                if getattr(site, key) is not None:
                    raise self._refuse(
                        key, 'goes with accelerators; give accelerators = "64 x H100" as well'
                    )
        elif accelerators is not None:
            return self._from_accelerators(accelerators, self._batch())
        batch = float(self._given_batch) if self._given_batch is not None else None
        if batch is None and step_time is None and measured.batch_tokens is not None:
            batch = measured.batch_tokens
            self._assume("batch_tokens", f"{format_count(batch)} ({self.measured_name})")
        if step_time is not None:
            seconds = step_time
        elif measured.inner_step_s is not None:
            seconds = self._scaled(measured, measured.inner_step_s, batch)
        elif (name := self.context.sections.model.name) in MODELS and not (
            self.model.frozen_parameters
        ):
            seconds = MODELS[name].step_seconds
            self._assume("step_time", f"{format_seconds(seconds)} (arXiv:2501.18512, Table 4)")
        else:
            paced = self.found.record.inner_step_s is not None
            raise self._refuse(
                "step_time",
                'missing; give step_time = "2.5 s" (--step-time 2.5s), or accelerators = '
                '"64 x H100"'
                + paced
                * " (paced computation does not take the hardware file's time)",
            )
        return seconds, self._batch() if batch is None else batch

    def _batch(self) -> float:
        """Return the tokens of a step: what the site gives, else one assumption for all."""
        return float(self._or("batch_tokens", self._given_batch, DEFAULT_BATCH, "1Mi"))

    def _from_accelerators(self, text: str, batch_tokens: float) -> tuple[float, float]:
        match = re.fullmatch(r"\s*(?:(\d[\d_]*)\s*[x×*]\s*)?(\S.*?)\s*", text)
        count = int((match[1] or "1").replace("_", "")) if match else 0
        name = match[2] if match else ""
        known = accelerator(name)
        if not match or (name.isdigit() and known is None) or not 0 < count <= 10**7:
            raise self._refuse("accelerators", 'write how many and of what, like "64 x H100"')
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
        self.accelerators, self.peak_flops, self.accelerator = count, peak, name
        share = ("mfu", self.site.mfu, DEFAULT_MFU)
        if self.site.inside is not None:
            share = (
                "compute_efficiency",
                self.site.compute_efficiency,
                DEFAULT_COMPUTE_EFFICIENCY,
            )
        mfu = self._or(*share, format_percent(share[2]))
        seconds = step_seconds_from_flops(self.flops, batch_tokens, count, peak, mfu)
        if seconds > 365 * 86400:
            raise self._refuse("accelerators", "one inner step would take more than a year")
        model = self.model
        all_ = model.parameters + model.frozen_parameters
        active = "active " if model.active_parameters != all_ else ""
        work = f"6 x {active}parameters"
        if model.frozen_parameters:
            work = f"(6 x trained + 4 x frozen {active}parameters)"
        rate = f"{count} x {format_flops(peak)} x {format_percent(mfu)}"
        self._assume("step_time", f"{format_seconds(seconds)} ({work} x tokens / ({rate}))")
        return seconds, batch_tokens

    def _scaled(self, measured: MachineRecord, seconds: float, batch: float | None) -> float:
        """Return a measured step for this model and batch: its time grows with both."""
        model = self.model
        wanted = model.active_parameters
        size, ratio = float(wanted), 1.0
        if trained := measured.parameters or measured.active_parameters:
            frozen, active = measured.frozen_parameters or 0.0, measured.active_parameters
            size = active or trained + frozen
            ratio = self.flops / flops_per_token(trained, frozen, active)
        if self.site.inside is not None and measured.batch_tokens is not None:
            # Measured of one accelerator; of an island each takes its part of the batch.
            tokens = self._batch() if batch is None else batch
            ratio *= tokens / (self.site.inside.accelerators or 1) / measured.batch_tokens
        elif batch is not None and measured.batch_tokens is not None:
            ratio *= batch / measured.batch_tokens
        note = self.measured_name
        if not _same(ratio, 1) or not _same(wanted, size):
            note += f"; EXTRAPOLATED from {format_count(size)} parameters"
            if measured.batch_tokens is not None:
                note += f" and {format_count(measured.batch_tokens)} tokens"
        self._assume("step_time", f"{format_seconds(seconds * ratio)} ({note})")
        return seconds * ratio

    def _operation(self, row: Operation) -> float:
        """Return the seconds of an operation, whose time grows with the parameters."""
        measured: float | None = getattr(self.measured, row.measured)
        given: float | None = self._own(row.key, measured)
        if given is not None:
            return given
        if measured is None:
            self._assume(row.key, "0 s")
            return 0.0
        size = self.measured.parameters or self.model.parameters
        ratio = self.model.parameters / size
        note = self.measured_name
        if not _same(ratio, 1):
            note += f"; EXTRAPOLATED from {format_count(size)} parameters"
        self._assume(row.key, f"{format_seconds(measured * ratio)} ({note})")
        return float(measured * ratio)

    def _slowdown(self, key: str) -> float:
        measured: float | None = getattr(self.measured, key)
        given: float | None = self._own(key, measured)
        if given is not None:
            return given
        if measured is None:
            self._assume(key, "1")
            return 1.0
        self._assume(key, f"{measured:g} ({self.measured_name})")
        return measured

    def _on_line(self) -> tuple[tuple[float, float], ...]:
        measured = self.measured.transmission_slowdown
        if measured is None:
            return self._pairs("transmission_slowdown", None, "1")
        least, most = min(measured.slowdown), max(measured.slowdown)
        said = f"{least:.3g} to {most:.3g} by rate"
        return self._pairs("transmission_slowdown", measured, said)

    def _cold_start(self) -> tuple[tuple[float, float], ...]:
        measured = self.measured.cold_start
        if measured is None:
            return self._pairs("cold_start_time", None, "0 s")
        pause, longer = measured.pairs[-1]
        said = f"{format_seconds(longer)} after {format_seconds(pause)}"
        return self._pairs("cold_start_time", measured, said)

    def _pairs(
        self, key: str, measured: Pairs | None, said: str
    ) -> tuple[tuple[float, float], ...]:
        """Return what the site gives for every value of a quantity, else what was measured."""
        given: float | None = self._own(key, measured)
        if given is not None:
            return ((0.0, given),)
        self._assume(key, f"{said} ({self.measured_name})" if measured is not None else said)
        return measured.pairs if measured is not None else ()

    def _per_byte(self) -> float:
        measured = self.measured.communication_s_per_byte
        given: float | None = self._own("communication_byte_time", measured)
        if given is not None:
            return given
        note = f" ({self.measured_name})" if measured is not None else ""
        self._assume("communication_byte_time", f"{format_seconds(measured or 0.0)}{note}")
        return measured or 0.0

    def _jitter(self) -> Jitter:
        jitter = self._own("jitter", self.measured.samples)
        if jitter is None:
            if self.measured.samples is not None:
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

    def _speed(self) -> float:
        if not self.found.goes_first:
            return self._or("speed", self.site.speed, 1.0, "1")
        speed = real_speed(self.context, self.index)
        if speed != (self.site.speed or 1.0):
            self._replaced.add("speed")
        if self.site.speed is None or "speed" in self._replaced:
            self._assume("speed", f"{speed:g}")
        return speed

    def _own(self, key: str, measured: object) -> Any:
        """Return what the site gives, unless what was measured goes first."""
        given = getattr(self.site, key)
        if given is not None and measured is not None and self.found.goes_first:
            self._replaced.add("step_time" if key == "accelerators" else key)
            return None
        return given

    def _or(self, key: str, given: _T | None, default: _T, shown: str) -> _T:
        if given is not None:
            return given
        self._assume(key, shown)
        return default

    def _assume(self, key: str, value: str) -> None:
        if key in self._replaced:
            value += '; train.compute_mode = "real": what the scenario gives is not used'
        self.assumed.append((key, value))

    def _refuse(self, key: str, text: str) -> Exception:
        return self.context.refuse("site", self.index, key, text=text)


def _same(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-6 * abs(b)
