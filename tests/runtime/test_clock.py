"""Virtual time: what is due when."""

from __future__ import annotations

from sim.clock import Clock, Timer


def test_timers_fire_in_the_order_of_their_times_and_then_of_their_setting() -> None:
    clock, seen = Clock(), list[str]()
    for seconds, name in ((2.0, "c"), (1.0, "a"), (2.0, "d"), (1.0, "b")):
        clock.after(seconds, lambda name=name: seen.append(name))
    clock.run()
    assert seen == ["a", "b", "c", "d"]


def test_what_comes_first_is_done_before_the_rest_of_the_same_time_whenever_it_was_set() -> None:
    clock, seen = Clock(), list[str]()

    def received() -> None:
        seen.append("received")
        clock.after(0.0, lambda: seen.append("received at once"), first=True)

    clock.after(1.0, lambda: seen.append("computed"))
    clock.after(1.0, received, first=True)
    clock.run()
    assert seen == ["received", "received at once", "computed"]


def test_a_timer_that_is_cancelled_does_nothing_and_one_that_has_fired_stays_so() -> None:
    clock, seen, timers = Clock(), list[float](), list[Timer]()

    def note() -> None:
        seen.append(clock.now)
        timers[0].cancel()  # itself
        timers[1].cancel()

    timers += [clock.after(1.0, note), clock.after(2.0, note)]
    clock.run()
    assert seen == [1.0]


def test_time_continues_where_a_run_has_ended() -> None:
    clock, seen = Clock(), list[float]()
    clock.after(1.5, lambda: seen.append(clock.now))
    clock.run()
    clock.after(0.5, lambda: seen.append(clock.now))
    clock.run()
    assert seen == [1.5, 2.0]
