"""All checks of one machine's installation."""

from __future__ import annotations

from serving.doctor.contradictions import check_contradictions
from serving.doctor.database import check_database
from serving.doctor.engines import check_engines
from serving.doctor.files import check_files
from serving.doctor.finding import Check, check
from serving.doctor.home import check_home
from serving.doctor.keys import check_keys
from serving.doctor.limits import check_limits
from serving.doctor.model import check_model
from serving.doctor.ports import check_ports
from serving.doctor.services import check_services
from serving.settings import Settings


def local_checks(settings: Settings) -> list[Check]:
    """What the settings name, as seen from here."""
    checks = [
        check("settings", check_contradictions, settings),
        check("files", check_files, settings),
        check("home", check_home, settings),
        check("keys", check_keys, settings),
        check("ports", check_ports, settings),
        check("database", check_database, settings),
        check("limits", check_limits, settings),
        check("engines", check_engines, settings),
        check("services", check_services, settings),
    ]
    # Otherwise the engines, and their models, are elsewhere.
    return checks if settings.gateway.finds_engines else [*checks, check("model", check_model, settings)]
