"""One step of the work on an index: of its first stage (words), of its second (vectors), of its upkeep.

begin = sessionmaker(engine).begin              # a transaction a call: a worker
begin = lambda: nullcontext(session)            # all in the caller's own
while step_words(begin, articles) or step_vectors(begin, articles, worker=7): ...
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from hybridsearch import weights
from hybridsearch.changes import note_unnoted
from hybridsearch.deadline import TimedOut
from hybridsearch.engines import engine_of
from hybridsearch.errors import DatabaseError, EncoderError
from hybridsearch.isolation import culprits, is_of_data, said_of
from hybridsearch.model import SearchIndex
from hybridsearch.page import Page
from hybridsearch.queue import SOON, Claim, Limits, claim, finish, put_back, refuse, renew
from hybridsearch.vectors import Encoded, encode, read, write
from hybridsearch.words import fill_words, index_words

Begin = Callable[[], AbstractContextManager[Session]]

MAX_PENDING = 200  # documents that may stay unmerged: each costs a query about 15 microseconds
MAX_UNWEIGHED = 1000  # chunks whose term weights may: each costs about 5


def step_words(begin: Begin, index: SearchIndex, *, wait: bool = False) -> Page | None:
    """Index the words of some documents that have changed; None where there are none."""
    with begin() as session:
        return index_words(session, index, wait=wait)


def step_fill(begin: Begin, index: SearchIndex) -> int:
    """Index the words of many rows that are new, at once; return how many, 0 where there are but a few."""
    with begin() as session:
        return fill_words(session, index)


def step_vectors(begin: Begin, index: SearchIndex, *, worker: int, limits: Limits) -> Page | None:
    """Write the vectors of some documents that wait for them; None where none is due.

    Raises EncoderError where the encoder fails at everything: the documents are then given back as they were.
    """
    with begin() as session:
        claims = claim(session, index, worker=worker, limits=limits)
    if not claims:
        return None
    with _given_back(begin, index, worker, claims):
        return _encoded(begin, index, worker, limits, claims)


@contextmanager
def _given_back(begin: Begin, index: SearchIndex, worker: int, claims: list[Claim]) -> Iterator[None]:
    """Give back what was claimed, where this ends by an error: the process lives, and no document is at fault."""
    try:
        yield
    except BaseException:
        # Where the database is away, the worker does it when it is back.
        with suppress(SQLAlchemyError, DatabaseError), begin() as session:
            put_back(session, index, worker=worker, keys=[one.key for one in claims])
        raise


def _encoded(begin: Begin, index: SearchIndex, worker: int, limits: Limits, claims: list[Claim]) -> Page:
    keys = [one.key for one in claims]
    with begin() as session:
        try:
            with session.begin_nested():
                plan = read(session, index, keys)
        except Exception as error:
            if not is_of_data(error):
                raise
            unread = culprits(session, keys, lambda some: read(session, index, some))
            for one in claims:
                if one.key in unread:
                    said = f"its texts cannot be read: {said_of(unread[one.key])}"
                    refuse(session, index, worker=worker, claim=one, error=said, limits=limits)
            put_back(session, index, worker=worker, keys=[key for key in keys if key not in unread])
            return Page()
        finish(session, index, worker=worker, keys=plan.done)
        put_back(session, index, worker=worker, keys=plan.later, delay=SOON)
        note_unnoted(session, index, plan.stale)
    try:
        beat = _beat(begin, index, worker, limits)
        encoded = encode(index, plan.works, deadline=limits.deadline, beat=beat) if plan.works else Encoded()
    except EncoderError as error:
        # Which of several took too long is not known: each is tried alone.
        counted = isinstance(error, TimedOut) and len(plan.works) > 1
        with begin() as session:
            put_back(session, index, worker=worker, keys=keys, counted=counted, error=str(error))
        if counted:
            return Page()
        raise
    return _written(begin, index, worker, limits, claims, encoded)


def _written(
    begin: Begin, index: SearchIndex, worker: int, limits: Limits, claims: list[Claim], encoded: Encoded
) -> Page:
    with begin() as session:
        written = write(session, index, encoded, worker=worker)
        for one in claims:
            if error := encoded.errors.get(one.key):
                refuse(session, index, worker=worker, claim=one, error=str(error), limits=limits)
    return Page(written=written)


def _beat(begin: Begin, index: SearchIndex, worker: int, limits: Limits) -> Callable[[], None]:
    """Return what to call while a batch is encoded: it renews the claim when half of it has run out."""
    since = time.monotonic()

    def beat() -> None:
        nonlocal since
        if time.monotonic() - since > limits.lease / 2:
            with begin() as session:
                renew(session, index, worker=worker, limits=limits)
            since = time.monotonic()

    return beat


def step_upkeep(begin: Begin, index: SearchIndex, *, pending: int = MAX_PENDING) -> bool:
    """Merge some of what waits into the postings where more than so many documents do; return whether any were."""
    engine = engine_of(index)
    with begin() as session:
        if engine.waiting(session, index) > pending:
            return engine.compact(session, index) > 0
        return weights.waiting(session, index) > MAX_UNWEIGHED and weights.weigh(session, index) > 0
