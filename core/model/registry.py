"""One walk over a package finds its kinds; the program and the packaging use the same."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Generic, TypeVar

from core.model.errors import ConfigurationError

K = TypeVar("K")


class Registry(Generic[K]):
    """Kinds by name, in the order of registration.

    Parameters
    ----------
    package : str
        Dotted name of the package whose modules register themselves in their last line.
    noun : str
        "node kind", for messages.
    """

    def __init__(self, package: str, noun: str) -> None:
        self._package = package
        self._noun = noun
        self._kinds: dict[str, K] = {}
        self._walked = False

    def register(self, name: str, kind: K) -> K:
        if name in self._kinds and type(self._kinds[name]) is not type(kind):
            raise ValueError(f"{self._noun} {name!r} is registered twice")
        self._kinds[name] = kind
        return kind

    def modules(self) -> list[str]:
        """Dotted names of all modules of the package that may register a kind."""
        package = importlib.import_module(self._package)
        return [f"{self._package}.{m.name}" for m in pkgutil.iter_modules(package.__path__)]

    def all(self) -> dict[str, K]:
        if not self._walked:
            for module in self.modules():
                importlib.import_module(module)
            self._walked = True
        return dict(self._kinds)

    def get(self, name: str) -> K:
        """The kind of this name.

        Raises
        ------
        ConfigurationError
            Naming those that exist.
        """
        kinds = self.all()
        if name not in kinds:
            raise ConfigurationError(
                f"There is no {self._noun} “{name}”.",
                f"Choose one of: {', '.join(sorted(kinds))}.",
                code="kind",
            )
        return kinds[name]
