"""What `signet serve` shows: one calm line per thing, alive while it is being done; plain lines off a terminal."""

from __future__ import annotations

import time

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

AREA_WIDTH = 9


class Terminal:
    """Lines of the form `AREA  WHAT`. At most one is alive: `busy` opens or changes it, `done` settles it."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._live: Live | None = None
        self._line = _BusyLine()
        self._last_plain = ""

    def busy(self, area: str, what: str, done: int = 0, total: int = 0) -> None:
        """Show what is being done; `done` out of `total`, in any unit, draws a bar."""
        if not self.console.is_terminal:
            self._plain(area, what)
            return
        if self._live is None or self._line.area != area:
            self.clear()
            self._line = _BusyLine(area)
            self._live = Live(self._line, console=self.console, refresh_per_second=10, transient=True)
            self._live.start()
        self._line.what, self._line.done, self._line.total = what, done, total

    def done(self, area: str, what: str) -> None:
        """Settle a line."""
        self.clear()
        if self.console.is_terminal:
            self.console.print(Text.assemble("  ", ("\u2713 ", "green"), (area.ljust(AREA_WIDTH), "bold"), what))
        else:
            self._plain(area, what)

    def warn(self, area: str, what: str) -> None:
        """A line that asks to be read."""
        self.clear()
        if self.console.is_terminal:
            self.console.print(
                Text.assemble("  ", ("! ", "yellow"), (area.ljust(AREA_WIDTH), "bold"), (what, "yellow"))
            )
        else:
            self._plain(area, f"warning: {what}")

    def say(self, text: str = "") -> None:
        """Text as it is, never wrapped: what is pasted from it has to work."""
        self.clear()
        self.console.print(Text(text), soft_wrap=True)

    def clear(self) -> None:
        """Take the living line away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _plain(self, area: str, what: str) -> None:
        line = f"{area.ljust(AREA_WIDTH)}{what}"
        if line != self._last_plain:
            self._last_plain = line
            self.console.print(Text(line), soft_wrap=True)
            self.console.file.flush()


class _BusyLine:
    """Spinner, area, what is being done, a bar when the amount is known, and the seconds so far."""

    def __init__(self, area: str = "") -> None:
        self.area = area
        self.what = ""
        self.done = 0
        self.total = 0
        self._spinner = Spinner("dots", style="cyan")
        self._start = time.monotonic()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        seconds = int(time.monotonic() - self._start)
        grid = Table.grid(padding=(0, 1, 0, 0))
        bar = ProgressBar(total=self.total, completed=self.done, width=24) if self.total else ""
        grid.add_row(
            Text(" "),
            self._spinner,
            Text(self.area.ljust(AREA_WIDTH - 1), style="bold"),
            Text(self.what, no_wrap=True, overflow="ellipsis"),
            bar,
            Text(f"{seconds // 60}:{seconds % 60:02d}", style="dim"),
        )
        yield grid
