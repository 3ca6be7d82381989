"""What clouds, interfaces of others, hardware, power and people cost. US dollars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from monitoring.plan.sources import Figure, Source

HOURS_PER_MONTH = 730


@dataclass(frozen=True, slots=True)
class CloudPrice:
    """On demand, without commitment."""

    provider: str
    accelerator: str
    usd_per_hour: float
    """Of an instance."""
    devices: int
    """In an instance: it is rented whole."""
    source: Source


@dataclass(frozen=True, slots=True)
class ApiPrice:
    """What somebody else's interface takes for the tokens."""

    model: str
    provider: str
    prompt_per_million: float
    answer_per_million: float
    billion_parameters: float | None
    """Of an open model, so that it is shown beside models of its size; None: always shown."""
    source: Source


_RECEIPTS = "github.com/datareceipts/data-receipts, 109-gpu-pricing"
_SILYBENCH = Source("github.com/tgarg01/silybench-data, gpu_prices.csv", "2026-09-25")
_SCREENER = Source("github.com/renshuBTC/compute-screener, gpu_providers_latest.csv", "2026-10-24")
_LAMBDA = Source("lambda.ai/instances through github.com/api-evangelist/lambda-labs", "2026-09-20")

CLOUDS: tuple[CloudPrice, ...] = (
    CloudPrice("AWS p4d.24xlarge", "a100-40gb", 21.957642, 8, Source(_RECEIPTS, "2026-11-09")),
    CloudPrice("Lambda 8x", "a100-40gb", 8 * 1.99, 8, _LAMBDA),
    CloudPrice("AWS p4de.24xlarge", "a100-80gb", 27.44705, 8, Source(_RECEIPTS, "2026-11-09")),
    CloudPrice("Lambda 8x", "a100-80gb", 8 * 2.79, 8, _LAMBDA),
    CloudPrice("RunPod Secure", "a100-80gb", 1.79, 1, Source(_RECEIPTS, "2026-11-09")),
    CloudPrice("AWS p5.48xlarge", "h100", 55.04, 8, Source(_RECEIPTS, "2026-11-09")),
    CloudPrice("Azure ND96isr_H100_v5", "h100", 8 * 12.29, 8, Source(_RECEIPTS, "2026-11-09")),
    CloudPrice("Lambda 1x", "h100", 4.29, 1, _SILYBENCH),
    CloudPrice("Nebius", "h100", 4.50, 1, _SCREENER),
    CloudPrice("RunPod Secure", "h100", 3.99, 1, Source(_RECEIPTS, "2026-11-09")),
    CloudPrice("AWS p5en.48xlarge", "h200", 63.296, 8, Source("github.com/dstackai/dstack/pull/4110", "2026-08-06")),
    CloudPrice("Nebius", "h200", 5.40, 1, _SCREENER),
    CloudPrice("Lambda 8x", "b200", 8 * 6.69, 8, _LAMBDA),
    CloudPrice(
        "RunPod Secure", "b200", 6.79, 1, Source("huggingface.co/datasets/privum/ai-compute-prices", "2026-08-19")
    ),
    CloudPrice("AWS g6e.xlarge", "l40s", 1.861, 1, Source("modal.com/blog/nvidia-l40s-price-article", "2025-08-12")),
    CloudPrice("Vultr", "l40s", 1.67, 1, Source("modal.com/blog/nvidia-l40s-price-article", "2025-08-12")),
)


def _listed(page: str) -> Source:
    return Source(f"{page}, as LiteLLM 1.110.2 lists it", "2026-11")


_OPENAI = _listed("developers.openai.com/api/docs/pricing")
_BEDROCK = _listed("AWS price list of Bedrock, us-east-1")
_DEEPINFRA = _listed("deepinfra.com/pricing")
_TOGETHER = _listed("api.together.ai/v1/models")
_MISTRAL = _listed("mistral.ai/pricing")

APIS: tuple[ApiPrice, ...] = (
    ApiPrice("gpt-5-nano", "OpenAI", 0.05, 0.40, None, _OPENAI),
    ApiPrice("gpt-4o-mini", "OpenAI", 0.15, 0.60, None, _OPENAI),
    ApiPrice("gpt-5.4-mini", "OpenAI", 0.75, 4.50, None, _OPENAI),
    ApiPrice("claude-haiku-4-5", "Anthropic", 1.00, 5.00, None, _listed("platform.claude.com/docs, pricing")),
    ApiPrice("gemini-2.5-flash-lite", "Google", 0.10, 0.40, None, _listed("ai.google.dev/gemini-api/docs/pricing")),
    ApiPrice("ministral-3b", "Mistral", 0.10, 0.10, 3, _MISTRAL),
    ApiPrice("ministral-8b", "Mistral", 0.15, 0.15, 8, _MISTRAL),
    ApiPrice("Llama 3.1 8B Turbo", "DeepInfra", 0.02, 0.04, 8, _DEEPINFRA),
    ApiPrice("Llama 3.1 8B Turbo", "Together", 0.18, 0.18, 8, _TOGETHER),
    ApiPrice("Llama 3.1 8B", "AWS Bedrock", 0.22, 0.22, 8, _BEDROCK),
    ApiPrice("Llama 3.3 70B Turbo", "DeepInfra", 0.10, 0.32, 70, _DEEPINFRA),
    ApiPrice("Llama 3.3 70B", "AWS Bedrock", 0.72, 0.72, 70, _BEDROCK),
    ApiPrice("Llama 3.3 70B Turbo", "Together", 1.04, 1.04, 70, _TOGETHER),
)

# A whole server's price by the device: what it stands in is part of what is bought.
SERVERS: Mapping[str, Figure] = {
    "h100": Figure(
        310_000 / 8, "USD a device",
        Source("docs.google.com/spreadsheets/d/1Ft3RbeZ…: a node of 8 with its network, by a quotation", "2024-08"),
    ),
    "h200": Figure(
        32_000 * 310 / 240, "USD a device",
        Source("huggingface.co/hardware/h200: $32k a card, and the rest's share as in the H100's node", "2026-11"),
    ),
}  # fmt: skip

ELECTRICITY = Figure(0.0815, "USD/kWh", Source("US industrial average of 2024, EIA through statista.com", "2024"))
PUE = Figure(
    1.54, "of the servers' power", Source("Uptime Institute Global Data Center Survey 2025, weighted mean", "2025-07")
)
SERVER_POWER = Figure(
    10.2 / (8 * 0.7), "of the devices' power",
    Source("supercluster.blog: a DGX H100, 10.2 kW at most for 8 devices of 700 W", "2024"),
)  # fmt: skip
WAGE = Figure(
    90_520, "USD a year",
    Source("US Bureau of Labor Statistics, median of network and computer systems administrators", "2022-05"),
)  # fmt: skip
WAGE_SHARE = Figure(
    0.701, "of what an employer pays",
    Source("US Bureau of Labor Statistics, Employer Costs for Employee Compensation, private industry", "2019-12"),
)  # fmt: skip
