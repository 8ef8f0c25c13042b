"""Every route there is: found in the files, so that a file which the studio forgets to serve is noticed."""

import importlib
import pkgutil

import pytest

from server.gateway import routes as package
from server.gateway.routes import docs
from server.gateway.routing import Route, Routes

MODULES = [
    importlib.import_module(f"{package.__name__}.{found.name}") for found in pkgutil.iter_modules(package.__path__)
]
COLLECTIONS: list[Routes] = [module.routes for module in MODULES if isinstance(getattr(module, "routes", None), Routes)]
ROUTES: list[Route] = [
    *(route for collection in COLLECTIONS for route in collection),
    *docs.document_routes(COLLECTIONS),
]

each_route = pytest.mark.parametrize(
    "route", [pytest.param(route, id=f"{route.method} {route.path}") for route in ROUTES]
)
