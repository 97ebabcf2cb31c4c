"""Which endpoint to ask: from the environment or a file in the user's own configuration, and from nowhere else.

A workflow, a plan or a command line never holds an address or a key, so none can leak from there, and none that comes
from others can send a sentence anywhere.

In the environment ``DREAMLAYER_LLM_URL``, ``DREAMLAYER_LLM_MODEL`` and ``DREAMLAYER_LLM_KEY``; in the file
``{"llm": {"url": "http://localhost:8080/v1", "model": "...", "key": "..."}}``; last the names that OpenAI's own clients
read, ``OPENAI_BASE_URL``, ``OPENAI_MODEL`` and ``OPENAI_API_KEY``, which are used only where the user asks for the endpoint on
the command line, or has set ``DREAMLAYER_LLM_MODEL``. Address and key always come from the same one of the three: a key never
goes to an address that it was not given for.

A workflow can ask for "the endpoint": it gets one that was chosen for DreamLayer (`chosen_settings`), or none.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import InputError

__all__ = ["EndpointSettings", "chosen_settings", "config_path", "find_settings", "require_settings"]

_OPENAI = "https://api.openai.com/v1"
_LARGEST_CONFIG = 2**16  # bytes
_SHORTEST_KEY = 4  # characters: with a shorter one hidden, no message could be read
_LONGEST_LABEL = 63  # RFC 1035
_HOW = "set DREAMLAYER_LLM_URL and DREAMLAYER_LLM_MODEL (and DREAMLAYER_LLM_KEY where the server wants one)"


@dataclass(frozen=True, kw_only=True)
class EndpointSettings:
    """Base URL up to and without `/chat/completions`, the model's name, and the key, which is never shown.

    ``chosen``: given for DreamLayer, and not only found where other programs keep theirs. Raises InputError for what
    cannot be used.
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    chosen: bool = True

    def __post_init__(self) -> None:
        parts = _split(self.url)
        if parts.scheme not in ("http", "https") or not _is_host(parts.hostname or ""):
            raise InputError(
                "got an endpoint's address that is no http:// or https:// URL; give one such as http://localhost:8080/v1"
            )
        if parts.username is not None or parts.query or parts.fragment:
            raise InputError(
                "got an endpoint's address with a user name, a query or a fragment in it; give the key on its own"
            )
        if not self.model.strip():
            raise InputError(f"got an endpoint without a model's name; {_HOW}")
        if not all("!" <= sign <= "~" for sign in self.key):
            raise InputError("got an endpoint's key with spaces, line breaks or letters beyond ASCII; copy it again")

    @property
    def parts(self) -> SplitResult:
        """The address, taken apart."""
        return _split(self.url)

    def hidden(self, text: str) -> str:
        """The text without the key, in case a server repeats it."""
        return text.replace(self.key, "***") if len(self.key) >= _SHORTEST_KEY else text


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # a number or an error
    except ValueError:
        parts = SplitResult("", "", "", "", "")
    return parts if all("!" <= sign <= "~" for sign in url) else SplitResult("", "", "", "", "")


def _is_host(name: str) -> bool:
    """Whether every part of a host's name has a length that names can have."""
    return all(0 < len(label) <= _LONGEST_LABEL for label in name.removesuffix(".").split("."))


class _Llm(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    url: str
    model: str = ""
    key: str = ""


class _Config(BaseModel):
    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    llm: _Llm | None = None


def config_path(environment: Mapping[str, str] | None = None, platform: str = sys.platform) -> Path | None:
    """The user's configuration file, where the platform keeps such files. It need not exist; None for a user without a
    home.
    """
    environment = os.environ if environment is None else environment
    try:
        return _config_home(environment, platform) / "dreamlayer" / "config.json"
    except RuntimeError:  # Path.home() found none, as in some containers
        return None


def _config_home(environment: Mapping[str, str], platform: str) -> Path:
    if platform == "win32":
        return Path(environment.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    if platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    given = environment.get("XDG_CONFIG_HOME", "")
    return Path(given) if Path(given).is_absolute() else Path.home() / ".config"  # as its specification has it


def find_settings(environment: Mapping[str, str] | None = None, config: Path | None = None) -> EndpointSettings | None:
    """The endpoint that is configured; None where none is. Raises InputError for a configuration that cannot be used.
    """
    environment = os.environ if environment is None else environment
    model = environment.get("DREAMLAYER_LLM_MODEL", "").strip()
    if url := environment.get("DREAMLAYER_LLM_URL", "").strip():
        return EndpointSettings(url=url, model=model, key=environment.get("DREAMLAYER_LLM_KEY", "").strip())
    path = config or config_path(environment)
    if path is not None and (llm := _read(path)) is not None:
        return EndpointSettings(url=llm.url.strip(), model=model or llm.model, key=llm.key.strip())
    url, key, usual = (environment.get(f"OPENAI_{name}", "").strip() for name in ("BASE_URL", "API_KEY", "MODEL"))
    if not (url or key) or not (model or usual):
        return None
    return EndpointSettings(url=url or _OPENAI, model=model or usual, key=key, chosen=bool(model))


def require_settings(environment: Mapping[str, str] | None = None, config: Path | None = None) -> EndpointSettings:
    """As `find_settings`. Raises InputError where no endpoint is configured."""
    if (settings := find_settings(environment, config)) is None:
        path = config or config_path(environment)
        raise InputError(f"no endpoint is configured; {_HOW}" + (f", or write them to {path}" if path else ""))
    return settings


def chosen_settings(environment: Mapping[str, str] | None = None, config: Path | None = None) -> EndpointSettings:
    """As `require_settings`. Raises InputError also for what only stands where other programs keep theirs: what comes
    from others, as a workflow does, must not spend a key that was never meant for this.
    """
    settings = require_settings(environment, config)
    if not settings.chosen:
        raise InputError(f"got an endpoint from OPENAI_* alone, which no workflow may use; {_HOW}")
    return settings


def _read(path: Path) -> _Llm | None:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_CONFIG + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}); correct or remove it") from error
    try:
        if len(data) > _LARGEST_CONFIG:
            raise ValueError
        return _Config.model_validate_json(data).llm
    except (ValidationError, ValueError):  # without a cause: it would hold parts of the file
        raise InputError(
            f'{path} is not as it should be; write {{"llm": {{"url": "http://localhost:8080/v1", "model": "...", "key": "..."}}}}'
        ) from None
