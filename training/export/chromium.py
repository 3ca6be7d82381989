"""A web export in a real browser: opened at a phone's size, with no other host to be reached."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from serving.processes.child import Child

PHONE = (390, 844)
"""CSS pixels, width and height."""
_PAGE = b'<!doctype html><meta charset="utf-8"><script type="module" src="/check.js"></script>'
_SCRIPT = """
import { load } from "/model.js";
const tell = (found) => fetch("/found", { method: "POST", body: JSON.stringify(found) });
try {
  const { texts, count } = await (await fetch("/asked")).json();
  const frame = document.createElement("iframe");
  frame.style = "border:0;width:%dpx;height:%dpx";
  frame.src = "/index.html";
  document.body.append(frame);
  const model = await load();
  model.facts.eos = [];
  const answers = [];
  for (const text of texts) {
    const prompt = model.encode([{ role: "user", content: text }]);
    const tokens = [];
    for await (const token of model.generate(prompt, count)) tokens.push(token);
    answers.push({ prompt, tokens });
  }
  const page = () => frame.contentDocument;
  while (!["Ready", "cannot"].some((word) => page()?.getElementById("state")?.textContent.includes(word)))
    await new Promise((done) => setTimeout(done, 50));
  const shown = page().documentElement;
  const state = page().getElementById("state").textContent;
  await tell({ answers, text: shown.innerText, width: shown.scrollWidth, state });
} catch (error) {
  await tell({ error: String(error.stack ?? error) });
}
"""


def find_chromium() -> str | None:
    """The browser's program, where there is one."""
    names = ("chromium", "chromium-browser", "google-chrome", "chromium-headless-shell")
    return next((path for name in names if (path := shutil.which(name))), None)


def ask_in_chromium(folder: Path, texts: Sequence[str], count: int, seconds: float) -> dict[str, Any]:
    """Open the folder from a file server and go on greedily with each text.

    Returns `answers` (prompt and tokens of each), the page's `text`, `state` and `width` at a phone's size; or
    `error`. Raises TimeoutError.
    """
    program = find_chromium()
    assert program is not None
    answers: Queue[dict[str, Any]] = Queue()
    with (
        _served(folder, {"texts": list(texts), "count": count}, answers) as url,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
    ):
        command = [
            program, "--headless", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}",
            "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--window-size={PHONE[0]},{PHONE[1]}", "--remote-debugging-port=0",
        ]  # fmt: skip
        if os.geteuid() == 0:  # its sandbox does not run as root
            command.append("--no-sandbox")
        browser = Child([*command, url], os.environ, subprocess.DEVNULL, grace_seconds=0)
        try:
            return answers.get(timeout=seconds)
        except Empty:
            raise TimeoutError(f"no answer in Chromium within {seconds:g} s") from None
        finally:
            # Asked to stop, its processes would go on writing to the profile after the first of them has ended.
            browser.kill()


@contextmanager
def _served(folder: Path, asked: dict[str, Any], answers: Queue[dict[str, Any]]) -> Iterator[str]:
    """The folder as any static file server gives it, and beside it the check."""
    own = {
        "/check.html": ("text/html", _PAGE),
        "/check.js": ("text/javascript", (_SCRIPT % PHONE).encode()),
        "/asked": ("application/json", json.dumps(asked).encode()),
    }

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path not in own:
                super().do_GET()
                return
            kind, body = own[self.path]
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(204)
            self.end_headers()
            answers.put(json.loads(body))

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/check.html"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
