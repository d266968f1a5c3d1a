"""``contextdna keys``: the key file, rotation, and which keys there are. No command shows a key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from contextdna import RotationReport, SettingsInvalid
from contextdna_server.commands.invocation import Invocation, progress, run_async, table, with_shared_options
from contextdna_server.commands.operator import open_as_operator, project_option, shown_project
from contextdna_server.settings import Settings


@click.group()
def keys() -> None:
    """Make, rotate and list encryption keys."""


@keys.command("init")
@with_shared_options
def make(invocation: Invocation) -> None:
    """Make the key file of a new installation; never overwrites one."""
    from contextdna.backends.key_ring import create_key_file
    from contextdna_server.installation import has_keys

    settings = invocation.settings()
    path = _key_file(settings)
    if path.exists():
        raise SettingsInvalid(
            f"{path} is there already", code="key_file_exists", hint="Keep it; `keys rotate` adds keys."
        )
    if has_keys(settings):
        raise SettingsInvalid(
            "there is an installation that a new key would not open",
            code="key_missing",
            hint=f"Put {path.name} back from a backup, or set CONTEXTDNA_MASTER_KEY.",
        )
    ring = create_key_file(path)
    invocation.answer(
        {"key_file": str(path), "master_key_id": ring.current_id},
        [f"key file {path} with master key {ring.current_id}", "Back it up: without it nothing encrypted opens."],
    )


@keys.command()
@click.option("--master", is_flag=True, help="Add a new master key to the key file or keyring first.")
@project_option
@with_shared_options
def rotate(invocation: Invocation, projects: tuple[str, ...], master: bool) -> None:
    """Add data keys and re-encrypt records under them.

    The bytes of artifacts, signals, and the task, progress and working state of sessions, are not re-encrypted: they
    stay under the older data keys, which are kept and still open them. Keys under an older master key are wrapped
    under the current one. Servers may keep running.
    """
    settings = invocation.settings()
    if master:
        _add_master_key(settings)

    async def run() -> list[RotationReport]:
        async with open_as_operator(settings, projects) as operator:
            reports = []
            for project_id in operator.chosen:
                with progress(f"Re-encrypting {project_id}") as advance:
                    reports.append(await operator.workspace(project_id).rotate_keys(progress=advance))
            return reports

    reports = run_async(run)
    rewrapped = sum(report.rewrapped for report in reports)
    rows = [(report.project_id, report.key_id, _counts(report)) for report in reports]
    invocation.answer(
        {"rewrapped": rewrapped, "projects": [_rotation(report) for report in reports]},
        [f"{rewrapped} keys wrapped under the current master key", *table(rows)],
    )


def _counts(report: RotationReport) -> str:
    unreadable = f", {report.unreadable} do not open and stay as they are" if report.unreadable else ""
    return f"{report.resealed} records re-encrypted{unreadable}"


def _rotation(report: RotationReport) -> dict[str, Any]:
    return {
        "project": report.project_id,
        "key_id": report.key_id,
        "records_reencrypted": report.resealed,
        "records_unreadable": report.unreadable,
    }


def _add_master_key(settings: Settings) -> None:
    from contextdna.backends.key_ring import add_master_key
    from contextdna.backends.os_keyring import add_os_keyring_key
    from contextdna_server.installation import require_installation

    if settings.os_keyring and not settings.master_key.get_secret_value():
        require_installation(settings)
        ring = add_os_keyring_key()
        click.echo(f"new master key {ring.current_id} in the keyring: back it up, restart running servers", err=True)
        return
    path = _key_file(settings)
    require_installation(settings)
    ring = add_master_key(path)
    click.echo(f"new master key {ring.current_id} in {path}: back the file up", err=True)


@keys.command("list")
@with_shared_options
def show(invocation: Invocation) -> None:
    """List the project keys; none is shown.

    Each with its id, version and date, and the master key that wraps it.
    """
    from contextdna_server.installation import look_at, wrapped_keys

    with look_at(invocation.settings()) as view:
        found = wrapped_keys(view) if view.schema().current else []
    documents = [
        {
            "project": shown_project(key.project_id),
            "purpose": key.purpose.value,
            "version": key.version,
            "key_id": key.key_id,
            "master_key_id": key.master_id,
            "created_at": key.created_at.isoformat(timespec="seconds"),
        }
        for key in sorted(found, key=lambda key: (key.project_id, key.purpose, key.version))
    ]
    heading = ("project", "purpose", "version", "key", "master key", "created")
    rows = [tuple(str(value) for value in document.values()) for document in documents]
    invocation.answer({"keys": documents}, table([heading, *rows], indent=""))


def _key_file(settings: Settings) -> Path:
    """Give the key file's path, where the master key is one in a file.

    Raises:
        SettingsInvalid: ``key_not_in_file``.
    """
    from contextdna.hub.opening import KEY_FILE

    if settings.master_key.get_secret_value():
        raise _not_in_file(
            "master_key",
            "Put a new key behind the old one there (OLD,NEW), restart the servers, run `contextdna keys rotate`, "
            "then take the old one out.",
        )
    if settings.os_keyring:
        raise _not_in_file("os_keyring", "`serve` puts a key there; `contextdna keys rotate --master` adds one.")
    return settings.data / KEY_FILE


def _not_in_file(source: str, hint: str) -> SettingsInvalid:
    return SettingsInvalid(
        f"the master key comes from the setting {source}, not from a key file", code="key_not_in_file", hint=hint
    )
