"""Requests that were noted while another process held the lease."""

from __future__ import annotations

from rowtrail.checkpoints.states import DecisionState
from rowtrail.connectors.errors import OwnershipError, RowtrailError, TransientError
from rowtrail.pipelines.opening import OpenPipeline, settle_unfinished
from rowtrail.pipelines.replay import carry_out_patiently, must_wait


def carry_out_pending(opened: OpenPipeline, run_id: str) -> list[str]:
    """Carries out what people asked for while another process held the lease.

    What must wait for its stream to be read stays pending, and so does what a database that does
    not answer keeps from being done.
    """
    done = []
    for decision in opened.ledger.decisions.pending():
        try:
            if must_wait(opened, decision.stream) is not None:
                continue
            text = carry_out_patiently(opened, decision, run_id).text
            state = DecisionState.DONE
        except OwnershipError:
            raise
        except TransientError as error:
            opened.reporter.note(f"Request {decision.id} waits for the next run: {error}")
            continue
        except RowtrailError as error:
            text, state = str(error), DecisionState.FAILED
            settle_unfinished(opened)
        opened.ledger.decisions.finish(decision.id, state, text)
        opened.reporter.note(f"Request {decision.id}: {text}")
        done.append(text)
    return done
