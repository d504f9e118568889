"""Failures: which error gives which exit code, and what the shell sees of it."""

from __future__ import annotations

import json

import pytest

from onerack.cli import failures
from onerack.errors import (
    Corruption,
    InputError,
    JobFailed,
    JobInterrupted,
    OnerackError,
    OutputExists,
    StorageFull,
    UsageError,
)


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (UsageError("no"), 2),
        (InputError("books/*.txt", "no file matches"), 2),
        (OutputExists("counts is not empty"), 2),
        (JobFailed("task m17 failed", cause="exception"), 1),
        (StorageFull("/mnt/out"), 1),
        (Corruption("shuffle", 12, "a", "b"), 1),
        (OnerackError("other"), 1),
        (JobInterrupted("stopped"), 130),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error: OnerackError | KeyboardInterrupt, exit_code: int) -> None:
    assert failures.exit_code_of(error) == exit_code
    assert failures.as_object(error)["exit_code"] == exit_code


def test_an_error_is_its_message_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert failures.report(InputError("books/*.txt", "no file matches"), as_json=False) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "onerack: books/*.txt: no file matches\n"


def test_with_json_an_error_is_one_object_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    error = JobFailed("task m17 failed", cause="exception", job_directory="/jobs/1")
    assert failures.report(error, as_json=True) == 1
    shown = capsys.readouterr()
    assert shown.err == ""
    assert json.loads(shown.out) == {
        "error": "task m17 failed",
        "kind": "JobFailed",
        "exit_code": 1,
        "cause": "exception",
        "job_directory": "/jobs/1",
    }


def test_an_error_without_words_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    failures.report(KeyboardInterrupt(), as_json=True)
    assert json.loads(capsys.readouterr().out)["error"] == "KeyboardInterrupt"
    failures.report(KeyboardInterrupt(), as_json=False)
    assert capsys.readouterr().err == "onerack: interrupted\n"
