"""Tests of spliceio.aio: under asyncio, uvloop and trio."""
