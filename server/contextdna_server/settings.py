"""The server's settings: command line over environment over file over defaults. Nothing else reads the environment."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from contextdna.errors import SettingsInvalid
from contextdna.values.ids import AgentId, ProjectId
from contextdna.values.language import Language
from contextdna.values.level import LEVELS_BY_LABEL
from contextdna.values.memory import MEMORY_TYPES
from contextdna.values.principal import Principal, Role
from contextdna.values.settings import (
    BelowGate,
    EmbedderKind,
    Gates,
    HubSettings,
    Limits,
    ReadAudit,
    RedisSettings,
    RetentionSettings,
    S3Settings,
    SearchSettings,
    WorkSettings,
)
from contextdna_server.settings_errors import ENV_PREFIX, Sources, explained, near_misses
from contextdna_server.settings_fields import (
    Bytes,
    Count,
    Days,
    Endpoint,
    Few,
    Name,
    Names,
    Rooted,
    Roots,
    Seconds,
    Section,
    Share,
    Texts,
    Weight,
    listed,
)
from contextdna_server.settings_file import find_settings_file, read_settings_file
from contextdna_server.storage_settings import SqliteSection, StorageSection

CONFIG_VARIABLE: Final = "CONTEXTDNA_CONFIG"
_MASTER_KEY_CHARS_MAX: Final = 65_536
_SECRET_VARIABLES: Final = tuple(
    f"{ENV_PREFIX}{name}" for name in ("MASTER_KEY", "SEARCH__EMBEDDING_KEY", "STORAGE__DATABASE", "STORAGE__CACHE")
)
_TEST_PREFIX: Final = "CONTEXTDNA_TEST_"
"""Variables that the project's own tests read."""

_LIMITS: Final = Limits()
_SEARCH: Final = SearchSettings()
_RETENTION: Final = RetentionSettings()
_WORK: Final = WorkSettings()
_HUB: Final = HubSettings()


def default_data_dir() -> Path:
    """Give the data folder of this user."""
    from platformdirs import user_data_dir  # 30 ms, for those who name no folder

    return Path(user_data_dir("contextdna", appauthor=False))


class IdentitySection(Section):
    """Who the caller on stdio is: the local user."""

    agent_id: Name = "local"
    stdio_role: Role = Role.SYSTEM
    team_id: Name = "default"
    swarm_id: Name = "default"


class MemoriesSection(Section):
    """What a memory is when the call does not say."""

    default_level: Literal["private", "team", "swarm", "project", "system"] = "project"
    extra_types: Names = ()


class AuditSection(Section):
    """When successful reads are audited."""

    reads: ReadAudit = _HUB.read_audit


class ArtifactsSection(Section):
    """Where attach_artifact may read local files from."""

    allowed_roots: Roots = ()


class ToolsSection(Section):
    """Which tools are listed."""

    profile: Literal["default", "full"] = "default"


class LimitsSection(Section):
    """Bounds on what one call may carry."""

    content_bytes_max: Bytes = _LIMITS.content_bytes_max
    metadata_bytes_max: Bytes = _LIMITS.metadata_bytes_max
    artifact_bytes_max: Bytes = _LIMITS.artifact_bytes_max
    batch_max: Count = _LIMITS.batch_max
    tags_max: Count = _LIMITS.tags_max
    tag_chars_max: Count = _LIMITS.tag_chars_max
    hits_max: Count = _LIMITS.hits_max
    answer_tokens_max: Count = _LIMITS.answer_tokens_max
    compress_over_bytes: Bytes = _LIMITS.compress_over_bytes
    indexed_tokens_max: Count = _LIMITS.indexed_tokens_max
    query_chars_max: Count = _LIMITS.query_chars_max


class SearchSection(Section):
    """How hits are chosen and mixed."""

    language: Language = _SEARCH.language
    lexical_weight: Weight = _SEARCH.lexical_weight
    coverage_weight: Weight = _SEARCH.coverage_weight
    context_weight: Weight = _SEARCH.context_weight
    context_window_s: Seconds = _SEARCH.context_window_s
    link_weight: Weight = _SEARCH.link_weight
    importance_weight: Weight = _SEARCH.importance_weight
    recency_weight: Weight = _SEARCH.recency_weight
    recency_half_life_days: Days = _SEARCH.recency_half_life_days
    period_weight: Weight = _SEARCH.period_weight
    name_weight: Weight = _SEARCH.name_weight
    grant_weight: Weight = _SEARCH.grant_weight
    matches_max: Count = _SEARCH.matches_max
    found_max: Count = _SEARCH.found_max
    matches_wide_max: Count = _SEARCH.matches_wide_max
    query_terms_max: Count = _SEARCH.query_terms_max
    candidates_max: Count = _SEARCH.candidates_max
    rankings_held_max: Annotated[int, Field(ge=0, le=100_000)] = _SEARCH.rankings_held_max
    embedder: EmbedderKind = _SEARCH.embedder
    embedding_model: str = _SEARCH.embedding_model
    embedding_url: str = _SEARCH.embedding_url
    embedding_key: SecretStr = SecretStr("")
    semantic_weight: Share = _SEARCH.semantic_weight
    token_file: Rooted | None = _SEARCH.token_file

    def to_search_settings(self) -> SearchSettings:
        """Give what the core needs."""
        return SearchSettings(**{**self.model_dump(), "embedding_key": self.embedding_key.get_secret_value()})


class RetentionSection(Section):
    """When records end."""

    restore_window_days: Days = _RETENTION.restore_window_days
    idle_days: Days = _RETENTION.idle_days
    idempotency_days: Days = _RETENTION.idempotency_days
    event_days: Days = _RETENTION.event_days
    sweep_interval_s: Seconds = _RETENTION.sweep_interval_s


class GatesSection(Section):
    """A project's own gates."""

    confidence: Share | None = None
    consensus: Share | None = None


class WorkSection(Section):
    """Sessions, delegations and loops."""

    session_ttl_s: Seconds = _WORK.session_ttl_s
    session_ttl_max_s: Seconds = _WORK.session_ttl_max_s
    state_ttl_s: Seconds = _WORK.state_ttl_s
    delegation_depth_max: Few = _WORK.delegation_depth_max
    sessions_nested_max: Count = _WORK.sessions_nested_max
    confidence_gate: Share = _WORK.confidence_gate
    consensus_gate: Share = _WORK.consensus_gate
    gates: dict[Name, GatesSection] = {}  # noqa: RUF012 - pydantic copies it
    """Gates of single projects, by project id."""
    proceed_below_gate: BelowGate = _WORK.proceed_below_gate
    coordinator_silence_s: Seconds = _WORK.coordinator_silence_s
    wait_max_s: Seconds = _WORK.wait_max_s

    def to_work_settings(self) -> WorkSettings:
        """Give what the core needs."""
        gates = {ProjectId(name): Gates(own.confidence, own.consensus) for name, own in self.gates.items()}
        return WorkSettings(**{**self.model_dump(), "gates": gates})


class HttpSection(Section):
    """The remote server: where it listens, and what it allows."""

    peer_url: str = ""
    """Where other servers of the installation reach this one, when they run on several machines."""
    public_url: str = ""
    """Where clients reach it, such as https://memory.example.org: what proxies put before it."""
    tls_certificate: Rooted | None = None
    tls_key: Rooted | None = None
    anonymous: bool = False
    """Whether callers without a credential act as the local user; on loopback only."""
    json_replies: bool = False
    """Whether calls are always answered as plain JSON: faster, without progress."""
    session_idle_s: Seconds = 1800.0
    drain_s: Seconds = 10.0
    """How long running calls may take to finish when the server is told to end."""
    allowed_hosts: Texts = ()
    """Values of Host that are answered, besides the bound host and that of the public URL; without a port, any port."""
    allowed_origins: Texts = ()
    """Origins of web pages that may call, such as https://app.example.org; a port of * is any."""
    head_timeout_s: Seconds = 10.0
    keep_alive_s: Seconds = 75.0
    body_timeout_s: Seconds = 10.0
    body_bytes_max: Bytes = 4 * 1024 * 1024
    """Largest body; the default is the SDK's."""
    bodies_bytes_max: Bytes = 256 * 1024 * 1024
    """Bodies that are read or at work at the same time, together; of one caller a quarter."""
    write_timeout_s: Seconds = 30.0
    call_timeout_s: Seconds = 300.0
    connections_max: Count = 2000
    trusted_proxies: Texts = ()
    """Addresses of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed."""
    calls_max: Count = 256
    streams_max: Count = 200
    sessions_max: Count = 100
    rate_per_s: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)] = 1000.0
    rate_burst: Count = 2000
    auth_failures_per_min: Count = 60


SigningAlgorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


class ClaimsSection(Section):
    """Where in a token's claims a principal stands: names, with dots between nested ones; empty: nowhere."""

    agent_id: Annotated[str, Field(min_length=1)] = "sub"
    projects: str = ""
    team_id: str = ""
    swarm_id: str = ""
    role: str = ""


class OAuthSection(Section):
    """Whose access tokens the remote server takes beside its own, and what it reads in them."""

    issuer: Endpoint = ""
    """The issuer's identifier, a URL; empty: no tokens but our own."""
    audience: Texts = ()
    """Whom a token must be for; empty: this server's public addresses."""
    jwks_url: Endpoint = ""
    jwks_cache_s: Annotated[Seconds, Field(ge=30)] = 600.0
    jwks_stale_s: Annotated[float, Field(ge=0, le=7 * 86_400, allow_inf_nan=False)] = 3600.0
    """How much longer keys serve while the issuer does not answer."""
    algorithms: Annotated[tuple[SigningAlgorithm, ...], NoDecode, BeforeValidator(listed), Field(min_length=1)] = (
        get_args(SigningAlgorithm)
    )
    leeway_s: Annotated[float, Field(ge=0, le=300, allow_inf_nan=False)] = 30.0
    """How far clocks may be apart."""
    scope_prefix: str = ""
    claims: ClaimsSection = ClaimsSection()
    agent_prefix: str = ""
    default_projects: Names = ()
    """Projects of tokens that have no claim for them."""
    role_max: Role = Role.COORDINATOR
    documentation_url: Endpoint = ""


class Settings(BaseSettings):
    """All settings. Make them with ``load_settings``."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", env_ignore_empty=True, extra="forbid", frozen=True
    )

    data: Rooted = Field(default_factory=default_data_dir)
    """The one folder that holds the database, the artifacts and the key file."""
    projects: Annotated[Names, Field(min_length=1)] = ("default",)
    master_key: SecretStr = SecretStr("")
    """32 bytes in base64 or hex; of several between commas the last is current. Wins over the key file."""
    master_key_file: Rooted | None = None
    """A file with that text, which a service manager or a container's secrets put there. ``load_settings`` reads it."""
    os_keyring: bool = False
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "WARNING"
    identity: IdentitySection = IdentitySection()
    memories: MemoriesSection = MemoriesSection()
    audit: AuditSection = AuditSection()
    artifacts: ArtifactsSection = ArtifactsSection()
    tools: ToolsSection = ToolsSection()
    limits: LimitsSection = LimitsSection()
    search: SearchSection = SearchSection()
    retention: RetentionSection = RetentionSection()
    work: WorkSection = WorkSection()
    storage: StorageSection = StorageSection()
    sqlite: SqliteSection = SqliteSection()
    http: HttpSection = HttpSection()
    oauth: OAuthSection = OAuthSection()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the base class's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the command line before the environment and the file behind it."""
        given = init_settings.init_kwargs if isinstance(init_settings, InitSettingsSource) else {}
        layers = [InitSettingsSource(settings_cls, given.get(name, {})) for name in ("command_line", "file")]
        return layers[0], env_settings, layers[1]

    def masked(self) -> dict[str, Any]:
        """Give all settings as JSON values; a secret that is set shows as stars."""
        return self.model_dump(mode="json")

    def to_hub_settings(self) -> HubSettings:
        """Give what the core needs."""
        return HubSettings(
            data_dir=None if self.storage.is_in_memory and not self.storage.write_ahead else self.data,
            projects=tuple(ProjectId(name) for name in self.projects),
            master_key=self.master_key.get_secret_value(),
            os_keyring=self.os_keyring,
            default_level=LEVELS_BY_LABEL[self.memories.default_level],
            memory_types=tuple(dict.fromkeys((*MEMORY_TYPES, *self.memories.extra_types))),
            read_audit=self.audit.reads,
            limits=Limits(**self.limits.model_dump()),
            search=self.search.to_search_settings(),
            retention=RetentionSettings(**self.retention.model_dump()),
            work=self.work.to_work_settings(),
            database=self.storage.postgres_url,
            write_ahead=self.storage.write_ahead,
            postgres=self.storage.postgres.to_postgres_settings(),
            cache=self.storage.cache.get_secret_value(),
            redis=RedisSettings(**self.storage.redis.model_dump()),
            artifacts=self.storage.artifacts,
            s3=S3Settings(**self.storage.s3.model_dump()),
            spool=self.storage.spool,
            spool_bytes_max=self.storage.spool_bytes_max,
            when_unusable=self.storage.when_unusable,
            sqlite_readers=self.sqlite.readers,
            sqlite_busy_timeout_s=self.sqlite.busy_timeout_s,
            sqlite_group_max=self.sqlite.group_max,
        )

    def to_principal(self) -> Principal:
        """Give the local user that calls on stdio."""
        return Principal(
            AgentId(self.identity.agent_id),
            tuple(ProjectId(name) for name in self.projects),
            self.identity.team_id,
            self.identity.swarm_id,
            self.identity.stdio_role,
        )


def environment() -> Mapping[str, str]:
    """Give the process's environment to those who need it beyond the settings."""
    return dict(os.environ)


def settings_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Give the variables that set something and are no secret, without those of the data folder and settings file."""
    named = (CONFIG_VARIABLE, f"{ENV_PREFIX}DATA", *_SECRET_VARIABLES)
    given = {name: value for name, value in environ.items() if value and name.upper() not in named}
    return {
        name: value
        for name, value in given.items()
        if name.upper().startswith(ENV_PREFIX) and not name.upper().startswith(_TEST_PREFIX)
    }


def secret_variables(environ: Mapping[str, str]) -> list[str]:
    """Name the variables that hold a secret."""
    return [name for name, value in environ.items() if value and name.upper() in _SECRET_VARIABLES]


def settings_file(config: Path | None) -> Path | None:
    """Give the settings file that is named, by the command line or else by CONTEXTDNA_CONFIG."""
    if config is not None:
        return config
    named = os.environ.get(CONFIG_VARIABLE)
    return Path(named).expanduser() if named else None


def load_settings(
    command_line: Mapping[str, Any] | None = None, *, config: Path | None = None, more_projects: Iterable[str] = ()
) -> Settings:
    """Read all sources and give the settings.

    Args:
        command_line: What the command line sets, nested as in the file.
        config: The settings file; without it CONTEXTDNA_CONFIG, or the one in the data folder, if any.
        more_projects: Projects to add to those that the sources name.

    Raises:
        SettingsInvalid: A source cannot be read, or holds what is not a setting or not a value of it.
    """
    given = dict(command_line or {})
    _refuse_unknown_variables(os.environ)
    path = _settings_file(given, config)
    document = read_settings_file(path, os.environ) if path else {}
    layers: dict[str, Any] = {"command_line": given, "file": document}
    try:
        settings = Settings(**layers)
        added = (*settings.projects, *more_projects)
        if added != settings.projects:
            given["projects"] = tuple(dict.fromkeys(added))
            settings = Settings(**layers)
    except ValidationError as error:
        raise explained(error, Settings, Sources(given, os.environ, document, path)) from None
    except SettingsError as error:  # a variable for a whole section, such as CONTEXTDNA_IDENTITY, is not JSON
        raise SettingsInvalid(
            f"the environment variables hold a section that is not a JSON object: {error}",
            code="setting_invalid",
            hint=f"Set its fields one by one, for example {ENV_PREFIX}IDENTITY__AGENT_ID.",
        ) from None
    if settings.master_key_file is not None and not settings.master_key.get_secret_value():
        return settings.model_copy(update={"master_key": SecretStr(_read_master_key(settings.master_key_file))})
    return settings


def _read_master_key(path: Path) -> str:
    """Read a file that someone else keeps the master key in; without it nothing else is taken in its place.

    Raises:
        SettingsInvalid: ``master_key_file_unreadable``.
    """
    try:
        with path.open(encoding="ascii") as file:
            text = file.read(_MASTER_KEY_CHARS_MAX)
    except OSError as error:
        problem = error.strerror or "not readable"
    except UnicodeDecodeError:
        problem = "it is no text"
    else:
        if text.strip():
            return text
        problem = "it is empty"
    raise SettingsInvalid(
        f"master_key_file {path} cannot be used: {problem}",
        code="master_key_file_unreadable",
        hint="Let it hold 32 random bytes as 64 hex digits, readable by this user alone.",
    )


def _settings_file(given: Mapping[str, Any], config: Path | None) -> Path | None:
    if named := settings_file(config):
        return named
    data = given.get("data") or os.environ.get(f"{ENV_PREFIX}DATA")
    return find_settings_file(Path(data).expanduser() if data else default_data_dir())


def _refuse_unknown_variables(environ: Mapping[str, str]) -> None:
    known = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields} | {CONFIG_VARIABLE}
    for variable in environ:
        name = variable.upper().partition("__")[0]
        if name.startswith(ENV_PREFIX) and not name.startswith(_TEST_PREFIX) and name not in known:
            raise SettingsInvalid(
                f"the environment variable {variable} is not a setting",
                code="setting_unknown",
                hint=near_misses(name, known) or "Unset it; see the settings' reference.",
            )
