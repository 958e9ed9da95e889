"""The usual recipe that hybrid search is held against: pgvector and PostgreSQL's full text, joined by reciprocal ranks.

It is the statement of pgvector's own example (https://github.com/pgvector/pgvector-python/tree/master/examples), with
the tsvector stored under a GIN index, the vectors in a chunk table, and 100 candidates a leg instead of 20. `plainto`
asks for documents with all words, as the example; `any` for documents with any of them, as BM25 does.
"""

from typing import Any, Literal

from sqlalchemy import TextClause, text

Words = Literal["plainto", "any"]

ASKED = {
    "plainto": "plainto_tsquery(cast(:config as regconfig), :text)",
    "any": """to_tsquery('simple', coalesce((
        select string_agg(quote_literal(lexeme), ' | ')
        from unnest(to_tsvector(cast(:config as regconfig), :text))), ''))""",
}


def tables(schema: str, table: str, fields: list[str], config: str) -> list[str]:
    """The statements that make the recipe's own table."""
    whole = " || ' ' || ".join(f"coalesce({field}, '')" for field in fields)
    return [
        f"drop table if exists {schema}.recipe",
        f"create table {schema}.recipe as select id, to_tsvector('{config}', {whole}) as words from {schema}.{table}",
        f"alter table {schema}.recipe add primary key (id)",
        f"create index on {schema}.recipe using gin (words)",
        f"analyze {schema}.recipe",
    ]


def statement(schema: str, table: str, words: Words, where: str = "true") -> TextClause:
    """The recipe, with a condition on the rows `m`; parameters: vector, text, config, limit."""
    return text(
        f"""
        with semantic as (
            select c.{table}_id as id, row_number() over (order by c.dense <=> cast(:vector as halfvec)) as rank
            from {schema}.{table}_chunk as c join {schema}.{table} as m on m.id = c.{table}_id
            where {where}
            order by c.dense <=> cast(:vector as halfvec)
            limit 100
        ), nearest as (
            select id, min(rank) as rank from semantic group by id
        ), keyword as (
            select r.id, row_number() over (order by ts_rank_cd(r.words, query) desc) as rank
            from {schema}.recipe as r join {schema}.{table} as m on m.id = r.id, {ASKED[words]} as query
            where r.words @@ query and {where}
            order by ts_rank_cd(r.words, query) desc
            limit 100
        )
        select coalesce(nearest.id, keyword.id) as id,
               coalesce(1.0 / (60 + nearest.rank), 0.0) + coalesce(1.0 / (60 + keyword.rank), 0.0) as score
        from nearest full outer join keyword on nearest.id = keyword.id
        order by score desc, id
        limit :limit
        """
    )


def values(vector: Any, words: str, config: str, limit: int) -> dict[str, Any]:
    """The parameters of the statement."""
    return {"vector": str([float(number) for number in vector]), "text": words, "config": config, "limit": limit}
