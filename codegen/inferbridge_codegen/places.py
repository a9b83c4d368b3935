"""Where specs and generated code lie: in the checkout, or in the installed package."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def default_specs() -> Path:
    """The spec folder that came with the code."""
    installed = _PACKAGE / "specs"
    return installed if installed.is_dir() else _PACKAGE.parents[1] / "specs"


def default_output() -> Path | None:
    """The generated package of a checkout; an installed package has none to write."""
    folder = _PACKAGE.parents[1] / "generated" / "inferbridge_generated"
    return folder if (_PACKAGE.parents[1] / "specs").is_dir() else None
