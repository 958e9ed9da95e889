"""An application for the command line: `--app tests.support.shop`."""

from tests.support.models import articles

declared = articles()
Base, Article, index = declared.Base, declared.Article, declared.index
