"""`python -m benchmarks`: start upstream, targets and load, one after the other, and say what it cost."""

from __future__ import annotations

import resource
import shlex
import shutil
import signal
import sys
from pathlib import Path

import click
from rich.console import Console

from benchmarks.measure import FULL, QUICK, Bench
from benchmarks.processes import started_upstream
from benchmarks.report import Report, dump_json, has_failed, machine, print_table
from benchmarks.targets import RELAY, LiteLLM, Nginx, Relay, Target


def targets(relay: str | None, litellm: str | None) -> list[Target]:
    """This relay, and whatever there is to compare it with."""
    found: list[Target] = [Relay(shlex.split(relay) if relay else RELAY)]
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if nginx is not None:
        found.append(Nginx(nginx))
    if litellm is not None:
        found.append(LiteLLM(litellm))
    return found


@click.command()
@click.option("--quick", is_flag=True, help="Less of everything: under a minute for the relay alone.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output, and the table to standard error.")
@click.option("--litellm", metavar="PYTHON", help="Python of a virtual environment with litellm[proxy].")
@click.option("--relay", metavar="COMMAND", help="Another command that starts a relay, such as an older version.")
def main(quick: bool, as_json: bool, litellm: str | None, relay: str | None) -> None:
    """Measure what the relay costs. Takes both of a small machine's cores; nothing else should run on it."""
    if not Path("/proc/self/stat").exists():
        raise click.ClickException("The figures come from Linux's /proc, which is not here.")
    _allow_many_files()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every child is ended here too
    plan = QUICK if quick else FULL
    console = Console(stderr=as_json)
    try:
        with started_upstream() as upstream:
            bench = Bench(plan, upstream)
            console.print("upstream ...", style="dim")
            baseline = bench.baseline()
            figures = []
            for target in targets(relay, litellm):
                console.print(f"{target.name} ...", style="dim")
                figures.append(bench.figures(target, baseline))
    except (RuntimeError, OSError) as exc:
        raise click.ClickException(str(exc)) from exc
    report = Report(machine=machine(), plan=plan, upstream=baseline, figures=figures)
    print_table(report, console)
    if as_json:
        sys.stdout.buffer.write(dump_json(report) + b"\n")
    sys.exit(1 if has_failed(figures) else 0)


def _allow_many_files() -> None:
    """A thousand streams are two thousand sockets in a relay; its limit is inherited from here."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
