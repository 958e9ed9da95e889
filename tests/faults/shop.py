"""The application of the fault tests: articles, and an encoder whose faults are in the texts."""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hybridsearch import Encoding
from tests.support.encoders import WordHashEncoder
from tests.support.models import articles

FAULTS = ("raises", "hangs", "nan", "dimensions", "kills")
"""A text with the words `fault <name>` does that to the encoder; all others are encoded."""


class FaultyEncoder(WordHashEncoder):
    """Takes HYBRIDSEARCH_TEST_DELAY seconds a text; while the file HYBRIDSEARCH_TEST_HOLD is there, does not return."""

    def encode_documents(self, texts: Sequence[str]) -> Encoding:
        time.sleep(float(os.environ.get("HYBRIDSEARCH_TEST_DELAY", "0")) * len(texts))
        hold = os.environ.get("HYBRIDSEARCH_TEST_HOLD")
        while hold and Path(hold).exists():
            Path(hold + ".held").touch()
            time.sleep(0.01)
        said = " ".join(texts)
        if "fault raises" in said:
            raise ValueError("a text like this was never seen")
        if "fault hangs" in said:
            time.sleep(3600)
        if "fault kills" in said:
            os.kill(os.getpid(), signal.SIGKILL)
        dense = super().encode_documents(texts).dense
        if "fault nan" in said:
            dense = dense * np.float32("nan")
        if "fault dimensions" in said:
            dense = dense[:, 1:]
        return Encoding(dense)


shop = articles(encoder=FaultyEncoder(dimensions=8), config="simple")
index = shop.index
