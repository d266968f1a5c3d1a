"""Settings: four sources in order, errors that name setting and source, and no secret in any of them."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from contextdna import HubSettings, Level, ProjectId, Role, SettingsInvalid
from contextdna.values.settings import GatesInForce
from contextdna_server.settings import Settings, load_settings, secret_variables, settings_variables

SECRET = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3I"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("CONTEXTDNA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setenv("HOME", str(tmp_path))


def refused(folder: Path, text: str, *, name: str = "contextdna.toml") -> SettingsInvalid:
    (folder / name).write_text(text)
    with pytest.raises(SettingsInvalid) as caught:
        load_settings({"data": folder})
    return caught.value


# Defaults


def test_without_any_source_the_defaults_are_those_of_the_hub(tmp_path: Path) -> None:
    settings = load_settings({"data": tmp_path})
    assert settings.to_hub_settings() == HubSettings(data_dir=tmp_path)


def test_the_local_user_has_the_role_system_and_the_project_default(tmp_path: Path) -> None:
    principal = load_settings({"data": tmp_path}).to_principal()
    assert (principal.agent_id, principal.role, principal.project_ids) == ("local", Role.SYSTEM, ("default",))


def test_every_hub_setting_can_be_set(tmp_path: Path) -> None:
    (tmp_path / "contextdna.toml").write_text(
        f"""
        projects = ["a"]
        master_key = "{SECRET}"
        os_keyring = true
        [memories]
        default_level = "team"
        extra_types = ["haiku"]
        [audit]
        reads = "wait"
        [limits]
        batch_max = 7
        [search]
        matches_max = 7
        [retention]
        idle_days = 7
        [work]
        confidence_gate = 0.7
        [storage]
        database = "postgresql://user@host/name"
        cache = "redis://host"
        artifacts = "s3://bucket/prefix"
        spool = false
        spool_bytes_max = 7
        when_unusable = "memory"
        [storage.postgres]
        pool_max = 7
        [storage.redis]
        connections_max = 7
        [storage.s3]
        threads_max = 7
        [sqlite]
        readers = 7
        busy_timeout_s = 7
        group_max = 7
        """
    )
    hub, default = load_settings({"data": tmp_path}).to_hub_settings(), HubSettings()
    unset = [f.name for f in dataclasses.fields(HubSettings) if getattr(hub, f.name) == getattr(default, f.name)]
    assert unset == ["write_ahead"]  # not with a database elsewhere
    assert hub.default_level is Level.TEAM


def test_a_database_that_is_none_is_told_what_may_be_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"postgresql://.* memory: .* SQLite"):
        load_settings({"data": tmp_path, "storage": {"database": "memory"}})


def test_a_database_in_memory_is_kept_by_its_log_alone(tmp_path: Path) -> None:
    given = {"data": tmp_path, "storage": {"database": "memory:"}}
    hub = load_settings(given).to_hub_settings()
    assert (hub.data_dir, hub.database, hub.write_ahead) == (None, "", False)
    given["storage"] = {"database": "memory:", "write_ahead": True}
    hub = load_settings(given).to_hub_settings()
    assert (hub.data_dir, hub.database, hub.write_ahead) == (tmp_path, "", True)
    with pytest.raises(SettingsInvalid, match="write_ahead goes with a database of memory:"):
        load_settings({"data": tmp_path, "storage": {"write_ahead": True}})


@pytest.mark.parametrize("name", ["limits", "search", "retention", "work"])
def test_every_field_of_a_hub_section_is_a_setting(name: str, tmp_path: Path) -> None:
    section = getattr(load_settings({"data": tmp_path}), name)
    assert set(type(section).model_fields) == {field.name for field in dataclasses.fields(getattr(HubSettings(), name))}


@pytest.mark.parametrize("name", ["postgres", "redis", "s3"])
def test_every_field_of_an_engine_is_a_setting(name: str, tmp_path: Path) -> None:
    section = getattr(load_settings({"data": tmp_path}).storage, name)
    assert set(type(section).model_fields) == {field.name for field in dataclasses.fields(getattr(HubSettings(), name))}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ARTIFACTS", "s3://AKIAHIDDEN:hidden@bucket"),
        ("S3__ALLOWED_SOURCES", "s3://reports/../hidden"),
        ("S3__IMPORT_PREFIX", "in/../hidden"),
        ("S3__LINK_ENDPOINT_URL", "https://hidden@host"),
        ("S3__KMS_KEY_ID", "hidden-without-kms"),
        ("S3__PART_BYTES", "1024"),
        ("S3__PRESIGN_S", "604801"),
    ],
)
def test_what_s3_cannot_be_told_is_refused_by_name_and_not_repeated(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"CONTEXTDNA_STORAGE__{name}", value)
    with pytest.raises(SettingsInvalid) as refused:
        load_settings({"data": tmp_path})
    assert refused.value.code == "setting_invalid"
    assert "storage." in refused.value.message
    assert "hidden" not in f"{refused.value.message}{refused.value.hint}".lower()


# Order


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "contextdna.toml").write_text(
        'log_level = "DEBUG"\n[identity]\nagent_id = "file"\nteam_id = "file"\nswarm_id = "file"\n'
    )
    monkeypatch.setenv("CONTEXTDNA_IDENTITY__TEAM_ID", "environment")
    monkeypatch.setenv("CONTEXTDNA_IDENTITY__SWARM_ID", "environment")
    settings = load_settings({"data": tmp_path, "identity": {"swarm_id": "line"}})
    identity = settings.identity
    assert (identity.agent_id, identity.team_id, identity.swarm_id) == ("file", "environment", "line")
    assert settings.log_level == "DEBUG"


@pytest.mark.parametrize("text", ["a, b", '["a", "b"]'])
def test_projects_come_from_a_variable_as_a_list_or_as_json(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTEXTDNA_PROJECTS", text)
    assert load_settings({"data": tmp_path}).projects == ("a", "b")


def test_more_projects_are_added_to_those_that_are_set(tmp_path: Path) -> None:
    assert load_settings({"data": tmp_path}, more_projects=["b", "default"]).projects == ("default", "b")


def test_the_data_folder_comes_from_its_variable_and_brings_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "contextdna.yaml").write_text("identity:\n  agent_id: yam\n")
    monkeypatch.setenv("CONTEXTDNA_DATA", str(tmp_path))
    settings = load_settings()
    assert (settings.data, settings.identity.agent_id) == (tmp_path, "yam")


def test_a_file_named_by_the_config_variable_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yml").write_text("data: here\nos_keyring: true\n")
    monkeypatch.setenv("CONTEXTDNA_CONFIG", str(tmp_path / "mine.yml"))
    settings = load_settings()
    assert (settings.data, settings.os_keyring) == (tmp_path / "here", True)


# References


def test_references_in_a_file_are_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHO", "ines")
    (tmp_path / "contextdna.toml").write_text(
        '[identity]\nagent_id = "$WHO"\nteam_id = "${WHO}s"\n[artifacts]\nallowed_roots = ["$$HOME"]\n'
    )
    settings = load_settings({"data": tmp_path})
    assert (settings.identity.agent_id, settings.identity.team_id) == ("ines", "iness")
    assert settings.artifacts.allowed_roots == (tmp_path / "$HOME",)


def test_a_file_of_tokens_is_meant_from_the_folder_of_the_settings_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "contextdna.toml").write_text('[search]\ntoken_file = "some.tiktoken"\n')
    assert load_settings({"data": tmp_path}).to_hub_settings().search.token_file == tmp_path / "some.tiktoken"
    other = tmp_path / "elsewhere" / "other.tiktoken"
    monkeypatch.setenv("CONTEXTDNA_SEARCH__TOKEN_FILE", str(other))
    assert load_settings({"data": tmp_path}).to_hub_settings().search.token_file == other


def test_a_reference_to_an_unset_variable_names_setting_and_variable(tmp_path: Path) -> None:
    error = refused(tmp_path, '[identity]\nagent_id = "$NOBODY_SET_THIS"')
    assert error.code == "variable_unset"
    assert "identity.agent_id" in error.message
    assert "$NOBODY_SET_THIS" in error.message


# Errors


def test_an_unknown_setting_is_refused_with_a_near_miss(tmp_path: Path) -> None:
    error = refused(tmp_path, '[identity]\nagnet_id = "x"')
    assert (error.code, error.hint) == ("setting_unknown", "Did you mean agent_id?")
    assert "identity.agnet_id" in error.message
    assert str(tmp_path / "contextdna.toml") in error.message


def test_an_unknown_variable_is_refused_with_a_near_miss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTEXTDNA_MASTERKEY", SECRET)
    with pytest.raises(SettingsInvalid, match="CONTEXTDNA_MASTERKEY") as caught:
        load_settings({"data": tmp_path})
    assert "CONTEXTDNA_MASTER_KEY" in caught.value.hint


def test_an_invalid_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTEXTDNA_LIMITS__BATCH_MAX", "many")
    with pytest.raises(SettingsInvalid, match=r"limits\.batch_max.*CONTEXTDNA_LIMITS__BATCH_MAX"):
        load_settings({"data": tmp_path})


NUMBERS = [
    f"{section}.{name}"
    for section, shape in Settings.model_fields.items()
    if isinstance(shape.annotation, type) and issubclass(shape.annotation, BaseModel)
    for name, field in shape.annotation.model_fields.items()
    if type(field.default) in (int, float)
]


def test_the_numbers_among_the_settings_are_found() -> None:
    assert {"work.session_ttl_s", "retention.restore_window_days", "limits.batch_max", "sqlite.readers"} <= {*NUMBERS}


@pytest.mark.parametrize("value", ["1e300", "1" + "0" * 18, "-1", "inf", "nan"])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_out_of_all_bounds_is_refused_by_name(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"CONTEXTDNA_{name.replace('.', '__').upper()}"
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsInvalid, match=f"{name}.*{variable}") as caught:
        load_settings({"data": tmp_path})
    assert caught.value.code == "setting_invalid"


def test_ten_years_and_a_hundred_years_are_in_bounds(tmp_path: Path) -> None:
    sections = {"work": {"session_ttl_max_s": 3650 * 86_400}, "retention": {"restore_window_days": 36_500}}
    assert load_settings({"data": tmp_path, **sections}).retention.restore_window_days == 36_500


@pytest.mark.parametrize(
    "text",
    [
        f"master_key: [{SECRET}]",
        f"master_key: [{SECRET}",
        f"master_key: *{SECRET}",
        f"identity: {SECRET}",
        f"projects: {SECRET}/",
        f"{{master_key: {SECRET}, limits: {{batch_max: {SECRET}}}}}",
    ],
)
def test_no_error_repeats_a_value(text: str, tmp_path: Path) -> None:
    error = refused(tmp_path, text, name="contextdna.yaml")
    assert SECRET not in f"{error.message} {error.hint} {error.__cause__}"


def test_a_broken_section_variable_is_refused_without_its_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTEXTDNA_IDENTITY", SECRET)
    with pytest.raises(SettingsInvalid, match="identity") as caught:
        load_settings({"data": tmp_path})
    assert SECRET not in caught.value.message


def test_secrets_are_masked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTEXTDNA_MASTER_KEY", SECRET)
    settings = load_settings({"data": tmp_path})
    assert settings.to_hub_settings().master_key == SECRET
    assert SECRET not in f"{settings!r} {settings.masked()}"


def test_a_file_gives_the_master_key_where_nothing_else_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    file.write_text(f"{SECRET}\n")
    settings = load_settings({"data": tmp_path, "master_key_file": file})
    assert settings.to_hub_settings().master_key.strip() == SECRET
    assert SECRET not in f"{settings!r} {settings.masked()}"
    monkeypatch.setenv("CONTEXTDNA_MASTER_KEY", "another")
    assert load_settings({"data": tmp_path, "master_key_file": file}).to_hub_settings().master_key == "another"


@pytest.mark.parametrize("content", [None, b" \n", b"\xff\xfe"])
def test_without_the_file_that_has_the_master_key_nothing_starts(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsInvalid) as caught:
        load_settings({"data": tmp_path, "master_key_file": file})
    assert caught.value.code == "master_key_file_unreadable"


def test_the_key_of_an_embedding_endpoint_is_a_secret_that_is_left_out_of_hosts_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret")
    (tmp_path / "contextdna.toml").write_text('[search]\nembedder = "openai"\nembedding_key = "$MY_KEY"\n')
    settings = load_settings({"data": tmp_path})
    assert settings.to_hub_settings().search.embedding_key == "sk-secret"
    assert "sk-secret" not in f"{settings!r} {settings.masked()} {settings.to_hub_settings()}"
    environ = {"CONTEXTDNA_SEARCH__EMBEDDING_KEY": "sk-secret", "CONTEXTDNA_SEARCH__EMBEDDER": "openai"}
    assert settings_variables(environ) == {"CONTEXTDNA_SEARCH__EMBEDDER": "openai"}
    assert secret_variables(environ) == ["CONTEXTDNA_SEARCH__EMBEDDING_KEY"]


def test_two_settings_files_in_one_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "contextdna.toml").touch()
    assert refused(tmp_path, "", name="contextdna.yaml").code == "settings_file_ambiguous"


def test_a_settings_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"nope\.toml"):
        load_settings(config=tmp_path / "nope.toml")


def test_yaml_is_read_safely(tmp_path: Path) -> None:
    error = refused(tmp_path, "projects: !!python/object/apply:os.system ['true']", name="contextdna.yaml")
    assert error.code == "settings_file_invalid"


# Cost


def test_reading_settings_imports_neither_yaml_nor_the_sdk() -> None:
    code = "import sys, contextdna_server.settings; print({'yaml', 'mcp', 'platformdirs'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_projects_have_gates_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "contextdna.toml").write_text("[work.gates]\nwebsite = { consensus = 0.95 }\n")
    work = load_settings({"data": tmp_path}).to_hub_settings().work
    assert work.gates_of(ProjectId("website")) == GatesInForce(0.75, 0.95)
    assert work.gates_of(ProjectId("default")) == GatesInForce(0.75, 0.9)
    monkeypatch.setenv("CONTEXTDNA_WORK__GATES", '{"app": {"confidence": 0, "consensus": 1}}')
    work = load_settings({"data": tmp_path}).to_hub_settings().work
    assert work.gates_of(ProjectId("app")) == GatesInForce(0.0, 1.0)
    monkeypatch.setenv("CONTEXTDNA_WORK__GATES", '{"app": {"confidence": 2}}')
    with pytest.raises(SettingsInvalid) as caught:
        load_settings({"data": tmp_path})
    assert "work.gates.app.confidence" in caught.value.message
