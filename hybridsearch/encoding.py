"""Let an encoder work, and put its failures to its name.

with work_of(encoder):
    encoder.encode_documents(texts)      # whatever it raises is an EncoderError
"""

from collections.abc import Iterator
from contextlib import contextmanager

from hybridsearch.encoders import Encoder
from hybridsearch.errors import EncoderError, HybridSearchError


@contextmanager
def work_of(encoder: Encoder) -> Iterator[None]:
    """Turn whatever an encoder raises into an EncoderError; an error of this library passes unchanged."""
    try:
        yield
    except HybridSearchError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())
        raise EncoderError(
            f'encoder "{encoder.name}" failed: {type(error).__name__}: {said}: mend it, or choose another one'
        ) from error
