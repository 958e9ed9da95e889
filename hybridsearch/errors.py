"""Every error this library raises on purpose.

    HybridSearchError
    ├── DeclarationError (ValueError)      the declared index cannot be built from its model
    ├── QueryError (ValueError)            the search call cannot be answered as it stands
    ├── EncoderError (RuntimeError)        an encoder failed, or made something that is not an encoding
    │   └── EncoderMismatch                index and encoder do not belong together
    ├── DatabaseError (RuntimeError)       the server cannot serve us
    │   ├── ServerUnreachable              no connection: address, password, or the server is down
    │   ├── StatementTimeout (TimeoutError) it did not answer within the time it had
    │   ├── ExtensionMissing               pgvector is absent, or older than 0.7
    │   └── SchemaMissing                  a table or function of ours is not there: migrate
    ├── ConfigurationError (ValueError)    a setting, or the command line's --app, is wrong
    └── MissingDependency (ImportError)    an extra is not installed; the message has the exact pip command

Messages name the thing, what was found, and what to do next.
"""


class HybridSearchError(Exception):
    """The root of every error raised by hybridsearch."""


class DeclarationError(HybridSearchError, ValueError):
    """The declared index cannot be built from its model."""


class QueryError(HybridSearchError, ValueError):
    """The search call cannot be answered as it stands."""


class EncoderError(HybridSearchError, RuntimeError):
    """An encoder failed, or returned something that is not an encoding."""


class EncoderMismatch(EncoderError):
    """The index was made by another encoder, or for other dimensions."""


class DatabaseError(HybridSearchError, RuntimeError):
    """The server cannot serve us."""


class ServerUnreachable(DatabaseError):
    """No connection could be made: address, credentials, or the server is down."""


class StatementTimeout(DatabaseError, TimeoutError):
    """The server did not answer within the time it had."""


class ExtensionMissing(DatabaseError):
    """pgvector is absent from the database, or too old."""


class SchemaMissing(DatabaseError):
    """A table or function of ours is not there yet: `hybridsearch migrate`, then your own migration."""


class ConfigurationError(HybridSearchError, ValueError):
    """A setting, or the command line's --app, is wrong."""


class MissingDependency(HybridSearchError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} is not installed: pip install 'hybridsearch[{extra}]'")
