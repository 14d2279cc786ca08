"""One process at a time: what every ledger promises of its lease."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from datetime import timedelta

import pytest

from rowtrail.checkpoints import process
from rowtrail.checkpoints.errors import LeaseHeldError, LeaseLostError, LedgerError
from rowtrail.checkpoints.ledger import Ledger
from tests.checkpoints.desk import FakeClock

Opener = Callable[[], Ledger]


def _acquire(opener: Opener, start: object, results: object) -> None:
    ledger = opener()
    start.wait()  # type: ignore[attr-defined]
    try:
        results.put(("won", ledger.leases.acquire(f"process {os.getpid()}")))  # type: ignore[attr-defined]
    except LedgerError as error:
        results.put(("lost", str(error)))  # type: ignore[attr-defined]
    start.wait()  # type: ignore[attr-defined]  # the winner lives until the other has tried


def _acquire_and_die(opener: Opener) -> None:
    opener().leases.acquire("the dead one")
    os._exit(9)


class LeaseRules:
    def test_a_lease_is_held_by_one(self, ledger: Ledger) -> None:
        assert ledger.leases.current() is None
        ledger.leases.acquire("host one")
        held = ledger.leases.current()
        assert held is not None
        assert (held.holder, held.live, held.released) == ("host one", True, False)
        assert held.expires_at - held.since == timedelta(seconds=60)
        with pytest.raises(LeaseHeldError, match=r"run by host one, since 2024-01-31 12:00:00 UTC"):
            ledger.leases.acquire("host two")

    def test_generations_rise_with_each_holder(self, ledger: Ledger) -> None:
        generations = []
        for number in range(3):
            generations.append(ledger.leases.acquire(f"run {number}"))
            ledger.leases.release(generations[-1])
        assert generations == sorted(set(generations))
        current = ledger.leases.current()
        assert current is not None
        assert (current.generation, current.released, current.live) == (
            generations[-1],
            True,
            False,
        )

    def test_generations_rise_although_the_clock_goes_back(
        self, ledger: Ledger, clock: FakeClock
    ) -> None:
        first = ledger.leases.acquire("one")
        ledger.leases.release(first)
        clock.advance(-86_400)
        assert ledger.leases.acquire("two") == first + 1

    def test_a_ledger_made_anew_goes_on_above_the_lost_one(
        self, ledger: Ledger, clock: FakeClock, new_opener: Opener
    ) -> None:
        """The target has seen the generations of the lost ledger, and lets no lower one write."""
        lost = ledger.leases.acquire("one")
        other = new_opener()
        assert other.leases.acquire("two") > lost
        other.close()

    def test_a_lease_expires(self, ledger: Ledger, clock: FakeClock) -> None:
        first = ledger.leases.acquire("one")
        clock.advance(59)
        ledger.leases.renew(first)
        clock.advance(59)
        with pytest.raises(LeaseHeldError):
            ledger.leases.acquire("two")
        clock.advance(2)
        current = ledger.leases.current()
        assert current is not None and not current.live
        assert ledger.leases.acquire("two") > first

    def test_an_expired_lease_that_nobody_took_is_renewed(
        self, ledger: Ledger, clock: FakeClock
    ) -> None:
        first = ledger.leases.acquire("one")
        clock.advance(600)
        ledger.leases.renew(first)
        with pytest.raises(LeaseHeldError):
            ledger.leases.acquire("two")

    def test_a_lease_that_was_taken_over_is_lost(self, ledger: Ledger, clock: FakeClock) -> None:
        first = ledger.leases.acquire("one")
        clock.advance(61)
        second = ledger.leases.acquire("two")
        with pytest.raises(LeaseLostError, match="was taken over by two"):
            ledger.leases.renew(first)
        ledger.leases.release(first)  # which is none of its business any more
        current = ledger.leases.current()
        assert current is not None
        assert (current.generation, current.live) == (second, True)

    def test_a_lease_that_was_given_back_is_not_renewed(self, ledger: Ledger) -> None:
        first = ledger.leases.acquire("one")
        ledger.leases.release(first)
        with pytest.raises(LeaseLostError, match="was given back"):
            ledger.leases.renew(first)

    @pytest.mark.skipif(process.this_process() is None, reason="needs /proc to see processes end")
    def test_the_lease_of_a_dead_process_is_free_at_once(
        self, ledger: Ledger, opener: Opener
    ) -> None:
        child = multiprocessing.get_context("fork").Process(target=_acquire_and_die, args=(opener,))
        ledger.close()  # SQLite's connections do not survive a fork
        child.start()
        child.join()
        assert child.exitcode == 9
        held = ledger.leases.current()
        assert held is not None and held.holder == "the dead one" and not held.live
        assert ledger.leases.acquire("the next one") > held.generation

    def test_of_two_processes_that_race_one_wins(self, ledger: Ledger, opener: Opener) -> None:
        ledger.close()
        context = multiprocessing.get_context("fork")
        for _ in range(5):
            results, start = context.Queue(), context.Barrier(3)
            racers = [
                context.Process(target=_acquire, args=(opener, start, results)) for _ in range(3)
            ]
            for racer in racers:
                racer.start()
            outcomes = [results.get() for _ in racers]
            for racer in racers:
                racer.join()
            assert sorted(outcome for outcome, _ in outcomes) == ["lost", "lost", "won"]
            assert all("is being run by" in text for won, text in outcomes if won == "lost")
            held = ledger.leases.current()
            assert held is not None
            assert held.generation == next(text for won, text in outcomes if won == "won")
            ledger.leases.release(held.generation)
            ledger.close()
