"""What a hub is told when it opens. The server reads files and the environment; the core receives these values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from contextdna.values.ids import ProjectId
from contextdna.values.language import Language
from contextdna.values.level import Level
from contextdna.values.memory import MEMORY_TYPES


class ReadAudit(StrEnum):
    """When successful reads are audited; denials and writes always are, at once."""

    BACKGROUND = "background"
    WAIT = "wait"
    OFF = "off"


class BelowGate(StrEnum):
    """What recording PROCEED below a gate does."""

    WARN = "warn"
    REFUSE = "refuse"


class EmbedderKind(StrEnum):
    """What turns texts into vectors, to search by meaning."""

    NONE = "none"
    WORDLLAMA = "wordllama"
    OPENAI = "openai"
    FASTEMBED = "fastembed"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what one call may carry."""

    content_bytes_max: int = 10 * 1024 * 1024
    metadata_bytes_max: int = 64 * 1024
    artifact_bytes_max: int = 64 * 1024 * 1024
    batch_max: int = 100
    tags_max: int = 32
    tag_chars_max: int = 64
    hits_max: int = 100
    answer_tokens_max: int = 20_000
    compress_over_bytes: int = 4096
    indexed_tokens_max: int = 20_000
    query_chars_max: int = 8_000


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How hits are chosen and mixed."""

    language: Language = Language.ENGLISH
    """The language of texts whose words leave doubt; the others are read in the language they are found to be in."""
    lexical_weight: float = 0.85
    coverage_weight: float = 0.9
    """What holding all of a question's words adds to a record's own score, as a share of it."""
    context_weight: float = 0.55
    """How much of a record's score the next record beside it gets; those farther off get less."""
    context_window_s: float = 3600.0
    """Memories are beside each other while no more time lies between them.

    Source: chosen, for a piece of work; the data that the other weights were measured with have no such gaps.
    """
    link_weight: float = 0.3
    """How much of a record's score a linked one gets.

    Source: chosen, about half of what a neighbour gets: links are rarer, and say less of where an answer stands.
    """
    importance_weight: float = 0.10
    """Source: docs/decisions/0021: given by chance it costs nothing up to 0.15, two points of recall at 0.3."""
    recency_weight: float = 0.05
    """Source: docs/decisions/0021: ages given by chance cost nothing up to 0.05, half a point of recall at 0.1."""
    recency_half_life_days: float = 30.0
    """Source: chosen, a month of work; the weight of recency bounds what it can do."""
    period_weight: float = 0.10
    """What being of the time that a question states adds to a score.

    Source: docs/decisions/0021: helps a little where texts hold their dates, more where they do not.
    """
    name_weight: float = 0.03
    """What being of an agent that a question names adds to a score.

    Source: docs/decisions/0021: helps where those who are asked about speak; small, as ids are common words, too.
    """
    grant_weight: float = 0.02
    """What having been shared with the reader adds to a score.

    Source: docs/decisions/0021: given by chance it costs nothing at 0.02.
    """
    matches_max: int = 400
    """A query's rarest words each decide what is found while together they match this many records."""
    found_max: int = 1_000
    """Records that are found and scored at once; of more that match, the last that arrived."""
    matches_wide_max: int = 20_000
    """The same, when the rarest words and the filters leave less than a page."""
    query_terms_max: int = 64
    """A query's rarest words that take part, its quoted phrases counted in; the others of a long one are left out."""
    candidates_max: int = 100
    """Best matches that are mixed with importance and recency, a block of this size at a time."""
    rankings_held_max: int = 200
    """Rankings of each project that a process holds, for questions that are asked again; 0 holds none."""
    embedder: EmbedderKind = EmbedderKind.NONE
    embedding_model: str = ""
    """The endpoint's or FastEmbed's name of the model; empty for a usual one."""
    embedding_url: str = ""
    """Where ``/embeddings`` of an OpenAI-compatible endpoint is."""
    embedding_key: str = field(default="", repr=False)
    semantic_weight: float = 0.2
    """Weight of nearness in meaning, of a whole of 1 with that of the words."""
    token_file: Path | None = None
    """A ``.tiktoken`` file to count a model's tokens with; None estimates them, erring high."""


@dataclass(frozen=True, slots=True)
class RetentionSettings:
    """When records end."""

    restore_window_days: float = 30.0
    idle_days: float = 30.0
    idempotency_days: float = 7.0
    event_days: float = 7.0
    sweep_interval_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Gates:
    """A project's own gates; None leaves the default of all projects."""

    confidence: float | None = None
    consensus: float | None = None


@dataclass(frozen=True, slots=True)
class GatesInForce:
    """What confidence and consensus must reach in a project."""

    confidence: float
    consensus: float


@dataclass(frozen=True, slots=True)
class WorkSettings:
    """Sessions, delegations and loops."""

    session_ttl_s: float = 24 * 3600.0
    session_ttl_max_s: float = 30 * 24 * 3600.0
    state_ttl_s: float = 24 * 3600.0
    """How long a key of a session's working state lives that names no time of its own."""
    delegation_depth_max: int = 8
    sessions_nested_max: int = 500
    """How many active sessions may be nested, however deep, in one that was begun in none: they end together."""
    confidence_gate: float = 0.75
    consensus_gate: float = 0.90
    gates: Mapping[ProjectId, Gates] = field(default_factory=dict)
    """Gates of single projects, beside the defaults above."""
    proceed_below_gate: BelowGate = BelowGate.WARN
    coordinator_silence_s: float = 300.0
    """An agent that is waited for and has not been heard of for so long is taken as gone."""
    wait_max_s: float = 3600.0

    def gates_of(self, project_id: ProjectId) -> GatesInForce:
        """Give a project's gates: its own, else the defaults."""
        own = self.gates.get(project_id, Gates())
        return GatesInForce(
            self.confidence_gate if own.confidence is None else own.confidence,
            self.consensus_gate if own.consensus is None else own.consensus,
        )


@dataclass(frozen=True, slots=True)
class PostgresSettings:
    """How PostgreSQL is talked to, where ``HubSettings.database`` names it."""

    pool_min: int = 1
    """Connections that stay open."""
    pool_max: int = 10
    """Connections at most, of each server process."""
    acquire_timeout_s: float = 10.0
    """How long to wait for a connection in use; for a new one ten seconds at most."""
    statement_timeout_s: float = 15.0
    """How long a statement may take, waiting for locks included."""
    replicas: tuple[str, ...] = field(default=(), repr=False)
    """URLs of streaming standbys that may answer reads."""
    replica_lag_max_s: float = 1.0
    """How old what other processes wrote may be in such answers; 0: not at all."""


@dataclass(frozen=True, slots=True)
class S3Settings:
    """How S3 is talked to, where ``HubSettings.artifacts`` names a bucket. Credentials come from the SDK's chain."""

    connect_timeout_s: float = 2.0
    read_timeout_s: float = 10.0
    """How long S3 may be silent within an answer; each request is repeated once."""
    deadline_s: float = 30.0
    """How long a call may take in all; one that moves many bytes has a second more for each MiB."""
    threads_max: int = 16
    """Calls at the same time, of each server process."""
    multipart_over_bytes: int = 16 * 1024 * 1024
    """What is larger goes up in parts."""
    part_bytes: int = 8 * 1024 * 1024
    checksum: str = "sha256"
    """What S3 checks bytes by that arrive: ``sha256``, or ``md5`` for servers that refuse it."""
    encryption: str = ""
    """Server-side encryption: ``AES256`` or ``aws:kms``; empty: as the bucket does it."""
    kms_key_id: str = ""
    presign_s: int = 3600
    """How long a link to an artifact is good for."""
    link_endpoint_url: str = ""
    """How clients reach S3, where that is not how the server does."""
    import_prefix: str = ""
    """Where in the own bucket objects lie that may be attached; empty: nowhere."""
    allowed_sources: tuple[str, ...] = ()
    """Where else: ``s3://bucket/prefix/``."""


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """How Redis is talked to, where ``HubSettings.cache`` names it."""

    key_prefix: str = "contextdna"
    """What the names of all our keys and channels begin with; a colon follows."""
    timeout_s: float = 0.25
    """How long an attempt to connect, or to get an answer, may take; there are two. Then Redis counts as away."""
    connections_max: int = 16
    """Connections at most, of each server process; to each node of a cluster."""
    write_behind: bool = False
    """Whether calls answer before Redis is written, once the database is."""


class WhenUnusable(StrEnum):
    """What a server does whose database file cannot be used."""

    REFUSE = "refuse"
    MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class HubSettings:
    """All that ``open_hub`` needs.

    ``data_dir`` ``None`` keeps everything in memory, for tests and trials.
    ``master_key`` (base64 or hex, 32 bytes; of several the last is current) wins over the key file
    ``data_dir/master.key``.
    ``database`` is the URL of a PostgreSQL database, with a password perhaps; empty for SQLite in ``data_dir``.
    ``cache`` is the URL of a Redis server or cluster, with a password perhaps; empty for a cache in each process.
    ``artifacts`` is ``s3://bucket/prefix?endpoint_url=…&region=…``; empty for files in ``data_dir``.
    """

    data_dir: Path | None = None
    projects: tuple[ProjectId, ...] = (ProjectId("default"),)
    master_key: str = field(default="", repr=False)
    os_keyring: bool = False
    default_level: Level = Level.PROJECT
    memory_types: tuple[str, ...] = MEMORY_TYPES
    read_audit: ReadAudit = ReadAudit.BACKGROUND
    limits: Limits = Limits()
    search: SearchSettings = SearchSettings()
    retention: RetentionSettings = RetentionSettings()
    work: WorkSettings = WorkSettings()
    database: str = field(default="", repr=False)
    postgres: PostgresSettings = PostgresSettings()
    cache: str = field(default="", repr=False)
    redis: RedisSettings = RedisSettings()
    artifacts: str = ""
    s3: S3Settings = S3Settings()
    spool: bool = True
    """Whether writes wait in ``data_dir`` while PostgreSQL or S3, where they are set, is away."""
    spool_bytes_max: int = 256 * 1024 * 1024
    """What may wait for PostgreSQL, of each server process."""
    write_ahead: bool = False
    """Whether the database is in memory, and a write-ahead log in ``data_dir`` keeps it; not with ``database``."""
    when_unusable: WhenUnusable = WhenUnusable.REFUSE
    """What becomes of an SQLite file that cannot be used: no start, or memory alone, loudly."""
    sqlite_readers: int = 3
    sqlite_busy_timeout_s: float = 30.0
    sqlite_group_max: int = 256
