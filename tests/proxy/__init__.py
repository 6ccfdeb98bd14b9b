"""Tests of spliceio/_proxy and csrc/proxy: Proxy as a class, where it listens and connects."""
