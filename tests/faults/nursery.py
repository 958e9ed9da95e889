"""Starts worker processes quickly: everything is imported once, then each worker is a fork.

    python -m tests.faults.nursery ADDRESS DEADLINE LEASE ATTEMPTS PATIENCE

A line on standard input starts one, whose process id comes on standard output.
"""

import logging
import os
import signal
import sys

from sqlalchemy import make_url

from hybridsearch.connect import worker_engine
from hybridsearch.queue import Limits
from hybridsearch.worker import Worker
from tests.faults.shop import index


def work(address: str, limits: Limits) -> None:
    """Be a worker until SIGTERM."""
    logging.basicConfig(level=logging.WARNING, format=f"{os.getpid()} %(asctime)s %(message)s")
    worker = Worker(worker_engine(make_url(address)), [index], limits=limits, poll=0.5)
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    worker.run()


def main() -> None:
    """Fork a worker for every line."""
    address, deadline, lease, attempts, patience = sys.argv[1:6]
    limits = Limits(8, float(deadline), float(lease), int(attempts), float(patience))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(0)
            try:
                work(address, limits)
            except BaseException as error:
                logging.error("ended: %s", error)
                os._exit(1)
            os._exit(0)
        print(child, flush=True)


if __name__ == "__main__":
    main()
