"""Self-contained HTML files from the templates of the package."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kinema.errors import missing_extra
from kinema.report.tables import percent
from kinema.system.files import write_whole
from kinema.system.text import visible

try:
    from jinja2 import Environment, PackageLoader, StrictUndefined
except ModuleNotFoundError as error:
    raise missing_extra("The HTML page", error.name, "train") from error


def write_page(template: str, values: Mapping[str, Any], out: Path) -> Path:
    """Writes a template filled with values; PNG data is embedded by its filter `embedded`."""
    environment = Environment(
        loader=PackageLoader("kinema.report"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {"percent": percent, "embedded": _embedded}
    write_whole(out, visible(environment.get_template(template).render(values)))
    return out


def _embedded(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
