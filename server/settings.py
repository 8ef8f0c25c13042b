"""Settings: from the command line, the environment and a YAML file, in this order. Nothing else reads the environment.

Own names carry the prefix `CHAT_STUDIO_` (in the YAML file they stand without it, in small letters); `DATABASE_URL`,
`REDIS_URL` and `SENTRY_DSN` are taken as they are.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from server.outbound.addresses import OutboundRefused, target_of

CONFIG_FILE = "chat-studio.yaml"


class SettingsError(Exception):
    """A setting is wrong; the message is one line that names it."""


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _switch(value: object) -> object:
    return {"on": True, "off": False}.get(value.lower(), value) if isinstance(value, str) else value


def _origin(text: str) -> str:
    parts = urlsplit(text.strip().rstrip("/"))
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.path or parts.query:
        raise ValueError("this is no address such as https://chat.example.org")
    return f"{parts.scheme}://{parts.netloc}"


def _callee(text: str) -> str:
    try:
        return target_of(_origin(text)).origin
    except OutboundRefused as error:
        raise ValueError(error.detail) from None


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="CHAT_STUDIO_", extra="forbid", env_ignore_empty=True)

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    data_dir: Path = Field(default=Path("data"), description="where the studio's own Postgres and files live")
    workers: int = Field(default=1, ge=1, le=64, description="processes that share the port")
    public_url: Annotated[str, AfterValidator(_origin)] | None = Field(
        default=None, description="the address people use, where a proxy stands before the studio"
    )
    registration: Literal["open", "invitation", "closed", "loopback"] = Field(
        default="loopback",
        description="who may register: everybody, with an invitation, nobody, or everybody on this machine",
    )
    allowed_origins: Annotated[list[Annotated[str, AfterValidator(_origin)]], NoDecode, BeforeValidator(_split)] = (
        Field(default=[], description="further origins whose pages may open sockets, separated by commas")
    )
    trusted_proxies: str = Field(
        default="127.0.0.1", description="addresses whose X-Forwarded headers count, separated by commas"
    )
    outbound_allow: Annotated[list[Annotated[str, AfterValidator(_callee)]], NoDecode, BeforeValidator(_split)] = Field(
        default=[],
        description="addresses that may be called although they are not public, as scheme://host:port, by commas",
    )
    retention_days: int | None = Field(
        default=None, ge=1, le=3650, description="days after which messages go, where a conversation names no limit"
    )
    presence: Annotated[bool, BeforeValidator(_switch)] = Field(
        default=True, description="show who is here; off sheds the work it takes"
    )
    rate_limits: Annotated[bool, BeforeValidator(_switch)] = Field(default=True, description="off only for benchmarks")
    sample_room: Annotated[bool, BeforeValidator(_switch)] = Field(
        default=True, description="make a sample room at the first start"
    )
    log_level: Literal["TRACE", "DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="how much to log"
    )
    log_format: Literal["auto", "json", "text"] = Field(
        default="auto", description="auto: text on a terminal, else JSON"
    )
    database_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("database_url", "DATABASE_URL"),
        description="any PostgreSQL from 15 on",
    )
    redis_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("redis_url", "REDIS_URL"),
        description="the bus between several workers",
    )
    sentry_dsn: str | None = Field(
        default=None, validation_alias=AliasChoices("sentry_dsn", "SENTRY_DSN"), description="where error reports go"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = Path(os.environ.get("CHAT_STUDIO_CONFIG", CONFIG_FILE))
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, yaml_file=file)


def load(**given: Any) -> Settings:
    """The settings; `given` comes from the command line, where None means not given."""
    named = os.environ.get("CHAT_STUDIO_CONFIG")
    if named and not Path(named).is_file():
        raise SettingsError(f"CHAT_STUDIO_CONFIG names {named}, and there is no such file")
    unknown = sorted(
        name
        for name in os.environ
        if name.startswith("CHAT_STUDIO_") and name != "CHAT_STUDIO_CONFIG" and _field_of(name) is None
    )
    if unknown:
        raise SettingsError(f"{unknown[0]} is no setting of Chat Studio; see `chat-studio serve --help`")
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "a setting"
        shown = name if name.isupper() else f"CHAT_STUDIO_{name.upper()}"
        reason = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{shown}: {reason[0].lower()}{reason[1:]} (got {first['input']!r:.80})") from None
    except Exception as error:  # noqa: BLE001 - a YAML file that is none: the parser's words help most
        raise SettingsError(f"{CONFIG_FILE} cannot be read: {' '.join(str(error).split())[:200]}") from None


def _field_of(name: str) -> str | None:
    field = name.removeprefix("CHAT_STUDIO_").lower()
    return field if field in Settings.model_fields else None
