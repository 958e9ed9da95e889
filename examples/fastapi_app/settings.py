"""What an operator sets, each as SHOP_<NAME> in the environment; DATABASE_URL is the database's address."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ShopSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SHOP_", frozen=True)

    database_url: str = Field(validation_alias="DATABASE_URL")
    pool: int = Field(default=8, ge=1, le=100)
    """Connections of this process, and so requests that are answered at once."""

    waiting: int = Field(default=200, ge=0)
    """Requests that may wait for one of them; those after them get a 503 at once."""

    patience: float = Field(default=5.0, gt=0)
    """Seconds that a request waits for a connection."""

    deadline: float = Field(default=2.0, gt=0)
    """Seconds that a search may take, from the moment on that it has a connection."""

    worker: Literal["thread", "elsewhere"] = "elsewhere"
    """Who brings the index up to date: a thread of this process, or `hybridsearch worker` in one of its own."""
