"""The shop as a FastAPI service."""
