"""Keys and passwords are hidden, and ordinary text stays as it is."""

from __future__ import annotations

import json

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpo_dspy.secrets import HIDDEN, Secrets, is_secret_variable, without_password
from tests.gpo_dspy.fakes import scripted_lm, toy_solver

KEY = "A1b2-C3d4.E5f6/G7h8"


def test_keys_and_headers_of_lms_are_hidden() -> None:
    lm = dspy.LM(
        "openai/my-model",
        api_key=KEY,
        api_base="http://user:pa55w0rd!@localhost:8000/v1",
        extra_headers={"X-Api-Key": "header-key-1", "Authorization": "Bearer t0ken-of-header"},
        model_list=[{"litellm_params": {"api_key": "nested-key-2"}}],
        temperature=0.5,
        max_tokens=12345678,
    )
    secrets = Secrets.of(lm, environment={})
    text = f"{KEY} pa55w0rd! header-key-1 t0ken-of-header nested-key-2 0.5 12345678 localhost"
    assert secrets.hide(text) == " ".join([HIDDEN] * 5) + " 0.5 12345678 localhost"


def test_keys_of_a_custom_engine_are_hidden() -> None:
    lm = scripted_lm(toy_solver)
    lm.engine.api_key = KEY
    assert Secrets.of(lm, environment={}).hide(f"<{KEY}>") == f"<{HIDDEN}>"


def test_the_environments_keys_are_hidden_and_nothing_else_of_it() -> None:
    environment = {
        "OPENAI_API_KEY": "value-1-of-key",
        "HF_TOKEN": "value-2-of-key",
        "AWS_SECRET_ACCESS_KEY": "value-3-of-key",
        "DB_PASSWORD": "value-4-of-key",
        "DATABASE_URL": "postgresql://me:value-5-of%2Fkey@host/db",
        "MAX_TOKENS": "value-6-of-key",
        "HF_TOKEN_PATH": "value-7-of-key",
        "HOME": "value-8-of-key",
        "TOKENIZERS_PARALLELISM": "value-9-of-key",
    }
    secrets = Secrets.of(environment=environment)
    hidden = [n for n in range(1, 10) if secrets.hide(f"value-{n}-of-key") == HIDDEN]
    assert hidden == [1, 2, 3, 4]
    assert secrets.hide("value-5-of%2Fkey value-5-of/key") == f"{HIDDEN} {HIDDEN}"


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_API_KEY", KEY)
    assert Secrets.of().hide(KEY) == HIDDEN


@pytest.mark.parametrize(
    "value",
    ["", "true", "short-1", "password", "not-needed", "no-key-required", "PLACEHOLDER", "Changeme",
     "/run/secrets/token", "123456789", "2024-01-01"],
)  # fmt: skip
def test_what_may_stand_in_any_text_is_no_secret(value: str) -> None:
    text = f"the {value} of it, {value}"
    assert Secrets([value]).hide(text) == text


@pytest.mark.parametrize(
    "key",
    [
        "sk-proj-" + "a1B2" * 10,
        "sk-ant-api03-" + "x9_Y" * 10,
        "AIza" + "Sy0-" * 9,
        "ghp_" + "a1B2" * 9,
        "github_pat_" + "a1B2" * 10,
        "hf_" + "aB1c" * 9,
        "gsk_" + "aB1c" * 9,
        "Bearer " + "aB1." * 5,
        "bearer " + "aB1." * 5 + "==",
    ],
)
def test_keys_are_known_by_their_shape(key: str) -> None:
    secrets = Secrets()
    assert secrets.hide(f"<{key}>") == f"<{HIDDEN}>"
    said = f"wrong key:\n{key}\tor é{key}"
    assert json.loads(secrets.hide(json.dumps(said))) == f"wrong key:\n{HIDDEN}\tor é{HIDDEN}"


@pytest.mark.parametrize(
    "text",
    [
        "task-based-learning-of-the-1990s-and-later",
        "sk-learn-is-a-library-for-machine-learning",
        "sk-1",
        "the bearer of this letter; Bearer authentication-is-required",
        "ghp_ hf_ gsk_ AIza",
    ],
)
def test_words_that_only_begin_like_a_key_stay(text: str) -> None:
    assert Secrets().hide(text) == text


@given(
    secret=st.text(min_size=8).map(lambda s: s + '1"x'),
    before=st.text(),
    after=st.text(),
)
def test_a_secret_is_hidden_in_text_and_in_json(secret: str, before: str, after: str) -> None:
    secrets = Secrets([secret])
    assert secret not in secrets.hide(before + secret + after)
    for ascii_only in (True, False):
        text = json.dumps([before, secret, after], ensure_ascii=ascii_only)
        assert secret not in json.loads(secrets.hide(text))


def test_of_secrets_inside_each_other_the_longer_is_hidden_whole() -> None:
    secrets = Secrets(["12345-abc", "12345-abc-defgh"])
    assert secrets.hide("12345-abc-defgh 12345-abc") == f"{HIDDEN} {HIDDEN}"


def test_urls_are_shown_without_passwords() -> None:
    assert without_password(None) is None
    assert without_password("sqlite:///gpo.db") == "sqlite:///gpo.db"
    assert without_password("postgresql://me:p%40ss@host/db") == "postgresql://me:***@host/db"
    assert without_password("postgresql://host/db?user=me&password=pw") == (
        "postgresql://host/db?user=me&password=***"
    )
    url = "postgresql://me:pass-word-1@host/db"
    assert Secrets.of(urls=[url], environment={}).hide(url) == f"postgresql://me:{HIDDEN}@host/db"


def test_secrets_are_not_shown_by_themselves() -> None:
    assert KEY not in repr(Secrets([KEY]))


def test_only_credentials_are_secret_variables() -> None:
    assert all(map(is_secret_variable, ["API_KEY", "access_token", "db_password", "client_secret"]))
    assert not any(map(is_secret_variable, ["ANSWER_KEY", "END_TOKEN", "max_tokens", "keys", "k"]))
