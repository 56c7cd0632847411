"""Errors as people and programs meet them: each class of error has one HTTP status, here."""

from __future__ import annotations

import errno
import re
from http import HTTPStatus
from typing import Any

from apiflask import APIFlask, HTTPError
from flask import Response, current_app, json, make_response, render_template, request
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFError
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, SecurityError

from nias_bridge import errors
from nias_bridge.http.here import bridge
from nias_bridge.services import quotas

STATUS: dict[type[errors.NiasError], HTTPStatus] = {
    errors.NiasError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.BadUpload: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.BadRequirements: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.BadProjectFile: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.BadRequest: HTTPStatus.BAD_REQUEST,
    errors.ProjectExists: HTTPStatus.CONFLICT,
    errors.KeyReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.Resubmitted: HTTPStatus.CONFLICT,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.NotPossible: HTTPStatus.CONFLICT,
    errors.NotSignedIn: HTTPStatus.UNAUTHORIZED,
    errors.NotAllowed: HTTPStatus.FORBIDDEN,
    errors.TooManyTries: HTTPStatus.TOO_MANY_REQUESTS,
    errors.NoAnswer: HTTPStatus.BAD_GATEWAY,
    errors.Undeliverable: HTTPStatus.BAD_GATEWAY,
    errors.OverQuota: HTTPStatus.CONFLICT,
    errors.NoSpace: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.StorageUnreachable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.SettingsError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.ClusterError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.SchedulerError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.Unreachable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.SubmissionUnclear: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.TryLater: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.Rejected: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.StoreError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.OldSchema: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.Stale: HTTPStatus.CONFLICT,
    errors.LeaseLost: HTTPStatus.SERVICE_UNAVAILABLE,
}

INTERNAL = "Something went wrong here, and it was written to the gateway's log. Please try again."
NO_SPACE = "The shared storage is full, so nothing was kept. Please tell the administrator."
OLD_PAGE = "This page was open for too long to be trusted. Go back, reload it and try again."
BROKEN_BODY = "The body of this request is not as HTTP writes it. Send it again."
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
HTTP_SENTENCES = {
    404: "There is nothing at this address.",
    405: "This address does not take such a request.",
}


def init_app(app: APIFlask) -> None:
    """Answer every error as problem+json or as a page, whichever was asked for."""
    app.register_error_handler(errors.NiasError, _nias_error)
    app.register_error_handler(HTTPError, _bad_input)
    app.register_error_handler(SecurityError, _foreign_host)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(ParseException, _broken_body)
    app.register_error_handler(OSError, _os_error)
    app.register_error_handler(Exception, _unknown)


def wants_json() -> bool:
    """True for the API, and for our own script where it asks for JSON."""
    if request.path.startswith("/api/"):
        return True
    best = request.accept_mimetypes.best_match(["text/html", "application/json"], "text/html")
    return best == "application/json"


def status_of(error: errors.NiasError) -> HTTPStatus:
    """The status of an error, or of the nearest class that it is one of."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def kind(error: errors.NiasError) -> str:
    """A word for programs: BadUpload is `bad-upload`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", type(error).__name__).lower()


def _nias_error(error: errors.NiasError) -> ResponseReturnValue:
    status = status_of(error)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return _unknown(error)
    response = make_response(_answer(status, str(error), kind(error), **_more(error)))
    if isinstance(error, errors.NotSignedIn):
        response.headers["WWW-Authenticate"] = "Bearer"
    elif isinstance(error, errors.TooManyTries):
        response.headers["Retry-After"] = str(error.seconds)
    return response


def _more(error: errors.NiasError) -> dict[str, Any]:
    """What a program needs to go on, beside the sentence."""
    match error:
        case errors.BadRequirements():
            problems = [
                {"line": p.line, "text": p.text, "why": p.why, "mend": p.mend}
                for p in error.problems
            ]
            return {"problems": problems, "mendable": error.mendable}
        case errors.BadProjectFile():
            return {"problems": list(error.problems)}
        case errors.ProjectExists():
            return {"project": error.project, "next_number": error.next_number}
        case errors.BadRequest():
            return {"field": error.field}
    return {}


def _bad_input(error: HTTPError) -> ResponseReturnValue:
    """What APIFlask finds wrong with a query, as one sentence."""
    detail: Any = error.detail
    wrong = [
        f"{field}: {'; '.join(map(str, messages))}"
        for fields in detail.values()
        for field, messages in fields.items()
    ]
    return _answer(
        error.status_code, ". ".join(wrong) or "This can’t be understood.", "bad-request"
    )


def _http_error(error: HTTPException) -> ResponseReturnValue:
    if error.code is None or error.code < 400:
        return error.get_response()  # a redirect, or what the client has already, is no error
    sentence = HTTP_SENTENCES.get(error.code) or error.description or "This did not work."
    if isinstance(error, RequestEntityTooLarge):
        limits = quotas.largest_upload(bridge()), bridge().settings.dataset_max_bytes
        most, of_data = map(quotas.told, limits)
        sentence = (
            f"This is too large: zips of at most {most} are taken of you, and datasets of "
            f"{of_data}."
        )
    elif isinstance(error, CSRFError):
        sentence = OLD_PAGE
    word = error.name.lower().replace(" ", "-")
    response = make_response(_answer(error.code, sentence, word))
    for name, value in error.get_headers():  # Allow, Content-Range and their like
        if name not in ("Content-Type", "Content-Length"):
            response.headers.set(name, value)
    return response


def _foreign_host(_error: SecurityError) -> ResponseReturnValue:
    # No page here: its links would name a host that is not ours.
    sentence = (
        "This gateway is not known under this host name. "
        "The administrator can add it to the setting trusted_hosts.\n"
    )
    return Response(sentence, status=HTTPStatus.BAD_REQUEST, mimetype="text/plain")


def _broken_body(_error: ParseException) -> ResponseReturnValue:
    return _answer(HTTPStatus.BAD_REQUEST, BROKEN_BODY, "bad-request")


def _os_error(error: OSError) -> ResponseReturnValue:
    return _nias_error(errors.NoSpace(NO_SPACE)) if error.errno in FULL else _unknown(error)


def _unknown(error: Exception) -> ResponseReturnValue:
    current_app.logger.error("%s %s failed", request.method, request.path, exc_info=error)
    return _answer(HTTPStatus.INTERNAL_SERVER_ERROR, INTERNAL, "internal")


def _answer(status: int, sentence: str, word: str, **more: Any) -> ResponseReturnValue:
    title = HTTPStatus(status).phrase
    if not wants_json():
        return render_template("error.html", status=status, title=title, sentence=sentence), status
    problem = {
        "type": f"urn:nias-bridge:{word}",
        "title": title,
        "status": int(status),
        "detail": sentence,
        **more,
    }
    return Response(json.dumps(problem), status=status, mimetype="application/problem+json")
