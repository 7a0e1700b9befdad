"""Who runs a process is what the operating system says."""

from __future__ import annotations

import os
import pwd

import pytest

from cognify_dagster.workspace import os_login


def test_environment_variables_have_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "mallory")
    assert os_login() == pwd.getpwuid(os.geteuid()).pw_name


def test_a_user_without_a_name_gets_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 3_999_999_999)
    assert os_login() == "uid-3999999999"
