"""Settings that come from the environment, each as HYBRIDSEARCH_<NAME>, or from keyword arguments.

Settings(candidates=200).rrf_k        # 60.0
"""

from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from hybridsearch.errors import ConfigurationError

Syntax = Literal["web", "plain"]


class Settings(BaseSettings):
    """Defaults of a search. A keyword argument of a call comes before these."""

    model_config = SettingsConfigDict(env_prefix="HYBRIDSEARCH_", frozen=True, extra="forbid")

    candidates: int = Field(default=100, ge=1, le=1000)
    """How many documents each leg hands to the fusion (at least the limit of the call)."""

    rrf_k: float = Field(default=60.0, gt=0)
    """The constant of reciprocal rank fusion; smaller favours the top of each leg."""

    ef_search: int = Field(default=100, ge=1, le=1000)
    """Size of the HNSW scan's candidate list; never less than the candidates asked for."""

    max_query_length: int = Field(default=10_000, ge=1)
    """Characters; a longer query is refused."""

    cursor_secret: str = "hybridsearch"
    """What cursors of pages are signed with; the same in all processes that serve one search.

    The default is public: with it, whoever asks may sign a list of his own. He sees nothing that the filter and the
    role's rights would not show, but a service that shows cursors to strangers sets a secret.
    """

    syntax: Syntax = "web"
    """What a text may say: "web" has "phrases", -exclusions and prefix*; "plain" takes every character as it stands."""

    deadline: float | None = Field(default=None, gt=0, le=3600)
    """Seconds that a search may take: what is not there by then is left out. None waits for everything."""

    apart: bool = False
    """Whether each leg is a statement of its own, with a time, a limit and a span of its own: slower, and plainer."""


def from_environment() -> Settings:
    """Return the settings of the environment. Raises ConfigurationError for a value that is out of range."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = error.errors()[0]
        name = "_".join(str(part) for part in wrong["loc"]).upper()
        raise ConfigurationError(f"HYBRIDSEARCH_{name} is {wrong['input']!r}: {wrong['msg']}") from error
