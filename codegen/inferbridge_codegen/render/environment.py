"""The template engine, set up once: an undefined name is an error, whitespace is what the template says."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("inferbridge_codegen"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **values: object) -> str:
    """The text of a template of `inferbridge_codegen/templates`."""
    return _environment().get_template(template).render(**values)
