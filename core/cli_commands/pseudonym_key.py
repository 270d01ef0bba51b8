"""`dicom-ferry pseudonym-key`: show, copy and put back the keys from which pseudonyms are made."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from core.cli_commands.opening import opened
from core.cli_commands.speaking import exit_with, speaking
from core.model.errors import ConfigurationError
from core.pseudonym_keys import copied, fingerprint, put_back

_HELP = "\n\n".join(
    (
        "De-identification makes pseudonyms, new UIDs and shifts of dates from a key in this computer's keyring. Jobs "
        "that name the same key give the same patient the same pseudonym.",
        "Keep a copy of the key where only those may look who may know the patients: when it is lost, patients get "
        "other pseudonyms from then on, and nobody can tell which old and new ones belong together. Whoever has the "
        "key and a list of Patient IDs can tell whose pseudonym is whose.",
    )
)

app = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="[NAME]", help="Name of the key, as in the step.", show_default=True)]
Json = Annotated[bool, typer.Option("--json", help="Write JSON objects, one a line.")]


@app.command()
def show(name: Name = "standard", json: Json = False) -> None:
    """Tell the fingerprint of a key, as it stands in the images. Exit status 1 where there is no such key."""
    with speaking(json=json) as speaker, opened() as home:
        found = fingerprint(home.steps.surroundings(), name)
        speaker.data("pseudonym-key", name=name, fingerprint=found)
        none = f"There is no key “{name}” yet: the first job that de-identifies with it makes it."
        speaker.say(f"The key “{name}” has the fingerprint {found}." if found else none)
    exit_with(0 if found else 1)


@app.command(name="copy")
def copy_key(
    name: Name = "standard",
    secret: Annotated[
        bool, typer.Option("--secret", help="Needed: the key itself is written to standard output, for anybody to see.")
    ] = False,
) -> None:
    """Write the key itself to standard output, to be kept in a safe place."""
    with speaking(json=False) as speaker, opened() as home:
        if not secret:
            raise ConfigurationError(
                "Whoever has this key can tell whose pseudonym is whose, so it is shown on request only.",
                "See that nobody looks on, then give --secret. Write it to a file of your own: … --secret > FILE.",
                code="deidentify-key",
            )
        key = copied(home.steps.surroundings(), name)
        sys.stdout.write(key + "\n")
        speaker.remark("Keep this where only those may look who may know the patients.")


@app.command(name="put-back")
def put_key_back(
    name: Name = "standard",
    replace: Annotated[bool, typer.Option("--replace", help="Also in the place of another key of this name.")] = False,
    json: Json = False,
) -> None:
    """Read a key from one line of standard input and keep it in the keyring."""
    with speaking(json=json) as speaker, opened() as home:
        line = sys.stdin.readline().strip()
        if not line:
            raise ConfigurationError(
                "No key was given.", "Give it on standard input, for example from a file: … < FILE.", code="secret"
            )
        found = put_back(home.steps.surroundings(), name, line, replace=replace)
        speaker.data("pseudonym-key", name=name, fingerprint=found)
        speaker.say(f"The key “{name}” with the fingerprint {found} is kept.")
