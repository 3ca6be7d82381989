"""Settings of the guard: what happens to each entity, and what a request may carry."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from serving.guard.classifiers.settings import ClassifiersSettings
from serving.guard.outcome import Action


class EntityActions(BaseModel):
    """What happens to each entity in one direction."""

    model_config = ConfigDict(extra="forbid")

    email_address: Action = Field(default="mask", description="E-mail addresses.")
    phone_number: Action = Field(default="mask", description="Phone numbers.")
    card_number: Action = Field(default="mask", description="Payment card numbers (checksum holds).")
    api_key: Action = Field(default="mask", description="Vendors' API keys, JWTs and bearer tokens.")
    private_key: Action = Field(default="mask", description="Private keys in PEM, OpenSSH and PGP armour.")
    password: Action = Field(default="mask", description="What follows `password=` and the like.")
    connection_string: Action = Field(default="mask", description="Addresses (`scheme://…`) that carry a password.")
    iban: Action = Field(default="mask", description="International bank account numbers (checksum holds).")
    account_number: Action = Field(default="mask", description="Bank and customer accounts, after a word that says so.")
    national_id: Action = Field(default="mask", description="Numbers that states give persons, by checksum or cue.")
    document_number: Action = Field(
        default="mask", description="Passports, licences, visas, after a word that says so."
    )
    medical_number: Action = Field(default="mask", description="Patients' and health insurance numbers, by cue.")
    ip_address: Action = Field(default="allow", description="IP addresses, v4 and v6.")
    birth_date: Action = Field(default="allow", description="Dates after words like *born*.")
    postal_code: Action = Field(default="allow", description="Postal codes, by shape or after a word or state.")
    domain_name: Action = Field(default="allow", description="Names of hosts, such as `www.example.com`.")
    person_name: Action = Field(default="allow", description="Names of persons, by a small model.")
    street_address: Action = Field(default="allow", description="Street addresses and post boxes, by the same model.")

    def masked(self) -> frozenset[str]:
        """The entities to mask, by the names that replace them: `EMAIL_ADDRESS` and so on."""
        return frozenset(name.upper() for name, action in self if action == "mask")

    def acting(self) -> dict[str, Action]:
        """What to do with each entity that is not simply let through, by the names that replace them."""
        return {name.upper(): action for name, action in self if action != "allow"}

    def overridden(self, by: EntityActions) -> EntityActions:
        """These, where `by` says nothing else."""
        return self.model_copy(update={name: getattr(by, name) for name in by.model_fields_set})


class TenantGuardSettings(BaseModel):
    """What is otherwise for one tenant; entities that are left out are dealt with as for everybody."""

    model_config = ConfigDict(extra="forbid")

    input: EntityActions = EntityActions()
    output: EntityActions = EntityActions()


class LinkSettings(BaseModel):
    """What a client would fetch or run when it shows the Markdown of a chat: pictures, links, HTML.

    Answers that programs read (completions, JSON that was asked for, arguments of tool calls) keep their markup.
    """

    model_config = ConfigDict(extra="forbid")

    images: Literal["mask", "allow"] = Field(
        default="mask",
        description="Pictures on other hosts in answers of chats, in Markdown and HTML, which clients fetch unasked: "
        "`mask` makes them inert, `allow` lets them through.",
    )
    links: Literal["mask", "allow"] = Field(
        default="allow",
        description="Links to other hosts in answers of chats: `allow`, or `mask` puts `[LINK]` for their addresses.",
    )
    html: Literal["mask", "allow"] = Field(
        default="mask",
        description="HTML in answers of chats that runs or loads something (scripts, handlers, styles, frames), links "
        "that run a script: `mask` makes them inert, `allow` lets them through.",
    )
    code: Literal["mask", "allow"] = Field(
        default="allow",
        description="The same within fenced code of Markdown, which is shown and not run: `allow` leaves it as it is.",
    )
    allowed_hosts: list[str] = Field(
        default_factory=list,
        description="Hosts that pictures and links may be on: `docs.example.com`, or `*.example.com` for all below.",
    )


class SystemPromptSettings(BaseModel):
    """Whether answers may repeat the system prompt."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["mask", "flag"] = Field(
        default="mask", description="What is done about a leak: `mask`, or `flag` only counts it."
    )
    canary: bool = Field(
        default=False,
        description="Put an unguessable word into system prompts; where an answer holds it, the prompt has leaked.",
    )
    max_words: int = Field(
        default=0,
        ge=0,
        le=200,
        description="Most words in a row that an answer may share with the system prompt; 0: any number.",
    )


class GuardSettings(BaseModel):
    """What the guard does to requests and answers."""

    model_config = ConfigDict(extra="forbid")

    input: EntityActions = EntityActions()
    output: EntityActions = EntityActions()
    tenants: dict[str, TenantGuardSettings] = Field(
        default_factory=dict,
        description="What is otherwise for some tenants: `{TENANT: {input: {ENTITY: ACTION}, output: {…}}}`.",
    )
    policy: Path | None = Field(
        default=None, description="File with the policy: principles, how they are checked, and what follows."
    )
    encoded: Literal["look", "ignore"] = Field(
        default="look",
        description="Base64, hexadecimal and percent-encoded text in requests: `look` into it, or `ignore` it.",
    )
    hidden_words: Literal["mask", "strip"] = Field(
        default="mask",
        description="Words in requests with invisible characters between their letters, several in a row: `mask` puts "
        "`[HIDDEN_TEXT]` for them, `strip` only takes the characters out.",
    )
    classifiers: ClassifiersSettings = ClassifiersSettings()
    links: LinkSettings = LinkSettings()
    system_prompt: SystemPromptSettings = SystemPromptSettings()
    raw_prompts: Literal["inert", "allow"] = Field(
        default="inert",
        description="Control tokens in the `prompt`, `suffix` and `stop` of /v1/completions: `inert` breaks them, "
        "`allow` leaves them to callers who build their own chat format.",
    )
    token_prompts: Literal["refuse", "allow"] = Field(
        default="refuse",
        description="Prompts given as token ids, which nothing can be cleaned in: `refuse` or `allow`.",
    )
    control_tokens: list[str] = Field(
        default_factory=list,
        description="Control tokens to break besides those of the served models and of the known families.",
    )
    roles: list[str] = Field(
        default_factory=lambda: ["system", "developer", "user", "assistant", "tool", "function"],
        description="Message roles that are let through; others are refused.",
    )
    max_depth: int = Field(default=64, ge=8, le=256, description="Deepest nesting of a request body.")
    max_values: int = Field(default=200_000, ge=100, description="Most values (fields, items) in a request body.")
    cpu_budget_s: float = Field(
        default=10.0,
        gt=0,
        le=600,
        description="Most seconds of CPU time that cleaning one request may take; beyond, it is refused.",
    )
    cleaning_processes: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Processes (of each worker) that clean large requests, apart from everything else. With more than "
        "one, a tenant has all but one of them at the most.",
    )
    cleaning_queue: int = Field(
        default=64,
        ge=4,
        description="Large requests that may wait for such a process; a tenant's are a quarter of them at the most.",
    )
    max_text_chars: int = Field(
        default=1_000_000, ge=1000, description="Most characters of text in a request, media left out."
    )

    @model_validator(mode="after")
    def _check_directions(self) -> Self:
        both = [(self.input, self.output), *((tenant.input, tenant.output) for tenant in self.tenants.values())]
        for ways_in, ways_out in both:
            if "mask_new" in ways_in.acting().values():
                raise ValueError("'mask_new' is for answers: it cannot be an action of 'input'")
            if "pseudonymize" in ways_out.acting().values():
                raise ValueError("'pseudonymize' is for requests: it cannot be an action of 'output'")
        return self

    def of_tenant(self, name: str) -> GuardSettings:
        """What holds for one tenant."""
        own = self.tenants.get(name, TenantGuardSettings())
        return self.model_copy(
            update={
                "tenants": {},
                "input": self.input.overridden(own.input),
                "output": self.output.overridden(own.output),
            }
        )
