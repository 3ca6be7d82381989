"""A budget under fire: many clients spend one budget through real gateways until it is used up.

    python -m loadtests.benchmarks.budget --out docs/benchmarks/budget.md

For each store: 200 clients stream answers at once, some of them leave in the middle, and all stop when the gateway says
`insufficient_quota`. Then the ledger says what was spent, the budget is raised by one answer, and a request that needs
all the rest, to the token, shows that nothing is left reserved. In one setting a worker is killed in the middle.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp
import click

from loadtests.tools.processes import REPOSITORY, Program, ProgramError, running
from loadtests.tools.targets import free_port
from serving.identity import Amount, Budget, Lease, Limits, NewKey, Principal
from serving.identity.limits.memory import MemoryStore
from serving.identity.limits.plan import make_plan
from serving.identity.limits.shared import SharedStore

MODEL = "standin"
# One token of an answer costs a millionth of a dollar, a prompt nothing: the arithmetic can be done in the head.
PRICES = {MODEL: {"completion_per_million": "1"}}
TOKEN_NANOS = 1_000
STEP_MS = 5
SETTLE_S = 5.0


@dataclass(frozen=True)
class Setting:
    """How the gateways of one measurement run."""

    name: str
    gateways: int = 1
    workers: int = 1
    redis: bool = False
    kill_worker: bool = False


SETTINGS = (
    Setting("embedded, one process"),
    Setting("embedded, two workers", workers=2),
    Setting("embedded, two workers, one killed", workers=2, kill_worker=True),
    Setting("Redis, two gateways", gateways=2, redis=True),
)


@dataclass
class Result:
    """What one measurement found. Money in answers' worth of `max_tokens` each."""

    setting: str
    budget: float
    spent: float
    overspent: float
    nothing_reserved: bool
    complete: int
    left: int
    busy: int
    seconds: float


async def spend(urls: Sequence[str], key: str, clients: int, max_tokens: int) -> Counter[str]:
    """All clients at once until the budget is used up; how each request ended."""
    outcomes: Counter[str] = Counter()
    timeout = aiohttp.ClientTimeout(total=60)
    headers = {"authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=timeout, headers=headers
    ) as session:

        async def client(number: int) -> None:
            chance = random.Random(number)
            outcome = ""
            while outcome != "insufficient_quota":
                outcome = await _ask(session, urls[number % len(urls)], max_tokens, leave=chance.random() < 0.1)
                outcomes[outcome] += 1
                if outcome not in ("complete", "left"):
                    await asyncio.sleep(0.02)

        await asyncio.gather(*(client(number) for number in range(clients)))
    return outcomes


async def _ask(session: aiohttp.ClientSession, url: str, max_tokens: int, leave: bool) -> str:
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Spend."}],
        "max_tokens": max_tokens,
        "stream": True,
    }
    try:
        async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
            if answer.status != 200:
                return str((await answer.json())["error"]["code"])
            last = b""
            async for line in answer.content:
                if leave:
                    answer.close()
                    return "left"
                last = line.strip() or last
            return "complete" if last == b"data: [DONE]" else "cut"
    except (aiohttp.ClientError, TimeoutError):
        return "cut"


def measure(setting: Setting, folder: Path, clients: int, answers: int, max_tokens: int) -> Result:
    """Run one setting from an empty home.

    Raises:
        ProgramError: something did not start.
    """
    home = folder / "home"
    home.mkdir()
    with ExitStack() as stack:
        engine_port = free_port()
        standin = ["-m", "loadtests.tools.standin", "--port", str(engine_port), "--step-ms", str(STEP_MS)]
        engine = stack.enter_context(running("stand-in", [sys.executable, *standin], folder))
        engine.wait_ready(f"http://127.0.0.1:{engine_port}/health", {})
        env = {
            "SIGNET_HOME": str(home),
            "SIGNET_PRICES": json.dumps(PRICES),
            "SIGNET_GATEWAY__WORKERS": str(setting.workers),
            "SIGNET_GATEWAY__ADMISSION__ENABLED": "false",
        }
        if setting.redis:
            env["SIGNET_IDENTITY__LIMITS_URL"] = stack.enter_context(_redis(folder))
            # The machine that measures is also the one that is loaded.
            env["SIGNET_IDENTITY__LIMITS_TIMEOUT_S"] = "2"
        budget = answers * max_tokens * TOKEN_NANOS
        made = _signet(env, "keys", "create", "--tenant", "bench", "--budget", f"total={_dollars(budget)}", "--json")
        key = NewKey(**json.loads(made))
        gateways = [_gateway(stack, number, engine_port, env, folder) for number in range(setting.gateways)]
        urls = [url for url, _ in gateways]
        started = time.perf_counter()
        outcomes = asyncio.run(_spend_while(setting, gateways[0][1], urls, key.key, clients, max_tokens))
        seconds = time.perf_counter() - started
        spent = _spent(home)
        raised = max(budget, spent) + max_tokens * TOKEN_NANOS
        _signet(env, "keys", "update", key.id, "--budget", f"total={_dollars(raised)}")
        free = asyncio.run(_takes_all(urls[0], key.key, (raised - spent) // TOKEN_NANOS))
    one = max_tokens * TOKEN_NANOS
    return Result(
        setting.name,
        budget / one,
        round(spent / one, 2),
        round(max(0, spent - budget) / one, 2),
        free,
        outcomes["complete"],
        outcomes["left"] + outcomes["cut"],
        outcomes["budget_reserved"],
        round(seconds, 1),
    )


async def _spend_while(
    setting: Setting, gateway: Program, urls: Sequence[str], key: str, clients: int, max_tokens: int
) -> Counter[str]:
    spending = asyncio.create_task(spend(urls, key, clients, max_tokens))
    if setting.kill_worker:
        await asyncio.sleep(1.0)
        os.kill(gateway.children()[0], signal.SIGKILL)
    return await spending


async def _takes_all(url: str, key: str, tokens: int) -> bool:
    """Whether one request can have everything that is left; within the time that settling may take."""
    deadline = time.monotonic() + SETTLE_S
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {key}"}) as session:
        while (outcome := await _ask(session, url, tokens, leave=False)) != "complete":
            if time.monotonic() > deadline:
                print(f"the rest cannot be had: {outcome}", file=sys.stderr)
                return False
            await asyncio.sleep(0.1)
    return True


def _signet(env: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "signet", *arguments]
    done = subprocess.run(
        command, env={**os.environ, **env}, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ProgramError(f"`signet {' '.join(arguments[:2])}` failed: {done.stderr.strip()}")
    return done.stdout


def _dollars(nanos: int) -> str:
    return f"{nanos // 10**9}.{nanos % 10**9:09d}"


def _gateway(stack: ExitStack, number: int, engine_port: int, env: dict[str, str], folder: Path) -> tuple[str, Program]:
    port = free_port()
    command = [sys.executable, "-m", "signet", "gateway", "--port", str(port)]
    command += ["--engine-url", f"http://127.0.0.1:{engine_port}"]
    program = stack.enter_context(running(f"gateway-{number}", command, folder, env=env))
    program.wait_ready(f"http://127.0.0.1:{port}/readyz/engines", {})
    return f"http://127.0.0.1:{port}", program


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    server = shutil.which("valkey-server") or shutil.which("redis-server")
    if server is None:
        raise ProgramError("neither valkey-server nor redis-server is installed")
    path = folder / "redis.sock"
    command = [server, "--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no"]
    with running("redis", command, folder):
        deadline = time.monotonic() + 10
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        yield f"unix://{path}"


def _spent(home: Path) -> int:
    """What the ledger holds, once every answer is settled."""
    before = -1
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline:
        with sqlite3.connect(home / "signet.db") as database:
            found = int(database.execute("SELECT coalesce(sum(cost_nanos), 0) FROM requests").fetchone()[0])
        if found == before:
            break
        before = found
        time.sleep(0.5)
    return before


def cost_us(shared: bool, rounds: int = 20_000) -> dict[str, float]:
    """Microseconds of one acquire and settle, the best of five, by what is limited."""
    limits = Limits(10**9, 10**9, 10**9)
    principals = {
        "key": Principal("k", "t", limits=limits),
        "key and tenant": Principal("k", "t", limits=limits, tenant_limits=limits),
        "key, tenant and a budget": Principal(
            "k", "t", limits=limits, tenant_limits=limits, budgets=(Budget("tenant", "t", "total", 10**18),)
        ),
    }
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        store = SharedStore(Path(folder) / "limits") if shared else MemoryStore()
        store.open()
        store.compare("budget:tenant:t:total", 0, 0, 60)
        for name, principal in principals.items():
            plan, amount = make_plan(principal), Amount(100, 1000, 1000)
            best = float("inf")
            for _ in range(5):
                started = time.perf_counter()
                for _ in range(rounds):
                    lease = store.acquire(plan, amount)
                    assert isinstance(lease, Lease)
                    lease.settle(50, 500)
                best = min(best, (time.perf_counter() - started) / rounds)
            found[name] = round(best * 1e6, 1)
        store.close()
    return found


def report(results: Sequence[Result], costs: dict[str, dict[str, float]], command: str) -> str:
    """The page."""
    lines = [
        "# Budgets under concurrent requests",
        "",
        f"`{command}` on {os.cpu_count()} cores, stand-in engine with {STEP_MS} ms a token. Money is counted in whole "
        "answers; one in ten clients leaves in the middle.",
        "",
        "| store | budget | spent | overspent | still reserved | complete | left or cut | told to wait | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.setting} | {r.budget:g} | {r.spent:g} | {r.overspent:g} | {'0' if r.nothing_reserved else 'SOME'} | "
        f"{r.complete} | {r.left} | {r.busy} | {r.seconds:g} |"
        for r in results
    ]
    lines += ["", "What a reservation and its settlement cost, microseconds on the event loop:", ""]
    names = list(next(iter(costs.values())))
    lines += ["| store | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {store} | " + " | ".join(f"{row[name]:g}" for name in names) + " |" for store, row in costs.items()]
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--clients", default=200, show_default=True)
@click.option("--answers", default=10_000, show_default=True, help="The budget, in answers of full length.")
@click.option("--max-tokens", default=20, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write the page here, and its JSON beside it.")
def main(clients: int, answers: int, max_tokens: int, out: Path | None) -> None:
    """Spend a budget from many clients at once and see what became of it."""
    results = []
    for setting in SETTINGS:
        with tempfile.TemporaryDirectory(prefix="signet-budget-") as folder:
            results.append(measure(setting, Path(folder), clients, answers, max_tokens))
        print(results[-1], file=sys.stderr)
    costs = {"one process": cost_us(False), "several workers": cost_us(True)}
    page = report(results, costs, f"python -m loadtests.benchmarks.budget --clients {clients} --answers {answers}")
    if out is None:
        print(page)
        return
    out.write_text(page)
    out.with_suffix(".json").write_text(
        json.dumps({"results": [asdict(result) for result in results], "cost_us": costs}, indent=1) + "\n"
    )
    if not all(result.nothing_reserved and result.overspent <= 1 for result in results):
        sys.exit("a budget was overspent or something stayed reserved")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
