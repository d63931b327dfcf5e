"""The command line: `skytrawl demo | ingest | info | plan | run | query | versions`.

Job options come from the parameter dataclass of each job; heavy libraries are imported when a command runs.
Exit codes: 0 done, 1 error, 2 usage, 3 finished with failed partitions or left-out files; a run
that was stopped ends with 130 (Ctrl-C) or 143 (SIGTERM), as shells count.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

from skytrawl import __version__
from skytrawl.errors import SkytrawlError
from skytrawl.job import get_job, job_names
from skytrawl.params import ParameterInfo, parameters_of

FAILED_PARTITIONS = 3

# Command -> "module:function"; the module is imported when the command runs or shows its help.
_COMMANDS = {
    "append": "skytrawl.cli_ingest:append",
    "completeness": "skytrawl.cli_completeness:completeness",
    "candidates": "skytrawl.cli_candidates:candidates",
    "demo": "skytrawl.cli_data:demo",
    "export": "skytrawl.cli_export:export",
    "export-images": "skytrawl.cli_export_images:export_images",
    "image-report": "skytrawl.cli_image_report:image_report",
    "ingest": "skytrawl.cli_ingest:ingest",
    "ingest-images": "skytrawl.cli_images:ingest_images",
    "info": "skytrawl.cli_data:info",
    "plan": "skytrawl.cli:plan",
    "query": "skytrawl.cli_query:query",
    "reference": "skytrawl.cli_reference:reference",
    "run": "skytrawl.cli:run",
    "versions": "skytrawl.cli_versions:versions",
    "simulate": "skytrawl.cli_simulate:simulate",
    "simulate-images": "skytrawl.cli_simulate_images:simulate_images",
}


class Lazy(click.Group):
    """The top-level group: finds a command's module when asked for it and reports errors in one form."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands."""
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an expected error is one message, not a traceback."""
        try:
            return super().invoke(ctx)
        except SkytrawlError as error:
            if os.environ.get("SKYTRAWL_TRACEBACK"):
                raise
            click.echo(f"error: {error}", err=True)
            ctx.exit(1)
        except BrokenPipeError:  # `skytrawl query ... | head`
            sys.stderr.close()
            ctx.exit(0)
        except OSError as error:  # no permission, a full disk, a scheduler that does not answer
            if os.environ.get("SKYTRAWL_TRACEBACK"):
                raise
            click.echo(f"error: {error}", err=True)
            ctx.exit(1)


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="skytrawl")
def main() -> None:
    """Find what is odd in a whole sky survey.

    Light curves go into an archive (ingest), detectors run over it (plan, run), and ranked anomalies come
    out (query). Start with `skytrawl demo`.
    """


def job_option(info: ParameterInfo) -> click.Option:
    """The command-line option of one job parameter, with default, unit and allowed values in its help."""
    name = "--" + info.name.replace("_", "-")
    text = info.help
    if info.unit:
        text += f" [{info.unit}]"
    if info.choices:
        text += f" ({', '.join(map(str, info.choices))})"
    if info.is_flag:
        return click.Option(
            [f"{name}/--no-{name[2:]}", info.name], default=info.default, help=text, show_default=True
        )
    shown = "required" if info.required else _default_text(info.default)
    # Text is passed on as it stands: `skytrawl.params` coerces and checks it for every face alike.
    return click.Option(
        [name, info.name],
        default=None,
        metavar=_metavar(info.type_name),
        help=f"{text}  [default: {shown}]" if not info.required else f"{text}  [required]",
    )


def _metavar(type_name: str) -> str:
    """What stands for a value in the help: NUMBER, INTEGER, TEXT, PATH or A,B,... of these."""
    word = type_name.removesuffix(", or none")
    several = word.startswith("a list (each ")
    word = word.removeprefix("a list (each ").removesuffix(")").removeprefix("a ")
    word = {"whole number": "integer"}.get(word, word).upper()
    if not word.isalpha():
        return "VALUE"
    return f"{word},..." if several else word


def _default_text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return "none" if value is None or value == "" else str(value)


class JobGroup(click.Group):
    """A group with one command a job: `skytrawl run JOB ...`."""

    def __init__(self, *, action: Callable[..., None], common: list[click.Parameter], **more: Any) -> None:
        super().__init__(**more)
        self.action = action
        self.common = common

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all jobs."""
        return list(job_names())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """Build the command of a job from its parameters."""
        job = get_job(cmd_name)  # raises with the nearest name

        def call(**words: Any) -> None:
            names = {info.name for info in parameters_of(job.parameters)}
            given = {
                name: value
                for name, value in words.items()
                if name in names
                and click.get_current_context().get_parameter_source(name)
                is not click.core.ParameterSource.DEFAULT
            }
            self.action(job.name, given, **{name: words[name] for name in words if name not in names})

        # What the job itself declares comes before what it shares with others.
        own = job.parameters.__annotations__
        infos = sorted(parameters_of(job.parameters), key=lambda info: info.name not in own)
        options = [job_option(info) for info in infos]
        return click.Command(
            cmd_name, params=[*self.common, *options], callback=call, help=job.summary, short_help=job.summary
        )


def _parameters(job: str, config: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """Parameters of a configuration file, overridden by those of the command line."""
    from skytrawl.params import read_toml

    found = {**(read_toml(config, job) if config else {}), **given}
    names = {name.replace("-", "_") for name in found}
    for info in parameters_of(get_job(job).parameters):
        if info.required and info.name not in names:
            raise click.UsageError(f"{job} needs --{info.name.replace('_', '-')}: {info.help}")
    return found


_ARCHIVE = click.Argument(["archive"], type=click.Path())
_CONFIG = click.Option(
    ["--config"], type=click.Path(), help="TOML file with job parameters, or a table of them."
)
_CLUSTER: list[click.Parameter] = [
    click.Option(
        ["--cluster"],
        default="local",
        show_default=True,
        help="'local' (processes), 'threads' (inside this process) or a scheduler address.",
    ),
    click.Option(["--workers"], type=click.IntRange(1), help="Worker processes.  [default: one a core]"),
    click.Option(["--threads"], type=click.IntRange(1), help="Threads of each worker.  [default: 1]"),
]
_VERSION = click.Option(["--version"], type=int, help="Version of the archive.  [default: the latest]")
_JSON = click.Option(["--json", "as_json"], is_flag=True, help="Print JSON for machines.")


@contextmanager
def stoppable() -> Iterator[None]:
    """Ctrl-C, and the SIGTERM of a batch system at its time limit, end a run in order and say so."""
    received: list[int] = []

    def stop(number: int, frame: Any) -> None:
        received.append(number)
        # Workers get the signal too: what the threads of the cluster say of their end is no news.
        logging.disable(logging.CRITICAL)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, stop)
    if before[signal.SIGINT] is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, stop)
    try:
        yield
    except KeyboardInterrupt:
        from skytrawl.console import say

        say("stopped. What is done is kept: the same command continues")
        raise click.exceptions.Exit(128 + (received or [signal.SIGINT])[0]) from None
    finally:
        logging.disable(logging.NOTSET)
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(
    job: str,
    given: dict[str, Any],
    archive: str,
    out: str,
    config: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    from skytrawl.console import progress_bar, say, show_facts, show_json
    from skytrawl.runner import run as run_job

    with stoppable(), progress_bar(job) as progress:
        summary = run_job(
            job,
            archive,
            out,
            progress=progress,
            announce=say,
            **options,
            **_parameters(job, config, given),
        )
    if as_json:
        show_json(summary.to_dict())
    else:
        show_facts(f"{job} → {out}", summary.facts())
        for failure in summary.failed:
            say(f"failed: partition {failure.partition} on {failure.host}: {failure.error}")
    if summary.failed:
        say("retry them with --retry-failed")
        raise click.exceptions.Exit(FAILED_PARTITIONS)


run = JobGroup(
    name="run",
    action=_run,
    common=[
        _ARCHIVE,
        click.Argument(["out"], type=click.Path()),
        _CONFIG,
        *_CLUSTER,
        click.Option(
            ["--backend"],
            type=click.Choice(["auto", "cpu", "cuda"]),
            default="auto",
            show_default=True,
            help="Where kernels run; 'auto' is resolved on the workers and pinned.",
        ),
        _VERSION,
        click.Option(["--retry-failed"], is_flag=True, help="Take only partitions that failed before."),
        click.Option(["--replace"], is_flag=True, help="Start anew where parameters changed."),
        click.Option(
            ["--retries"],
            type=click.IntRange(0),
            default=2,
            show_default=True,
            help="Retries of a partition.",
        ),
        click.Option(
            ["--stall-seconds"],
            type=click.FloatRange(0, min_open=True),
            default=1800.0,
            show_default=True,
            help="Give a task up after so long. [s]",
        ),
        click.Option(
            ["--split-seconds"],
            type=click.FloatRange(0, min_open=True),
            default=60.0,
            show_default=True,
            help="Split partitions that would take longer. [s]",
        ),
        _JSON,
    ],
    help="Run a job over an archive: skytrawl run JOB ARCHIVE OUT. Runs that stopped are continued.",
    short_help="Run a job over an archive; continues where it stopped.",
)


def _plan(
    job: str, given: dict[str, Any], archive: str, config: str | None, as_json: bool, **options: Any
) -> None:
    from skytrawl.console import say, show_facts, show_json
    from skytrawl.planner import make_plan

    found = make_plan(job, archive, **options, **_parameters(job, config, given))
    if as_json:
        show_json(found.to_dict())
    else:
        show_facts(f"plan of {job} over {archive}", found.facts())
    if found.refused:
        say(f"refused: {found.refused}")
        raise click.exceptions.Exit(1)


plan = JobGroup(
    name="plan",
    action=_plan,
    common=[_ARCHIVE, _CONFIG, *_CLUSTER[1:], _VERSION, _JSON],
    help="Show tasks, bytes and memory of a job before it runs: skytrawl plan JOB ARCHIVE.",
    short_help="Show tasks, bytes and memory of a job before it runs.",
)


if __name__ == "__main__":
    main()
