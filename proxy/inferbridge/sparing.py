"""Imports of single modules of packages that import far more than is wanted.

`mitmproxy.addons` imports all addons that there are, with Flask, LDAP and parsers, which take 21 MB and a third of the
time to start. The gateway needs two of them. What is imported here stays; the package itself is imported as usual by
whoever wants it.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec, module_from_spec


@contextmanager
def without_its_siblings(package: str) -> Iterator[None]:
    """Import modules of `package` without what the package itself imports."""
    spec = find_spec(package) if package not in sys.modules else None
    if spec is None:
        yield
        return
    sys.modules[package] = module_from_spec(spec)  # not executed: it only says where its modules are
    try:
        yield
    finally:
        del sys.modules[package]
