"""What the layer on this machine tells the person who started it.

On a terminal: coloured lines, above whatever is shown live. Anywhere else: plain lines with their time. All of it
goes to standard error; standard output is for results that a program may read.
"""

import logging
from datetime import datetime

from rich.console import Console
from rich.text import Text


class Reporter:
    """Tells, one line or paragraph a call; texts are shown as they are, never read as markup."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @property
    def is_live(self) -> bool:
        """Whether something that changes can be shown."""
        return self.console.is_terminal

    def say(self, text: str) -> None:
        """Tell what happened."""
        self._print("•", "cyan", text)

    def good(self, text: str) -> None:
        """Tell what the person has waited for."""
        self._print("✓", "green", text)

    def warn(self, text: str) -> None:
        """Tell what may need attention."""
        self._print("!", "yellow", text)

    def problem(self, text: str) -> None:
        """Tell what is wrong and needs the person."""
        self._print("✗", "bold red", text)

    def _print(self, mark: str, style: str, text: str) -> None:
        if self.is_live:
            self.console.print(Text.assemble((mark, style), " ", text), soft_wrap=True)
        else:
            moment = datetime.now().astimezone().strftime("%H:%M:%S")
            self.console.print(Text(f"{moment} {text}"), soft_wrap=True)


class ReporterHandler(logging.Handler):
    """Hands warnings that library code logs to the reporter."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__(logging.WARNING)
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        """Tell the record's message."""
        self._reporter.warn(record.getMessage())
