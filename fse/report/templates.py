"""The Jinja environment of the HTML pages."""

import os
from pathlib import Path
from typing import Callable

import jinja2


def load_template(path: "os.PathLike[str]", **filters: Callable[..., str]) -> jinja2.Template:
    """Load an HTML template.

    The template escapes every value except `markupsafe.Markup`, because names of images and settings are user input.
    A name that the caller did not define is an error, not an empty string.

    Args:
      path: the template; it can include other templates from its folder.
      filters: the functions that the template can call as filters, by name.

    Raises:
      jinja2.TemplateError: the template does not exist or has a syntax error.
    """
    path = Path(path)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(path.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    return environment.get_template(path.name)
