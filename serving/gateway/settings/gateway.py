"""Settings of the gateway."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from serving.gateway.fields.lists import NEVER_ADDED
from serving.gateway.settings.admission import AdmissionSettings
from serving.gateway.settings.engines import CircuitSettings, EngineServiceSettings, EngineTlsSettings
from serving.gateway.settings.failover import FailoverSettings
from serving.gateway.settings.routing import ModelSettings, RoutingSettings
from serving.http.settings import CorsSettings, HttpSettings, TlsSettings


def _may_be_added(name: str) -> str:
    if not _FIELD_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a field's name")
    if name in NEVER_ADDED:
        raise ValueError(f"{name!r} is set by the gateway, or would get round its guard: clients may not set it")
    return name


EngineField = Annotated[str, AfterValidator(_may_be_added)]
_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z_][A-Za-z0-9_.-]*)?")


class GatewaySettings(BaseModel):
    """Where the gateway listens, which engines it fronts, and how long it waits for them."""

    model_config = ConfigDict(extra="forbid")

    host: str = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0 for every interface.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    engine_urls: list[str] = Field(
        default_factory=list,
        description="Base URLs of OpenAI-compatible engines, such as http://127.0.0.1:8100.",
    )
    engine_api_key: SecretStr | None = Field(
        default=None,
        description="Sent to the engines as a bearer token, where they ask for one. `signet engine` asks for it "
        "where it is set; `signet serve` makes one at each start where it is not.",
    )
    engine_dns: list[str] = Field(
        default_factory=list,
        description="URLs whose host name is looked up again and again; every address it has is an engine, as for a "
        "headless Service: http://vllm.models.svc:8100.",
    )
    engine_dns_interval_s: float = Field(default=5.0, gt=0, description="Seconds between two such look-ups.")
    engine_services: list[EngineServiceSettings] = Field(
        default_factory=list,
        description="Kubernetes Services whose EndpointSlices are watched: `[NAMESPACE/]NAME[:PORT]`, or a mapping "
        "with `service` (or `label_selector`), `namespace`, `port`, `scheme`, `server_name`.",
    )
    kubeconfig: Path | None = Field(
        default=None, description="Credentials for Kubernetes; default: the pod's own, else ~/.kube/config."
    )
    engine_tls: EngineTlsSettings = EngineTlsSettings()
    circuit: CircuitSettings = CircuitSettings()
    failover: FailoverSettings = FailoverSettings()
    admission: AdmissionSettings = AdmissionSettings()
    routing: RoutingSettings = RoutingSettings()
    models: dict[str, ModelSettings] = Field(
        default_factory=dict,
        description="Model names of your own: `NAME: MODEL`, or a mapping with `target`, `engines`, `canary` and "
        "`shadow`; see [routing](../guides/routing.md).",
    )
    model_folders: dict[str, Path] = Field(
        default_factory=dict,
        description="Served model name to a folder with its tokenizer: control tokens and detection need it.",
    )
    max_body_bytes: int = Field(
        default=8 * 1024 * 1024, ge=1024, description="Larger request bodies are refused with 413."
    )
    max_other_body_bytes: int = Field(
        default=2 * 1024 * 1024,
        ge=1024,
        description="The same for what is no question to a model: `/v1/moderations`, `/v1/provenance/…`, "
        "`/admin/…`. Detection with `top_logprobs` of very long answers needs more.",
    )
    max_choices: int = Field(
        default=128,
        ge=1,
        description="Most answers that one request may ask for: its prompts times `n`, or times `best_of` where that "
        "is more.",
    )
    max_answer_tokens: int = Field(
        default=2_000_000,
        ge=1,
        description="Most tokens that one request may ask for: answers times `max_tokens`, times one more than the "
        "log-probabilities asked for of each.",
    )
    unknown_fields: Literal["ignore", "refuse", "pass"] = Field(
        default="ignore",
        description="What happens to fields of a request that the [lists](api.md#fields) do not have: left out and "
        "named in `X-Signet-Ignored-Fields`, refused, or passed to the engine. Dangerous ones are refused in any case.",
    )
    engine_fields: list[EngineField] = Field(
        default_factory=list,
        description="Fields that clients may set besides those of the [lists](api.md#fields), and arguments of engine "
        "plugins: `vllm_xargs.NAME`.",
    )
    media_hosts: list[str] = Field(
        default_factory=list,
        description="Hosts from which engines may fetch pictures, sound and files: `host`, or `*.domain` for those "
        "below it. Media sent as `data:` need none.",
    )
    bind_forced_tools: bool = Field(
        default=True,
        description="Whether the arguments of a tool that a request forces (`tool_choice`) keep to the tool's schema, "
        "also without `strict`.",
    )
    shared_cache: list[str] = Field(
        default_factory=list,
        description="Tenants that find each other's prompts in the engines' prefix cache, and so share its time; `*`: "
        "all. Each other tenant's part of the cache is its own.",
    )
    max_answer_bytes: int = Field(
        default=32 * 1024 * 1024,
        ge=64 * 1024,
        description="Larger answers that are not streamed end in 502, as do streams that the policy keeps back whole. "
        "No more than half of `gateway.http.max_buffered_bytes` counts.",
    )
    prompts: Path | None = Field(
        default=None,
        description="Folder with prompt templates, one YAML file each, read again when a file changes; `builtin`: the "
        "examples that come with Signet.",
    )
    max_embedding_inputs: int = Field(
        default=2048, ge=1, description="Most texts in one request for embeddings, as OpenAI's."
    )
    max_connections_per_engine: int = Field(
        default=16384, ge=1, description="Open connections to one engine at the most."
    )
    connect_timeout_s: float = Field(
        default=5.0, gt=0, description="Seconds to wait for an engine to accept a connection."
    )
    first_byte_timeout_s: float = Field(
        default=600.0,
        gt=0,
        description="Seconds to wait for the first byte of an answer, the engine's queue included.",
    )
    idle_timeout_s: float = Field(
        default=120.0, gt=0, description="Seconds of silence after which a stream counts as dead."
    )
    probe_interval_s: float = Field(default=1.0, gt=0, description="Seconds between two health probes of an engine.")
    probe_timeout_s: float = Field(
        default=3.0, gt=0, description="Seconds after which a health probe is missed; two in a row, and it has failed."
    )
    load_interval_s: float = Field(
        default=2.0, gt=0, description="Seconds between two readings of an engine's load from its /metrics."
    )
    workers: int = Field(
        default=1, ge=1, le=64, description="Worker processes of one gateway; each takes a core when it is busy."
    )
    reload_interval_s: float = Field(
        default=2.0,
        ge=0,
        description="Seconds between two looks at the settings file and the certificates, whose changes are then "
        "taken over; 0: only on SIGHUP.",
    )
    drain_delay_s: float = Field(
        default=0.0,
        ge=0,
        description="Seconds between the first failing /readyz and the end of new connections: time to notice.",
    )
    drain_timeout_s: float = Field(
        default=8.0, ge=0, description="Seconds that open answers may take to finish at shutdown."
    )
    tls: TlsSettings | None = Field(default=None, description="Certificates for HTTPS; left out: plain HTTP.")
    http: HttpSettings = HttpSettings()
    cors: CorsSettings = CorsSettings()

    @property
    def finds_engines(self) -> bool:
        """Whether any engine, or a place to find some, is given."""
        return bool(self.engine_urls or self.engine_dns or self.engine_services)


class ReceiptSettings(BaseModel):
    """Signed statements about answers."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    enabled: bool = True
    """Record a receipt for every complete answer, to be fetched by the request's id."""

    deliver_to: list[str] = []
    """Tenants, and ids of keys, whose answers carry their receipts; `*`: all. The others' do where the request says
    `X-Signet-Receipt: on`."""

    issuer: str = Field(default="signet", pattern=r"^[!-~]{1,200}$")
    """Who signs, as the receipt says it: best the gateway's public URL, below which its keys are published."""

    keys: Path | None = None
    """File with the keys that sign; default: receipt-keys.json in `home`. Made where there is none."""

    when_unusable: Literal["refuse", "run"] = "refuse"
    """When that file can be neither read nor made at the start: `refuse` to start, or `run` without receipts."""
