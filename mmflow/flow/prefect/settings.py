"""The user's own settings of Prefect: environment, `.env`, TOML files and profiles, read before any work."""

import contextlib
import io
import os
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from mmflow.flow.execution import EngineUnavailable
from mmflow.plugin.failures import told

WITHOUT = "`--local` runs the same stages without Prefect"


def may_name_an_api() -> bool:
    """Whether the user seems to have an API of his own; decided without importing Prefect."""
    return "PREFECT_API_URL" in os.environ or any(_may_name_an_api(file) for file in _files())


def load_settings() -> None:
    """Import Prefect's settings. Raises `EngineUnavailable`, which names the file or variable with the mistake."""
    for file in _files():
        if file.suffix == ".toml":
            _check_toml(file)
    said = io.StringIO()
    try:
        # Imported without a word on telemetry: whose API the run will use is not known yet.
        with environment(DO_NOT_TRACK="1"), contextlib.redirect_stderr(said):
            from prefect.settings import get_current_settings

            get_current_settings()
    except ValidationError as error:
        raise EngineUnavailable(f"Prefect refuses its settings: {_mistakes(error)}; {WITHOUT}") from error
    except Exception as error:
        raise EngineUnavailable(
            f"Prefect cannot start: {told(error)}; look at its settings (PREFECT_..., prefect.toml, profiles), "
            f"or leave it out: {WITHOUT}"
        ) from error
    sys.stderr.write(said.getvalue())


@contextlib.contextmanager
def environment(**values: str) -> Iterator[None]:
    """Set variables of this process inside the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _files() -> list[Path]:
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml").expanduser()
    return [profiles, *map(Path, (".env", "prefect.toml", "pyproject.toml"))]


def _may_name_an_api(file: Path) -> bool:
    text = _text(file)
    return "PREFECT_API_URL" in text or "prefect.api" in text or (file.name == "prefect.toml" and "api" in text)


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def _check_toml(file: Path) -> None:
    # Prefect itself does not name a file of profiles that it cannot read.
    try:
        tomllib.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise EngineUnavailable(f"{file}, which Prefect reads, is broken: {said}; repair it, or {WITHOUT}") from error


def _mistakes(error: ValidationError) -> str:
    """Each wrong setting with its variable and the place where it is set."""
    found = []
    for one in error.errors(include_url=False, include_input=False):
        if one["type"] != "default_factory_not_called":
            variable = f"{_prefix(error.title)}{'_'.join(map(str, one['loc']))}".upper()
            found.append(f"{variable} ({_place(variable, str(one['loc'][-1]))}): {one['msg']}")
    return "; ".join(found)


def _prefix(title: str) -> str:
    """How the variables of a group of settings begin."""
    from prefect.settings.base import PrefectBaseSettings

    groups = list(PrefectBaseSettings.__subclasses__())
    return next((str(g.model_config.get("env_prefix")) for g in groups if g.__name__ == title), "PREFECT_")


def _place(variable: str, field: str) -> str:
    if variable in (name.upper() for name in os.environ):
        return "in the environment"
    texts = {file: _text(file) for file in _files()}
    for wanted in (variable, field):
        for file, text in texts.items():
            if wanted in text:
                return f"in {file}"
    return "in its settings"
