"""The gateway: the use cases as pages and as JSON."""

from __future__ import annotations

from importlib.metadata import version

from apiflask import APIFlask
from flask import url_for
from flask_bootstrap import Bootstrap5

from nias_bridge.assets import asset
from nias_bridge.http import (
    accounts,
    administration,
    administration_api,
    api,
    comparisons,
    datasets,
    datasets_api,
    description,
    docs,
    downloads,
    errors,
    formats,
    fresh,
    looks,
    metrics,
    oidc,
    pages,
    security,
    sharing,
    site_api,
    sweep_api,
    sweeps,
    tus,
    uploads,
    who,
    written,
)
from nias_bridge.http.here import KEY, caller
from nias_bridge.services import keys
from nias_bridge.services.bridge import Bridge

STATIC_SECONDS = 3600


def create_app(bridge: Bridge) -> APIFlask:
    """The web application of one bridge."""
    web = asset("web")
    app = APIFlask(
        "nias_bridge",
        title="NIAS bridge",
        version=version("nias-bridge"),
        spec_path="/api/openapi.json",
        docs_path=None,
        json_errors=False,
        template_folder=str(web / "templates"),
        static_folder=str(web / "static"),
    )
    app.extensions[KEY] = bridge
    app.config.update(
        BOOTSTRAP_SERVE_LOCAL=True,
        SEND_FILE_MAX_AGE_DEFAULT=STATIC_SECONDS,
        VALIDATION_ERROR_STATUS_CODE=400,
        AUTO_404_RESPONSE=False,
    )
    app.json = written.Json(app)
    app.session_interface = written.Cookies()
    metrics.init_app(app)
    security.protect(app, bridge.settings, (who.know, who.allow))
    uploads.init_app(app)
    fresh.init_app(app)
    errors.init_app(app)
    Bootstrap5(app)
    for module in (api, datasets_api, site_api, sweep_api, administration_api):
        security.csrf.exempt(module.blueprint)  # no cookie means anything there
    for module in (
        *(accounts, administration, administration_api, api, comparisons, datasets, datasets_api),
        *(docs, looks),
        *(metrics, pages, sharing, site_api, sweep_api, sweeps),
    ):
        app.register_blueprint(module.blueprint)
    for blueprint in (tus.for_programs, tus.for_pages):
        app.register_blueprint(blueprint)
    oidc.init_app(app, bridge.settings)
    app.spec_processor(description.complete)
    _add_words(app, bridge)
    return app


def _add_words(app: APIFlask, bridge: Bridge) -> None:
    """What templates may say."""
    app.jinja_env.filters.update(
        when=formats.when,
        day=formats.day,
        running_since=formats.running_since,
        duration=formats.duration,
        counted=formats.counted,
        size=formats.size,
        memory=formats.memory,
        raw_text=formats.raw_text,
        fact=formats.fact,
        is_shown=downloads.is_shown,
    )
    settings = bridge.settings
    app.jinja_env.globals.update(
        static=_static_url,
        who=caller,
        registration=settings.registration,
        waiting=administration.waiting,
        unclaimed=administration.unclaimed_count,
        upload_max=uploads.most,
        university=settings.oidc_name if settings.oidc_issuer else "",
        mails=settings.smtp_url is not None,
        remembered_days=keys.remembered(bridge).days,
        default_time=settings.time,
    )


def _static_url(name: str) -> str:
    """A static file's address, which changes with the file so that browsers may keep it long."""
    changed = (asset("web") / "static" / name).stat().st_mtime_ns
    return url_for("static", filename=name, v=f"{changed:x}")
