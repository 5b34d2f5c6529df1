"""`relay chat`: a conversation in the terminal, through the relay itself."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from typing import Any

import anyio
import click

from proxy.commands.chat_stream import ChatFailed, Piece, Turn, model_problem, stream_answer
from proxy.commands.loading import Line, local_engines_of, watching
from proxy.commands.local_relay import find_relay, open_client
from proxy.commands.options import address_flags, settings_or_exit, source_flags, source_options, tokens_or_exit
from proxy.commands.start_text import FIRST_MODEL, local_url
from proxy.server import background
from proxy.settings import Settings

_HELP = """\
/model NAME   answer with another model (without NAME: say which one answers)
/clear        forget the conversation
/exit         leave, as does Ctrl-D
Ctrl-C        stop the answer"""

# What a model writes must not move the cursor, set the title or hide text: all controls but tab and line feed.
_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"}

_NOTES = {"length": "[cut off at the token limit]", "content_filter": "[withheld by the content filter]"}


@click.command("chat", short_help="Talk to a model through the relay.")
@source_flags
@address_flags
@click.option("--system", metavar="TEXT", help="System message.")
@click.option("--once", metavar="MESSAGE", help="Ask this, print the answer and leave.")
@click.argument("model", default=FIRST_MODEL)
def command(model: str, system: str | None, once: str | None, **flags: Any) -> None:
    """Talk to MODEL through the relay: the one that runs, else one started for this conversation.

    Without a terminal, each line of the input is a message; answers alone go to the standard output. While an engine of
    this machine loads, a terminal shows how far that is.
    """
    settings = settings_or_exit(source_options(flags))
    tokens, _ = tokens_or_exit(settings)
    with _relay(settings, model) as base_url:
        session = Session(settings, base_url, tokens[0], model, system)
        if once is not None:
            fine = session.ask(once)
        elif sys.stdin.isatty():
            fine = converse(session)
        else:
            fine = all([session.ask(line.strip()) for line in sys.stdin if line.strip()])
    raise click.exceptions.Exit(0 if fine else 1)


@contextmanager
def _relay(settings: Settings, model: str) -> Iterator[str]:
    """The address of a relay that answers, after saying which one that is, and for models of no engine who is asked."""
    others = any(model in engine.models for engine in settings.engines)

    def by(upstream: str) -> str:
        return "" if others or not upstream else f" ({upstream})"

    url = local_url(settings, settings.host, settings.port)
    if settings.port and (relay := anyio.run(find_relay, settings, url)):
        _tell(f"the relay at {url} answers{by(relay.upstream)}")
        yield url
        return
    with ExitStack() as stack:
        try:
            started = stack.enter_context(background(settings))
        except RuntimeError as exc:
            raise click.ClickException(str(exc)) from exc
        where = f"no relay answers at {url}; " if settings.port else ""
        _tell(f"{where}started one for this conversation at {started}{by(settings.upstream)}")
        yield started


def _tell(line: str) -> None:
    """On stderr, for the standard output may go to a file."""
    click.echo(click.style(line, dim=True), err=True)


class Session:
    """A conversation and how it is shown: colour and reasoning are for a terminal only."""

    def __init__(self, settings: Settings, base_url: str, token: str, model: str, system: str | None) -> None:
        self.model = model
        self._settings = settings
        self._base_url = base_url
        self._token = token
        self._start: list[Turn] = [{"role": "system", "content": system}] if system else []
        self._turns = list(self._start)
        self._terminal = sys.stdout.isatty()
        self._reasoning = False

    def choose(self, model: str) -> str | None:
        """Let this model answer from now on; what is wrong with it if it cannot."""
        problem = anyio.run(self._model_problem, model)
        if problem is None:
            self.model = model
        return problem

    async def _model_problem(self, model: str) -> str | None:
        async with open_client(self._settings, self._base_url) as client:
            return await model_problem(client, self._token, model)

    def clear(self) -> None:
        self._turns = list(self._start)

    def ask(self, text: str) -> bool:
        """Show the answer as it comes. False, and a line on stderr, if there is none."""
        self._turns.append({"role": "user", "content": text})
        answer: list[str] = []
        self._reasoning = False
        try:
            anyio.run(self._answer, answer)
        except ChatFailed as exc:
            self._turns.pop()
            self._end_line(answer)
            click.echo(click.style(f"error: {exc}", fg="red"), err=True)
            return False
        except KeyboardInterrupt:
            if not self._terminal:
                raise
            click.echo(click.style(" [stopped]", dim=True))
        else:
            click.echo()
        if answer:
            self._turns.append({"role": "assistant", "content": "".join(answer)})
        else:
            self._turns.pop()
        return True

    async def _answer(self, answer: list[str]) -> None:
        begun = False

        def show(piece: Piece) -> None:
            nonlocal begun
            if piece != Piece():  # one that says nothing keeps the connection alive
                begun = True
                line.clear()
            self._show(piece)
            if piece.text:
                answer.append(piece.text)

        line = Line()
        engines = local_engines_of(self._settings, self.model) if line.is_seen else frozenset()
        async with AsyncExitStack() as stack:
            stack.callback(line.clear)
            if engines:
                tell = watching(self._settings.state_dir, engines, lambda text: None if begun else line.show(text))
                await stack.enter_async_context(tell)
            client = await stack.enter_async_context(open_client(self._settings, self._base_url))
            await stream_answer(client, self._token, self.model, self._turns, show)

    def _show(self, piece: Piece) -> None:
        if not self._terminal:
            click.echo(piece.text, nl=False)
            return
        if piece.reasoning:
            self._reasoning = True
            click.echo(click.style(piece.reasoning.translate(_CONTROLS), dim=True), nl=False)
        if piece.text:
            if self._reasoning:
                click.echo("\n")
                self._reasoning = False
            click.echo(piece.text.translate(_CONTROLS), nl=False)
        if piece.finish_reason in _NOTES:
            click.echo(click.style(f" {_NOTES[piece.finish_reason]}", dim=True), nl=False)

    def _end_line(self, answer: list[str]) -> None:
        if answer or self._reasoning:
            click.echo()


def converse(session: Session) -> bool:
    """Ask for messages until the person leaves. Always true: they have seen what went wrong."""
    with contextlib.suppress(ImportError):
        importlib.import_module("readline")  # gives `input` its history; some platforms have none
    click.echo(click.style(f"{session.model}   /help for help", dim=True))
    while True:
        try:
            text = input("> ").strip()
        except EOFError:
            click.echo()
            return True
        except KeyboardInterrupt:
            click.echo(click.style("\nCtrl-D or /exit leaves", dim=True))
            continue
        if text in ("/exit", "/quit"):
            return True
        if text.startswith("/"):
            click.echo(click.style(obey(session, text), dim=True))
        elif text:
            session.ask(text)


def obey(session: Session, line: str) -> str:
    """Carry out a command of the conversation; what to say about it."""
    word, _, argument = line.partition(" ")
    if word == "/clear":
        session.clear()
        return "the conversation is forgotten"
    if word == "/model":
        problem = session.choose(argument.strip()) if argument.strip() else None
        return f"{problem} {session.model} still answers" if problem else f"{session.model} answers"
    return _HELP if word == "/help" else f"{word} is no command; /help lists them"
