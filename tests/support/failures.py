"""A pytest plugin that prints each failure when it happens, with xdist too, and only then."""

import pytest


class FailuresAtOnce:
    """Writes the traceback and the captured output of a failed test below its line."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal
        # the end's short summary names them; a debugger or --tb=no has its own ways
        terminal.summary_failures = terminal.summary_errors = lambda: None

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._write(f"{report.nodeid} ({report.when})", report)

    @pytest.hookimpl(trylast=True)
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._write(f"{report.nodeid} (collection)", report)

    def _write(self, title: str, report: pytest.TestReport | pytest.CollectReport) -> None:
        terminal = self._terminal
        terminal.write_line("")  # ends the line of dots
        terminal.write_sep("_", title, red=True, bold=True)
        terminal.write_line(report.longreprtext)
        for name, content in report.sections:
            terminal.write_sep("-", name)
            terminal.write_line(content.rstrip())


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Take part where there is a terminal; the workers of xdist have none and report here."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None and config.option.tbstyle != "no":
        config.pluginmanager.register(FailuresAtOnce(terminal))
