"""The server's own settings: a TOML file, overridden by ``SEALWRIGHT_*`` environment variables.

Every process reads the same file and takes what it needs. Secrets are named by file, never given
here: this object may be printed.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sealwright.errors import ConfigurationError

MIB = 1 << 20
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}")
_SHARED = ipaddress.IPv4Network("100.64.0.0/10")  # RFC 6598: overlay networks


class TimestampAuthoritySettings(BaseModel):
    """One RFC 3161 authority. They are tried in the order given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    url: str
    roots: Path = Field(description="PEM file of the roots that its certificate must chain to")
    timeout: float = Field(10.0, gt=0, description="seconds for one reply")
    concurrency: int = Field(16, ge=1, le=256)


class Settings(BaseModel):
    """All settings; the defaults make an embedded server below one data folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Path = Field(description="folder that holds everything the embedded server keeps")
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    external_url: str = Field("", description="address users see; default from host and port")
    allowed_hosts: tuple[str, ...] = Field((), description="Host header values; default: external")
    trusted_proxies: tuple[str, ...] = ()

    database_url: str = Field("", description="sqlite:///file or postgresql://...")
    signer_database_url: str = Field("", description="the signer's own role; default: database_url")
    redis_url: str = Field("", description="redis://... or unix:///...; default: embedded")
    artifact_store: str = Field("", description="file:///folder or s3://bucket/prefix?endpoint=...")
    spool: Path | None = Field(None, description="scratch folder of the worker")

    signer_socket: Path | None = None
    signer_group: str = Field(
        "", description="group whose members may ask for signatures; default: only the own user"
    )
    signer_app_socket: Path | None = None
    signer_app_group: str = Field(
        "", description="group whose members may ask for JWTs of GitHub Apps, and nothing else"
    )
    token_uri: str = Field(
        "", description="RFC 7512 URI with module-path; default: embedded SoftHSM"
    )
    pin_file: Path | None = None
    token_environment: tuple[str, ...] = Field(
        (), description="names of the environment variables that the PKCS#11 module reads"
    )
    token_network: bool = Field(
        default=False, description="the PKCS#11 module needs the network or helper programs"
    )
    signer_sessions: int = Field(2, ge=1, le=64, description="session processes on the token")
    secrets_key: Path | None = Field(
        None, description="key that the credentials of build systems are sealed with"
    )
    log_key: Path | None = Field(None, description="Ed25519 key of the log's checkpoints")
    log_origin: str = Field("", description="origin line of the log's checkpoints")
    log_export: Path | None = Field(
        None, description="second location of tiles and checkpoints; default: log, below data"
    )

    timestamp_authorities: tuple[TimestampAuthoritySettings, ...] = ()
    timestamp_budget: float = Field(60.0, gt=0, description="seconds for one batch over all TSAs")

    authenticode_roots: Path | None = Field(
        None, description="PEM file of the roots that <authenticode-verify> trusts"
    )
    authenticode_timestamp_roots: Path | None = Field(
        None, description="the same for time stamp authorities; default: authenticode_roots"
    )

    worker_jobs: int = Field(
        4, ge=1, le=256, description="requests that one worker works on at once"
    )
    children: int = Field(0, ge=0, le=256, description="format children at once; 0: one per core")
    lease_seconds: float = Field(20.0, gt=1)
    max_attempts: int = Field(5, ge=1)
    require_confinement: bool = Field(
        default=False, description="refuse to work where the kernel cannot confine a child"
    )
    max_upload_bytes: int = Field(8 << 30, ge=1)
    max_inflated_bytes: int = Field(64 << 30, ge=1)
    max_members: int = Field(200_000, ge=1)
    max_depth: int = Field(8, ge=1, le=32)
    build_system_hosts: tuple[str, ...] = Field(
        (), description="hosts of build systems in the own network, also without TLS"
    )
    retrieval_hosts: tuple[str, ...] = Field((), description="hosts artifacts may be fetched from")
    webhook_hosts: tuple[str, ...] = Field(
        (),
        description="hosts in the own network that outgoing webhooks may go to, also without TLS",
    )
    retrieval_internal_hosts: tuple[str, ...] = Field(
        (),
        description="hosts and networks (CIDR) of the own network that artifacts may be fetched "
        "from besides; named hosts also without TLS",
    )
    retrieval_seconds: float = Field(3600.0, gt=0, description="wall clock for one download")
    request_seconds: float = Field(3600.0, gt=0, description="wall clock for one signing attempt")

    mail_server: str = Field(
        "",
        description="smtps://[user@]host[:465], smtp://[user@]host[:587] (STARTTLS), or "
        "smtp+plain://host[:25] for a relay in the own network; empty: no mail is sent",
    )
    mail_password_file: Path | None = None
    mail_from: str = Field("", description="the sender; default: sealwright@ the server's host")

    clamd: str = Field(
        "", description="unix:/path or tcp://host:port of clamd, for policies that scan for malware"
    )
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = "info"

    @field_validator("retrieval_internal_hosts")
    @classmethod
    def _check_internal_hosts(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for one in given:
            if "/" in one:
                network = ipaddress.ip_network(one)  # its ValueError says what is wrong
                shared = isinstance(network, ipaddress.IPv4Network) and network.subnet_of(_SHARED)
                if not network.is_private and not shared:
                    message = f"{one} is not a network of private addresses"
                    raise ValueError(message)
            elif not _HOST.fullmatch(one):
                message = f"{one!r} is neither a host name, an address nor a network"
                raise ValueError(message)
        return given

    @property
    def url(self) -> str:
        """The address that users see, without a trailing slash."""
        return (self.external_url or f"http://{self.host}:{self.port}").rstrip("/")

    @property
    def database(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite:///{self.data / 'sealwright.sqlite3'}"

    @property
    def signer_database(self) -> str:
        """The database's URL with the signer's role."""
        return self.signer_database_url or self.database

    @property
    def redis(self) -> str:
        """The queue's URL."""
        return self.redis_url or f"unix://{self.data / 'run' / 'redis.sock'}"

    @property
    def artifacts(self) -> str:
        """The artifact store's URL."""
        return self.artifact_store or f"file://{self.data / 'artifacts'}"

    @property
    def spool_folder(self) -> Path:
        """Scratch space of the worker and its children."""
        return self.spool or self.data / "spool"

    @property
    def socket(self) -> Path:
        """The signer's socket."""
        return self.signer_socket or self.data / "run" / "signer.sock"

    @property
    def app_socket(self) -> Path:
        """The signer's socket for JWTs of GitHub Apps."""
        return self.signer_app_socket or self.socket.with_name("app.sock")

    @property
    def token_folder(self) -> Path:
        """Where the embedded SoftHSM keeps its token."""
        return self.data / "token"

    @property
    def log_folder(self) -> Path:
        """Where the worker copies the log's tiles and checkpoints."""
        return self.log_export or self.data / "log"

    @property
    def checkpoint_key(self) -> Path:
        """The log's Ed25519 private key."""
        return self.log_key or self.data / "log.key"

    @property
    def vault_key(self) -> Path:
        """The key that credentials in the database are sealed with; made on first use."""
        return self.secrets_key or self.data / "secrets.key"

    @property
    def origin(self) -> str:
        """The origin line of the log: names the log for good, so it never follows the port."""
        return self.log_origin or "sealwright.local/log"


def load(file: Path | None = None, **overrides: Any) -> Settings:
    """Read the settings.

    Order, later wins: defaults, the TOML file (``SEALWRIGHT_CONFIG`` or `file`), environment
    variables ``SEALWRIGHT_<FIELD>``, `overrides` that are not None.

    Raises:
        ConfigurationError: unreadable file, unknown or malformed setting; names all of them.
    """
    values: dict[str, Any] = {"data": default_data_folder()}
    named = file or (
        Path(os.environ["SEALWRIGHT_CONFIG"]) if "SEALWRIGHT_CONFIG" in os.environ else None
    )
    if named is not None:
        values |= _read_toml(named)
    for name, field in Settings.model_fields.items():
        text = os.environ.get(f"SEALWRIGHT_{name.upper()}")
        if text is not None:
            values[name] = _from_environment(text, str(field.annotation))
    values |= {name: value for name, value in overrides.items() if value is not None}
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'settings'}: {fault['msg']}"
            for fault in error.errors()
        )
        message = f"The settings are not valid: {faults}."
        raise ConfigurationError(
            message, advice="See docs/settings.md for every setting."
        ) from None
    return settings.model_copy(update={"data": settings.data.expanduser().absolute()})


def default_data_folder() -> Path:
    """``$XDG_DATA_HOME/sealwright`` (XDG Base Directory Specification), else below the home."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "sealwright"


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"The settings file {file} cannot be read: {error.strerror}."
        raise ConfigurationError(message, advice="Give --config or SEALWRIGHT_CONFIG.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"The settings file {file} is not valid TOML: {error}."
        raise ConfigurationError(message) from None


def _from_environment(text: str, annotation: str) -> Any:
    """Tuples are given as comma-separated words, or as TOML arrays where items are tables."""
    if not annotation.startswith("tuple"):
        return text
    if text.lstrip().startswith("["):
        try:
            return tuple(tomllib.loads(f"value = {text}")["value"])
        except tomllib.TOMLDecodeError as error:
            message = f"A SEALWRIGHT_ variable is not a valid TOML array: {error}."
            raise ConfigurationError(message) from None
    return tuple(word.strip() for word in text.split(",") if word.strip())
