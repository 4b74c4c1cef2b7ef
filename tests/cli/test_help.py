"""Help, version, wrong use, and errors without a traceback."""

import subprocess
import sys

import pytest

from kinema.cli import console

COMMANDS = (
    ("quickstart",),
    ("models",),
    ("describe",),
    ("papers",),
    ("data", "synth"),
    ("data", "check"),
    ("data", "convert"),
    ("data", "prepare"),
    ("train",),
    ("sweep",),
    ("evaluate",),
    ("ensemble",),
    ("predict",),
    ("embed",),
    ("label",),
    ("timeline",),
    ("stream",),
    ("export",),
    ("serve",),
    ("bench", "model"),
    ("bench", "decode"),
    ("bench", "video"),
    ("bench", "stream"),
    ("figures", "me"),
    ("figures", "tam-kernels"),
    ("figures", "tsi-alignment"),
    ("figures", "cam"),
    ("figures", "accuracy-cost"),
    ("figures", "sweep"),
)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_an_example(kinema, words):
    answer = kinema(*words, "--help")
    assert answer.code == 0
    assert f"kinema {' '.join(words)}" in answer.out.split("Example:")[1]
    assert "--json" in answer.out


def test_help_lists_all_commands(kinema):
    answer = kinema("--help")
    for words in COMMANDS:
        assert words[0] in answer.out
    assert kinema("-h").out == answer.out


def test_version(kinema):
    answer = kinema("--version")
    assert (answer.code, answer.out) == (0, "kinema 0.1.0\n")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("fly",), "No such command 'fly'"),
        (("models", "--fast"), "No such option: --fast"),
        (("predict", "runs/x"), "Missing argument"),
        (("evaluate", "runs/x"), "Missing option '--data'"),
        (("describe", "tsm_resnet18", "--frames", "0"), "Invalid value for '--frames'"),
        (("describe", "tsm_resnet18", "--stages", "4,x"), "expected numbers such as 4,5"),
        (("describe", "tsm_resnet18", "--stages", "²"), "expected numbers such as 4,5, got '²'"),
        (("describe", "tsm_resnet18", "--blocks", "-1"), "expected numbers such as 4,5, got '-1'"),
        (("train", "r.toml", "--out", "a", "--resume", "b"), "not both"),
        (("evaluate", "x", "--data", "y", "--precision", "8"), "expected 32 or bf16"),
        (
            ("evaluate", "x", "--data", "y", "--scores", "z.csv"),
            "expected a file name ending in .npz",
        ),
    ],
)
def test_wrong_use_is_exit_code_2(kinema, words, part):
    answer = kinema(*words)
    assert answer.code == 2
    assert answer.out == ""
    assert part in " ".join(answer.err.replace("│", " ").split())


def test_an_error_is_one_line_unless_debugging(kinema, monkeypatch):
    answer = kinema("describe", "tsm_resnet19")
    assert answer.code == 1
    assert answer.out == ""
    assert answer.err.startswith("Error: Unknown network 'tsm_resnet19'. Did you mean 'tsm_resnet1")
    assert answer.err.count("\n") == 1
    monkeypatch.setenv("KINEMA_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["kinema", "describe", "tsm_resnet19"])
    from kinema.cli.main import run

    with pytest.raises(LookupError, match="Unknown network"):
        run()


def test_brackets_in_a_message_stay(kinema, tmp_path):
    recipe = tmp_path / "[bold]x.toml"
    recipe.write_text("[model\n", encoding="utf-8")
    answer = kinema("train", recipe)
    assert answer.code == 1
    assert f"{recipe} is not valid TOML" in answer.err


def test_errors_of_the_system_need_no_traceback(kinema, color_set, tmp_path):
    (tmp_path / "file").touch()
    answer = kinema("data", "convert", color_set / "val.csv", tmp_path / "file" / "inside.csv")
    assert answer.code == 1
    assert f"Error: {tmp_path / 'file' / 'inside.csv'} cannot be written: " in answer.err


def test_control_c_says_so(kinema, monkeypatch):
    def interrupted(pattern: str) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr("kinema.models.zoo.list_models", interrupted)
    answer = kinema("models")
    assert (answer.code, answer.err) == (130, "Interrupted.\n")


@pytest.mark.slow
def test_the_installed_program_runs():
    command = [sys.executable, "-m", "kinema.cli.main", "models", "tsn_resnet18", "--json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (0, '[\n  "tsn_resnet18"\n]\n'), answer.stderr


def test_progress_is_a_line_per_minute_without_a_terminal(capsys, monkeypatch):
    with console.progress_bar("labeling") as update:
        update(1, 10)  # not a minute yet
        monkeypatch.setattr(console, "LINE_EVERY_S", 0.0)
        update(3, 10)
    assert capsys.readouterr() == ("", "labeling: 3 of 10\n")
    with console.progress_bar("fetching", in_bytes=True) as update:
        update(30_000_000, 97_000_000)
        update(31_000_000, 0)  # in all unknown
    assert capsys.readouterr() == ("", "fetching: 30 of 97 MB\nfetching: 31 MB\n")
