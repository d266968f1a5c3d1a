"""The settings file: finding it, reading TOML or YAML, and putting environment variables in for `$VAR` references."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from contextdna.errors import SettingsInvalid

FILE_NAMES: Final = ("contextdna.toml", "contextdna.yaml", "contextdna.yml")
FILE_BYTES_MAX: Final = 1024 * 1024

_REFERENCE: Final = re.compile(r"\$(?:(\$)|\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*)|(\{))")
_PATHS: Final = (("data",), ("artifacts", "allowed_roots"), ("search", "token_file"))
"""Settings that hold paths: relative ones in a file are meant from the file's folder."""


def find_settings_file(data_dir: Path) -> Path | None:
    """Look for the settings file of a data folder.

    Raises:
        SettingsInvalid: ``settings_file_ambiguous``: there are several.
    """
    found = [data_dir / name for name in FILE_NAMES if (data_dir / name).is_file()]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise SettingsInvalid(
            f"{data_dir} holds {names}", code="settings_file_ambiguous", hint="Keep one, or name it with --config FILE."
        )
    return found[0] if found else None


def read_settings_file(path: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """Read a settings file, references resolved, relative paths made absolute.

    Raises:
        SettingsInvalid: It cannot be read or parsed, or refers to a variable that is not set.
    """
    document = _parse(path, _text_of(path))
    if not isinstance(document, dict):
        raise _invalid(path, "it is not a table of settings")
    resolved: dict[str, Any] = _resolve(document, environ, path=path, setting="")
    for keys in _PATHS:
        _anchor(resolved, keys, path.absolute().parent)
    return resolved


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise _invalid(path, f"it is larger than {FILE_BYTES_MAX} bytes")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise SettingsInvalid(
            f"the settings file {path} cannot be read: {error.strerror}",
            code="settings_file_unreadable",
            hint="Check the path given by --config or CONTEXTDNA_CONFIG, and the file's permissions.",
        ) from error
    except UnicodeDecodeError as error:
        raise _invalid(path, "it is not UTF-8 text") from error


def _parse(path: Path, text: str) -> object:
    if path.suffix in (".yaml", ".yml"):
        return _parse_yaml(path, text)
    if path.suffix != ".toml":
        raise _invalid(path, "its name ends neither in .toml nor in .yaml or .yml")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _invalid(path, f"it is not valid TOML: {error}") from None


def _parse_yaml(path: Path, text: str) -> object:
    import yaml  # type: ignore[import-untyped]  # here, as only those who write YAML wait for it

    try:
        return yaml.safe_load(text) or {}
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark  # the error's own text quotes the file, which may hold a secret
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise _invalid(path, f"it is not valid YAML{where}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise _invalid(path, "it is not valid YAML") from None


def _resolve(value: Any, environ: Mapping[str, str], *, path: Path, setting: str) -> Any:
    if isinstance(value, dict):
        return {
            str(key): _resolve(item, environ, path=path, setting=f"{setting}.{key}".lstrip("."))
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_resolve(item, environ, path=path, setting=setting) for item in value]
    return _resolve_text(value, environ, path=path, setting=setting) if isinstance(value, str) else value


def _resolve_text(text: str, environ: Mapping[str, str], *, path: Path, setting: str) -> str:
    def put_in(match: re.Match[str]) -> str:
        literal, braced, plain, broken = match.groups()
        if literal:
            return "$"
        if broken:
            raise _invalid(path, f"{setting} holds a ${{ that names no variable; write $$ for a dollar sign")
        name = braced or plain
        if name not in environ:
            raise SettingsInvalid(
                f"setting {setting} refers to ${name}, which is not set ({path})",
                code="variable_unset",
                hint=f"Set the environment variable {name}, or write $$ for a dollar sign.",
            )
        return environ[name]

    return _REFERENCE.sub(put_in, text)


def _anchor(document: dict[str, Any], keys: tuple[str, ...], folder: Path) -> None:
    for key in keys[:-1]:
        document = document[key] if isinstance(document.get(key), dict) else {}
    value = document.get(keys[-1])
    if isinstance(value, str):
        document[keys[-1]] = str(folder / Path(value).expanduser())
    elif isinstance(value, list):
        document[keys[-1]] = [
            str(folder / Path(item).expanduser()) if isinstance(item, str) else item for item in value
        ]


def _invalid(path: Path, problem: str) -> SettingsInvalid:
    return SettingsInvalid(
        f"the settings file {path}: {problem}", code="settings_file_invalid", hint="Correct the file."
    )
