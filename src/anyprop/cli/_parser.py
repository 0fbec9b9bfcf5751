"""Parsing that ends in one sentence when it fails, and what a wrong call is."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from anyprop._usage import nearest
from anyprop.backend import BackendUnavailableError


class WrongCallError(Exception):
    """The user asked for something that cannot be done; the message is one sentence."""

    def __init__(self, message: object) -> None:
        text = " ".join(str(message).split())
        super().__init__(text if text.endswith((".", "?")) else f"{text}.")


class Parser(argparse.ArgumentParser):
    """A parser that raises `WrongCallError`, and whose options cannot be abbreviated."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def parse_known_args(self, *args: Any, **options: Any) -> Any:
        """Refuse what is left over where the options are known, in the parser of a command."""
        found, left = super().parse_known_args(*args, **options)
        if left:
            near = nearest(_plain(left[0]), self._names()) if left[0].startswith("--") else ""
            hint = f"; did you mean --{near.replace('_', '-')}?" if near else ""
            self.error(f"unrecognized arguments: {' '.join(left)}{hint}")
        return found, left

    def _names(self) -> list[str]:
        return [_plain(name) for action in self._actions for name in action.option_strings]

    def error(self, message: str) -> NoReturn:
        raise WrongCallError(message)


def _plain(option: str) -> str:
    """Return the name of an option as that of an argument would be."""
    return option.lstrip("-").partition("=")[0].replace("-", "_")


class VersionAction(argparse.Action):
    """What `--version` does: the version is looked up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *unused: object) -> NoReturn:
        print(f"anyprop {version()}")
        parser.exit()


def version() -> str:
    """Return the version of anyprop that is installed."""
    import importlib.metadata

    return importlib.metadata.version("anyprop")


@contextlib.contextmanager
def wrong_calls() -> Iterator[None]:
    """Turn the library's refusals of what the user asked for into `WrongCallError`.

    A package that is not installed is one of them: the message names the extra.

    It is used around preparation only: an error in the training itself is a defect, and its
    traceback is wanted.
    """
    try:
        yield
    except (ValueError, TypeError, OverflowError, ImportError, BackendUnavailableError) as error:
        raise WrongCallError(error) from error
    except MemoryError as error:
        raise WrongCallError(f"this needs more memory than there is: {error}") from error
    except OSError as error:
        raise WrongCallError(os_error(error)) from error


def os_error(error: OSError) -> str:
    """Return as text what the system refused, and for which file."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def option(
    group: argparse._ActionsContainer,
    name: str,
    metavar: str,
    read: Callable[[str], Any],
    default: str | None,
    help: str,
) -> None:
    """Add an option whose value is read from its text; its default is named in the help."""
    if default is not None:
        help += f" (default: {default})"
    group.add_argument(name, metavar=metavar, type=read, default=default, help=help)


def require_extras(*packages: str, extra: str = "cli") -> None:
    """Raise WrongCallError unless these packages, which an extra provides, are installed."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise WrongCallError(
                f'{package} is not installed; run pip install "anyprop[{extra}]" first.'
            )
