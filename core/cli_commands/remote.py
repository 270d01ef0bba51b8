"""`dicom-ferry node remote`: what an Orthanc knows of others that it sends to, listed, changed and tested."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Optional

import typer
from rich.markup import escape
from rich.table import Table

from core.app import App
from core.cli_commands.fields import build, gather, option, parameters, read_secrets, secret_option
from core.cli_commands.opening import opened
from core.cli_commands.speaking import Speaker, exit_with, speaking
from core.model.errors import ConfigurationError, FerryError
from core.model.remotes import LASTING, REMOTE_FIELDS, RemoteDraft, RemoteKind

app = typer.Typer(
    help="An Orthanc's own modalities, peers and DICOMweb servers: list, add, edit, test and remove them. An Orthanc "
    "sends by itself (--path push) only to what it knows.",
    no_args_is_help=True,
)
add = typer.Typer(
    help="Add an entry. Each kind has its own options: dicom-ferry node remote add KIND --help. For a node that is "
    "registered here: dicom-ferry node remote add-node.",
    no_args_is_help=True,
)
edit = typer.Typer(
    help="Change an entry; what is not named stays, secrets have to be given again.", no_args_is_help=True
)
app.add_typer(add, name="add")
app.add_typer(edit, name="edit")

_NAME = "field_name"  # of the options made from the fields: the name is an argument
Json = Annotated[bool, typer.Option("--json", help="Write JSON objects, one a line.")]
Server = Annotated[str, typer.Argument(metavar="NODE", help="The node of the Orthanc.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The entry's name in that server.")]
Kind = Annotated[RemoteKind, typer.Argument(metavar="KIND", help="modality, peer or dicomweb-server.")]
OfKind = Annotated[
    Optional[RemoteKind],  # noqa: UP045 - Typer below 0.16 reads no unions made with |
    typer.Option("--as", metavar="KIND", help="modality, peer or dicomweb-server; the best way when left out."),
]


def add_kinds() -> None:
    """Make `add KIND` and `edit KIND` for each list of a server."""
    for kind in RemoteKind:
        add.command(kind.value, help=f"{kind.heading}: {kind.summary} {LASTING[kind]}")(_command(kind, change=False))
        edit.command(kind.value, help=f"{kind.heading}: {kind.summary} {LASTING[kind]}")(_command(kind, change=True))


def _command(kind: RemoteKind, *, change: bool) -> Any:
    model = REMOTE_FIELDS[kind]

    def body(node: str, name: str, json: bool, secret_stdin: list[str] | None = None, **arguments: Any) -> None:
        with speaking(json=json) as speaker:
            given = gather(model, arguments, environment={} if change else None)
            given.values.pop("name", None)
            secrets = read_secrets(model, f"A {kind.words}", name, secret_stdin)
            if change and not given.values and not secrets:
                raise ConfigurationError(
                    "Nothing was said about what to change.",
                    f"See what can be: dicom-ferry node remote edit {kind.value} --help.",
                    code="nothing-to-change",
                )
            with opened() as opened_app, _telling(speaker):
                if change:
                    opened_app.remotes.edit(node, kind, name, given.values, secrets)
                else:
                    opened_app.remotes.add(node, kind, {**given.values, "name": name}, secrets)
            done = "edited" if change else "added"
            speaker.data(done, node=node, kind=kind.value, name=name)
            speaker.say(f"{node} knows the {kind.words} {name} {'as changed' if change else 'now'}.")
            speaker.say(LASTING[kind])
            speaker.say(f"Try it: dicom-ferry node remote test {kind.value} {_quoted(node)} {name}")

    common = [
        option("node", str, typer.Argument(..., metavar="NODE", help="The node of the Orthanc.")),
        option("name", str, typer.Argument(..., metavar="NAME", help="The entry's name in that server.")),
        *(p for p in parameters(model, all_optional=change) if p.name != _NAME),
        *secret_option(model, "hand it to the server, which keeps it"),
        option("json", bool, typer.Option(False, "--json", help="Write JSON objects, one a line.")),
    ]
    return build(f"{'edit' if change else 'add'}_{kind.value}", kind.summary, common, body)


@app.command("list")
def list_remotes(node: Server, json: Json = False) -> None:
    """List the modalities, peers and DICOMweb servers that an Orthanc knows, and which of our nodes they are."""
    with speaking(json=json) as speaker, opened() as opened_app:
        found = opened_app.remotes.listing(node)
        table = Table("Kind", "Name", "Where", "Our node", box=None, header_style="bold", pad_edge=False)
        for entry in found.entries:
            table.add_row(*(escape(t) for t in (entry.kind.words, entry.name, entry.where, entry.node)))
            speaker.data(
                "remote",
                kind=entry.kind.value,
                name=entry.name,
                where=entry.where,
                node=entry.node,
                fields=entry.fields,
                untold=entry.untold,
            )
        if found.entries:
            speaker.show(table)
        else:
            speaker.say(f"{node} knows nobody that it could send to. Add one: dicom-ferry node remote add --help")
        if found.refused:
            speaker.remark(f"! {found.refused}", "yellow")


@app.command("add-node")
def add_node(
    node: Server,
    other: Annotated[str, typer.Argument(metavar="OTHER", help="A registered node that it is to know.")],
    kind: OfKind = None,
    name: Annotated[Optional[str], typer.Option("--name", metavar="TEXT", help="Its name there.")] = None,  # noqa: UP045
    host: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--host", metavar="TEXT", help="Its host as that server reaches it, where that differs."),
    ] = None,
    json: Json = False,
) -> None:
    """Make an Orthanc know one of our nodes, with the login that we have for it, so that it can send there."""
    with speaking(json=json) as speaker, opened() as opened_app:
        draft = _draft(opened_app, node, opened_app.nodes.get(other).name, kind)
        if name:
            draft = _with(draft, name=name)
        if host:
            draft = _at_host(draft, host)
        for doubt in draft.doubts:
            speaker.remark(f"! {doubt}", "yellow")
            speaker.data("warning", sentence=doubt)
        with _telling(speaker):
            made = opened_app.remotes.add_draft(node, draft)
        speaker.data("added", node=node, kind=draft.kind.value, name=made.name)
        speaker.say(f"{node} knows {draft.node} now, as the {draft.kind.words} {made.name}.")
        speaker.say(LASTING[draft.kind])
        speaker.say(f"Try it: dicom-ferry node remote test {draft.kind.value} {_quoted(node)} {made.name}")


@app.command("test")
def look_at(kind: Kind, node: Server, name: Name, json: Json = False) -> None:
    """Let the server call an entry: C-ECHO, its system's answer, or a query. Exit status 1 when that fails."""
    failed = False
    with speaking(json=json) as speaker, opened() as opened_app:
        try:
            finding, step = opened_app.remotes.test(node, kind, name), ""
        except FerryError as error:
            if error.code in ("remote-unknown", "no-remotes", "unknown-node"):
                raise
            failed, finding, step = True, error.sentence, error.next_step
        sign = speaker.sign("✗", "X") if failed else speaker.sign("✓", "ok")
        speaker.say(f"{sign} {name}: {finding}", "bold red" if failed else "green")
        if step:
            speaker.say(f"  → {step}")
        speaker.data("tested", node=node, kind=kind.value, name=name, works=not failed, finding=finding, next_step=step)
    exit_with(1 if failed else 0)


@app.command("remove")
def remove(kind: Kind, node: Server, name: Name, json: Json = False) -> None:
    """Let the server forget an entry. Nothing is deleted at what it stands for."""
    with speaking(json=json) as speaker, opened() as opened_app:
        opened_app.remotes.entry(node, kind, name)  # says which there are
        opened_app.remotes.remove(node, kind, name)
        speaker.data("removed", node=node, kind=kind.value, name=name)
        speaker.say(f"{node} no longer knows the {kind.words} {name}.")


@app.command("tell")
def tell(kind: Kind, node: Server, name: Name, json: Json = False) -> None:
    """What to tell the server's administrator, so that an entry stays after a restart; ready to paste."""
    with speaking(json=json) as speaker, opened() as opened_app:
        entry = opened_app.remotes.entry(node, kind, name)
        text = opened_app.remotes.text(node, kind, entry.fields)
        speaker.data("tell", node=node, kind=kind.value, name=name, text=text)
        speaker.say(text)


@contextmanager
def _telling(speaker: Speaker) -> Iterator[None]:
    """Where the server lets nobody change its lists, say what its administrator has to be told."""
    try:
        yield
    except ConfigurationError as error:
        if error.code == "remote-fixed" and error.detail:
            speaker.say(error.detail)
        raise


def _draft(opened_app: App, node: str, other: str, kind: RemoteKind | None) -> RemoteDraft:
    drafts = [d for d in opened_app.remotes.drafts(node) if d.node == other]
    wanted = [d for d in drafts if kind is None or d.kind is kind]
    if wanted:
        return wanted[0]
    known = [e for e in opened_app.remotes.listing(node).entries if e.node == other]
    if known:
        names = ", ".join(f"{e.kind.words} {e.name}" for e in known)
        raise ConfigurationError(f"{node} knows {other} already: {names}.", "There is nothing to do.", code="known")
    ways = ", ".join(d.kind.value for d in drafts)
    raise ConfigurationError(
        f"{node} can't be told about {other}{f' as {kind.words}' if kind is not None else ''}.",
        f"It could be as: {ways}."
        if ways
        else "It is neither an Orthanc nor a DICOM node nor a DICOMweb service, or it does not answer.",
        code="no-draft",
    )


def _with(draft: RemoteDraft, **fields: str) -> RemoteDraft:
    return RemoteDraft(draft.kind, draft.node, {**draft.fields, **fields}, draft.secrets, draft.doubts)


def _at_host(draft: RemoteDraft, host: str) -> RemoteDraft:
    """The same entry under another host."""
    if draft.kind is RemoteKind.MODALITY:
        return _with(draft, host=host)
    from urllib.parse import urlsplit

    parts = urlsplit(str(draft.fields["url"]))
    port = f":{parts.port}" if parts.port else ""
    return _with(draft, url=parts._replace(netloc=f"{host}{port}").geturl())


def _quoted(name: str) -> str:
    return f'"{name}"' if any(c in name for c in " ()'&") else name
