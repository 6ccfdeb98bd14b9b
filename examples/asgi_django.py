"""Django with its static files by sendfile: `python asgi_django.py DIR [PORT]`.

Django has no mount points for ASGI apps: its asgi.py decides by the path. In a project that is all
that is to be written there; STATIC_ROOT is the directory, filled by `manage.py collectstatic`.
"""

from __future__ import annotations

import sys

import django
import uvicorn
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from spliceio.asgi import StaticFiles, UvicornProtocol


def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse("Hello from Django\n", content_type="text/plain")


urlpatterns = [path("", hello)]


def main(directory: str, port: str = "8000") -> None:
    settings.configure(
        ROOT_URLCONF=__name__, STATIC_URL="/static/", STATIC_ROOT=directory, ALLOWED_HOSTS=["*"]
    )
    django.setup()
    pages, static = get_asgi_application(), StaticFiles(settings.STATIC_ROOT)

    async def application(scope, receive, send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(settings.STATIC_URL):
            await static({**scope, "root_path": "/static"}, receive, send)
        else:
            await pages(scope, receive, send)

    uvicorn.run(application, port=int(port), http=UvicornProtocol, lifespan="off")


if __name__ == "__main__":
    main(*sys.argv[1:])
