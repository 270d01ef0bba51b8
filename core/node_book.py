"""The node book: which nodes are registered, how they are opened, and what their last diagnosis found."""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Generator, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from pydantic import JsonValue, ValidationError

from core.model.diagnosis import DiagnosisStep, Profile, Standing, StepResult
from core.model.errors import ConfigurationError, FerryError, SecretError
from core.model.everyone import registered
from core.model.fields import Suggestion, explain, secret_fields, titles
from core.model.job import JOB_UNFINISHED, JobRecord, JobState
from core.model.node import NodeFields, NodeRecord
from core.model.outcome import FailureClass
from core.nodes.base import Diagnose, Node, NodeKind, Stands
from core.nodes.registry import node_kinds
from core.secrets import Secrets, variable_name
from core.surroundings import Surroundings

LONGEST_NAME = 64


class NodeTable(Protocol):
    """What the node book uses of the ledger."""

    def nodes(self) -> list[NodeRecord]: ...
    def node(self, name: str) -> NodeRecord | None: ...
    def save_node(self, record: NodeRecord) -> None: ...
    def remove_node(self, name: str) -> None: ...
    def profile(self, name: str) -> Profile | None: ...
    def save_profile(self, name: str, profile: Profile) -> None: ...
    def jobs(self) -> Sequence[JobRecord]: ...


class NodeBook:
    """Registered nodes. Thread-safe as far as the ledger and the keyring are; nothing is cached.

    Fields are kept as given, without those that equal their default and without secrets; secrets go to
    the keyring before the node is written, so that a node never exists without the secret it was given.

    Parameters
    ----------
    folder : Path | None
        Where nodes keep what they have to keep, each in a folder of its own.

    Attributes
    ----------
    surroundings : Surroundings
        What opened nodes know of each other and of this computer.
    engine_asks : bool
        An unattended engine has the secrets, and this process may not have them: it is not judged here who is let in.
    """

    def __init__(self, ledger: NodeTable, secrets: Secrets, folder: Path | None = None) -> None:
        self._ledger = ledger
        self._secrets = secrets
        self.engine_asks = False
        self.surroundings = Surroundings(self._open, lambda: [r.name for r in ledger.nodes()], folder)

    def all(self) -> list[NodeRecord]:
        """All nodes, by name."""
        return sorted(self._ledger.nodes(), key=lambda r: r.name.casefold())

    def get(self, name: str) -> NodeRecord:
        """The node of this name.

        Raises
        ------
        ConfigurationError
            There is none; the message names those that exist.
        """
        record = self._ledger.node(name)
        if record is None:
            record = next((r for r in self._ledger.nodes() if r.name.casefold() == name.strip().casefold()), None)
        if record is None:
            names = ", ".join(r.name for r in self.all())
            raise ConfigurationError(
                f"There is no node “{name}”.",
                f"Choose one of: {names}." if names else "Add one first: dicom-ferry node add.",
                code="unknown-node",
            )
        return record

    def add(self, kind: str, name: str, fields: Mapping[str, JsonValue], secrets: Mapping[str, str]) -> NodeRecord:
        """Register a node.

        Raises
        ------
        ConfigurationError
            The name is taken or unusable, or a field is wrong.
        SecretError
            The keyring refuses; nothing was registered.
        """
        name = self._new_name(name)
        checked = self.check(kind, fields, secrets)
        self._secrets.check_fit(name, secrets, titles(type(checked)))
        for field, value in secrets.items():
            if value:
                self._secrets.put(name, field, value)
        record = NodeRecord(name=name, kind=kind, fields=_plain(checked))
        self._ledger.save_node(record)
        return record

    def edit(self, name: str, fields: Mapping[str, JsonValue], secrets: Mapping[str, str]) -> NodeRecord:
        """Change a node: fields given replace, secrets given replace (an empty one is removed).

        Raises
        ------
        ConfigurationError
        SecretError
            The keyring refuses; the node stays as it was.
        """
        record = self.get(name)
        checked = self.check(record.kind, {**record.fields, **fields}, secrets)
        self._secrets.check_fit(record.name, secrets, titles(type(checked)))
        for field, value in secrets.items():
            if value:
                self._secrets.put(record.name, field, value)
            else:
                self._secrets.remove(record.name, (field,))
        changed = NodeRecord(name=record.name, kind=record.kind, fields=_plain(checked))
        self._ledger.save_node(changed)
        self.surroundings.forget()
        return changed

    def remove(self, name: str) -> None:
        """Forget a node and its secrets; its studies stay where they are, and so does the ledger's proof.

        Raises
        ------
        ConfigurationError
            An unfinished job uses it.
        SecretError
            The keyring refuses; the node stays.
        """
        record = self.get(name)
        users = [j.name or f"job {j.id}" for j in self._ledger.jobs() if _blocks_removal(j) and _uses(j, record.name)]
        if users:
            raise ConfigurationError(
                f"{record.name} is used by {', '.join(f'“{u}”' for u in users)}, which is not finished.",
                "Finish or cancel that first.",
                code="node-in-use",
            )
        self._secrets.remove(record.name, secret_fields(self.kind(record).Fields))
        self._ledger.remove_node(record.name)
        self.surroundings.forget()

    def listening(self) -> list[str]:
        """Names of the nodes that others call: an engine lets them listen for as long as it runs."""
        kinds = {name for name, kind in node_kinds.all().items() if kind.listens}
        return [r.name for r in self._ledger.nodes() if r.kind in kinds]

    def open(self, name: str) -> Node:
        """The opened node, without talking to it yet. The caller closes it.

        Raises
        ------
        ConfigurationError
            There is no such node, or its saved fields no longer fit its kind.
        SecretError
            A secret can't be had from the keyring.
        """
        return self._open(name, ())

    def _open(self, name: str, within: tuple[str, ...]) -> Node:
        record = self.get(name)
        fields = self.check(record.kind, record.fields, {})

        def secret(field: str) -> str | None:
            return self._secrets.get(record.name, field)

        context = self.surroundings.context(record.name, secret, self.profile(record.name), within)
        return self.kind(record).open(fields, context)

    def let_in(self, name: str) -> None:
        """Ask a node once whether it lets us in, before a job is started.

        A node that only can't be reached now is no reason to refuse: the job waits for it.

        Raises
        ------
        ConfigurationError
            What a person must change first: the password, the address, the certificate.
        """
        if self.engine_asks:
            return
        node = self.open(name)
        try:
            node.probe()
        except ConfigurationError:
            raise
        except FerryError as error:
            failure = node.failure(error, "destination")
            if failure.cls in (FailureClass.PERSON, FailureClass.PERMANENT, FailureClass.GONE):
                raise ConfigurationError(
                    failure.sentence or error.sentence,
                    failure.next_step or error.next_step,
                    detail=error.detail,
                    code=failure.code,
                ) from error
        finally:
            node.close()

    def open_draft(self, kind: str, name: str, fields: Mapping[str, JsonValue], secrets: Mapping[str, str]) -> Node:
        """A node that is not saved yet, opened to be tried. Secrets not given come from where they are kept."""
        checked = self.check(kind, fields, secrets)

        def secret(field: str) -> str | None:
            if field in secrets:
                return secrets[field] or None
            return self._secrets.get(name, field) if self._ledger.node(name) is not None else None

        return node_kinds.get(kind).open(checked, self.surroundings.context(name or kind, secret, None))

    def diagnose(self, name: str) -> Iterator[DiagnosisStep]:
        """Look at a node in named steps, each given as it ends; keeps the dated profile at the end."""
        record = self.get(name)
        steps: list[DiagnosisStep] = []
        facts: tuple[tuple[str, str], ...] = ()
        try:
            node = self.open(record.name)
        except FerryError as error:
            steps.append(_failed("Set up", error))
            yield steps[-1]
        else:
            try:
                for step in diagnosis(node):
                    steps.append(step)
                    yield step
                if isinstance(node, Diagnose):
                    facts = node.facts()
            finally:
                node.close()
        self._ledger.save_profile(record.name, Profile(datetime.now(UTC), tuple(steps), facts))

    def diagnose_draft(
        self, kind: str, name: str, fields: Mapping[str, JsonValue], secrets: Mapping[str, str]
    ) -> Generator[DiagnosisStep, None, Profile]:
        """As `diagnose`, for a node that is not saved yet; nothing is kept.

        The profile that would have been kept is what the generator returns.
        """
        try:
            node = self.open_draft(kind, name, fields, secrets)
        except FerryError as error:
            step = _failed("Set up", error)
            yield step
            return Profile(datetime.now(UTC), (step,))
        steps: list[DiagnosisStep] = []
        try:
            with self.surroundings.trying(name or kind, node):
                for step in diagnosis(node):
                    steps.append(step)
                    yield step
            facts = node.facts() if isinstance(node, Diagnose) else ()
        finally:
            node.close()
        return Profile(datetime.now(UTC), tuple(steps), facts)

    def standing(self, name: str) -> Standing | None:
        """How a node stands right now; None for one that has no more to say than whether it works.

        Raises
        ------
        FerryError
            It can't be told.
        """
        node = self.open(name)
        try:
            return node.standing() if isinstance(node, Stands) else None
        finally:
            node.close()

    def suggestions(self, kind: str, field: str, fields: Mapping[str, JsonValue]) -> Sequence[Suggestion]:
        """Values to choose from for a field of a node that is being made; may ask the nodes that it names.

        Raises
        ------
        FerryError
            They can't be asked now.
        """
        return node_kinds.get(kind).suggestions(field, fields, self.open)

    def receiving(self) -> dict[str, str]:
        """What the nodes that listen do, by name: "receives images as FERRY on port 11112"."""
        found = {}
        for name in self.listening():
            record = self.get(name)
            with contextlib.suppress(ConfigurationError):  # fields that no longer fit: the nodes page says so
                found[name] = self.kind(record).receives(self.check(record.kind, record.fields, {}))
        return {name: words for name, words in found.items() if words}

    def profile(self, name: str) -> Profile | None:
        """What the last diagnosis found; None where there was none."""
        return self._ledger.profile(name)

    def kind(self, record: NodeRecord) -> NodeKind:
        return node_kinds.get(record.kind)

    def address(self, record: NodeRecord) -> str:
        """Where the node is, in one short line; empty where its saved fields no longer fit."""
        try:
            return self.kind(record).address(self.check(record.kind, record.fields, {}))
        except ConfigurationError:
            return ""

    def warnings(
        self, kind: str, fields: Mapping[str, JsonValue], secrets: Mapping[str, str], *, name: str = ""
    ) -> list[str]:
        """Sentences a person should read before these fields are saved."""
        checked = self.check(kind, fields, secrets)
        given = any(secrets.values()) or any(
            self._secrets.from_environment(name, field) for field in secret_fields(type(checked)) if name
        )
        return node_kinds.get(kind).warnings(checked, has_secret=given)

    def derived(self, kind: str, fields: Mapping[str, JsonValue]) -> tuple[tuple[str, str], ...]:
        """What follows from the fields: titles and values, to be seen before they are saved."""
        return node_kinds.get(kind).derived(self.check(kind, fields, {}))

    def has_secret(self, name: str, field: str) -> bool:
        """Whether this secret is kept (or given by the environment).

        Raises
        ------
        SecretError
        """
        return self._secrets.get(name, field) is not None

    def secret(self, name: str, field: str) -> str | None:
        """A secret that is kept (or given by the environment), to be handed on because the person asked for it.

        Raises
        ------
        SecretError
        """
        return self._secrets.get(self.get(name).name, field)

    def check(self, kind: str, fields: Mapping[str, JsonValue], secrets: Mapping[str, str]) -> NodeFields:
        """Fields as their kind's model, without the secrets' values.

        Raises
        ------
        ConfigurationError
            Naming the fields by their titles.
        """
        model = node_kinds.get(kind).Fields
        allowed = secret_fields(model)
        stray = [f for f in fields if f in allowed and fields[f]]
        if stray:
            raise ConfigurationError(
                f"“{stray[0]}” is a secret and is never kept among the fields.", "Give it as a secret.", code="secret"
            )
        unknown = [s for s in secrets if s not in allowed]
        if unknown:
            known = ", ".join(allowed)
            raise ConfigurationError(
                f"A node of the kind {kind} has no secret “{unknown[0]}”.",
                f"Its secrets are: {known}." if known else "It has no secrets.",
                code="secret",
            )
        plain = {k: v for k, v in fields.items() if k not in allowed}
        try:
            model.model_validate({**plain, **{k: v for k, v in secrets.items() if v}})
            return model.model_validate(plain)
        except ValidationError as error:
            raise explain(error, model) from error

    def need_keyring(self, name: str, secrets: Mapping[str, str]) -> None:
        """Refuse to go on where a secret would be forgotten when this process ends (the command line's case).

        Raises
        ------
        SecretError
            Naming the environment variable to set instead.
        """
        status = self._secrets.status()
        wanted = [field for field, value in secrets.items() if value]
        if wanted and not status.available:
            variables = " and ".join(variable_name(name, field) for field in wanted)
            raise SecretError(
                f"{status.sentence} The secret of {name} can't be kept, so nothing was changed.",
                f"Leave out --secret-stdin, and set the environment variable {variables} whenever DICOM Ferry runs; "
                f'to the unattended engine it is given by: dicom-ferry service secret "{name}".',
                code="no-keyring",
            )

    def _new_name(self, name: str) -> str:
        name = unicodedata.normalize("NFC", name.strip())
        if not 1 <= len(name) <= LONGEST_NAME:
            raise _bad_name(f"A node's name has 1 to {LONGEST_NAME} characters.")
        if name.startswith("-") or any(c in ',;:"/\\<>|*?' or not c.isprintable() for c in name):
            raise _bad_name(f"“{name}” can't be a node's name.")
        if not any(c.isalnum() for c in name):
            raise _bad_name("A node's name needs a letter or a digit.")
        for record in self._ledger.nodes():
            if record.name == name:
                raise ConfigurationError(
                    f"There is a node “{name}” already.",
                    "Choose another name, or change that one: dicom-ferry node edit.",
                    code="node-exists",
                )
            if variable_name(record.name) == variable_name(name):
                # Also for safety: both would take their password from the same environment variable.
                raise ConfigurationError(
                    f"“{name}” is too much like “{record.name}”.",
                    "Choose a name that differs in more than case and signs.",
                    code="node-exists",
                )
        return name


def diagnosis(node: Node) -> Iterator[DiagnosisStep]:
    """The steps of a node's own diagnosis, or whether it is there, for one that has none."""
    if isinstance(node, Diagnose):
        yield from node.diagnose()
        return
    try:
        node.probe()
    except FerryError as error:
        yield _failed("It answers", error)
    else:
        yield DiagnosisStep("It answers", StepResult.OK)


def _failed(name: str, error: FerryError) -> DiagnosisStep:
    return DiagnosisStep(name, StepResult.FAILED, error.sentence, error.next_step, error.detail)


def _plain(fields: NodeFields) -> dict[str, JsonValue]:
    dumped: dict[str, JsonValue] = fields.model_dump(
        mode="json", exclude=set(secret_fields(type(fields))), exclude_defaults=True
    )
    return dumped


def _blocks_removal(job: JobRecord) -> bool:
    return job.state in JOB_UNFINISHED or (job.state is JobState.FINISHED and job.follow)


def _uses(job: JobRecord, name: str) -> bool:
    used = registered((*job.sources, *job.destinations))
    fallback = job.fields.get("fallback")
    return name in used or fallback == name


def _bad_name(sentence: str) -> ConfigurationError:
    return ConfigurationError(
        sentence, "Use letters, digits, spaces, points, dashes or brackets, such as “MRI 2 (west)”.", code="node-name"
    )
