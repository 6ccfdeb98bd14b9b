"""Tests of spliceio.asgi."""
