"""JSON as it is answered, and the cookie as it is read: what each request pays for."""

from __future__ import annotations

from typing import Any

from flask import Flask, Request, Response
from flask.json.provider import DefaultJSONProvider
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface, SessionMixin
from pydantic_core import to_json


class Json(DefaultJSONProvider):
    """Answers by pydantic's encoder, many times as quick as Python's."""

    ensure_ascii = False

    def response(self, *args: Any, **kwargs: Any) -> Response:
        told = to_json(self._prepare_response_obj(args, kwargs))
        return Response(told + b"\n", mimetype=self.mimetype)


class Cookies(SecureCookieSessionInterface):
    """The signed cookie, which costs a program that sends none nothing."""

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        sent = "HTTP_COOKIE" in request.environ
        if not sent or self.get_cookie_name(app) not in request.cookies:
            return self.session_class()
        return super().open_session(app, request)

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        if session or session.accessed:
            super().save_session(app, session, response)
