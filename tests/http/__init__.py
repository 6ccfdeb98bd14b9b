"""Tests of spliceio/_http: handlers of http.server, WSGI, requests and conditions."""
