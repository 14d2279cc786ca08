"""One process at a time: what every ledger promises of its lease."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from rowtrail.checkpoints import process
from rowtrail.checkpoints.errors import LeaseHeldError, LeaseLostError, LedgerError
from rowtrail.checkpoints.ledger import Ledger
from tests.checkpoints.desk import FakeClock

Opener = Callable[[], Ledger]
PROCESSES = multiprocessing.get_context("spawn")  # forks of a process with threads may hang


ROUNDS = 5


def _race(opener: Opener, barrier: Any, results: Any) -> None:
    """In each round all acquire at once, and the winner holds the lease until all have tried."""
    ledger = opener()
    for number in range(ROUNDS):
        barrier.wait()
        try:
            generation = ledger.leases.acquire(f"process {os.getpid()}")
            results.put((number, generation, ""))
        except LedgerError as error:
            generation = 0
            results.put((number, 0, str(error)))
        barrier.wait()
        if generation:
            ledger.leases.release(generation)
    ledger.close()


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
        child = PROCESSES.Process(target=_acquire_and_die, args=(opener,))
        child.start()
        child.join()
        assert child.exitcode == 9
        held = ledger.leases.current()
        assert held is not None and held.holder == "the dead one" and not held.live
        assert ledger.leases.acquire("the next one") > held.generation

    def test_of_processes_that_race_one_wins(self, ledger: Ledger, opener: Opener) -> None:
        results, barrier = PROCESSES.Queue(), PROCESSES.Barrier(3)
        racers = [
            PROCESSES.Process(target=_race, args=(opener, barrier, results)) for _ in range(3)
        ]
        for racer in racers:
            racer.start()
        outcomes = sorted(results.get() for _ in range(3 * ROUNDS))
        for racer in racers:
            racer.join()
        for number in range(ROUNDS):
            texts = [text for played, _, text in outcomes if played == number]
            assert sorted(text == "" for text in texts) == [False, False, True]
            assert all("is being run by process" in text for text in texts if text)
        generations = [generation for _, generation, _ in outcomes if generation]
        assert generations == sorted(set(generations))
