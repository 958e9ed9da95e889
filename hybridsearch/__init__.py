"""Hybrid search inside the PostgreSQL you already have: dense vectors and BM25, fused, in one statement.

articles = SearchIndex(Article, fields={"title": 2.0, "body": 1.0}, encoder="minilm")
hits = HybridSearch(articles).search(session, "forgot my password", limit=10)
"""

from hybridsearch.bm25 import BM25
from hybridsearch.boost import Boost, popularity, recency
from hybridsearch.companions import HNSW
from hybridsearch.encoders import Encoder, Encoding, load_encoder
from hybridsearch.errors import (
    ConfigurationError,
    DatabaseError,
    DeclarationError,
    EncoderError,
    EncoderMismatch,
    ExtensionMissing,
    HybridSearchError,
    MissingDependency,
    QueryError,
    SchemaMissing,
    ServerUnreachable,
    StatementTimeout,
)
from hybridsearch.facets import Count, Facet
from hybridsearch.fusion import fuse, rrf
from hybridsearch.hits import Hit, Hits
from hybridsearch.model import SearchIndex
from hybridsearch.observation import SearchRecord
from hybridsearch.options import Options
from hybridsearch.paging import HitPage
from hybridsearch.query import Query
from hybridsearch.searcher import HybridSearch, Rerank
from hybridsearch.settings import Settings
from hybridsearch.snippet import Highlight

__version__ = "0.1.0"

__all__ = [
    "BM25",
    "HNSW",
    "Boost",
    "ConfigurationError",
    "Count",
    "DatabaseError",
    "DeclarationError",
    "Encoder",
    "EncoderError",
    "EncoderMismatch",
    "Encoding",
    "ExtensionMissing",
    "Facet",
    "Highlight",
    "Hit",
    "HitPage",
    "Hits",
    "HybridSearch",
    "HybridSearchError",
    "MissingDependency",
    "Options",
    "Query",
    "QueryError",
    "Rerank",
    "SchemaMissing",
    "SearchIndex",
    "SearchRecord",
    "ServerUnreachable",
    "Settings",
    "StatementTimeout",
    "fuse",
    "load_encoder",
    "popularity",
    "recency",
    "rrf",
]
