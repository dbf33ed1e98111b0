"""Completion in bash and zsh, as the shells themselves do it."""

import shutil
import subprocess
import sys

import pytest

from clozelab.cli import main

BASH = """
source completion.bash
complete_words() {
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
    _shtab_clozelab
    echo "${COMPREPLY[*]}"
}
"""
ZSH = r"""
zmodload zsh/zpty
zpty shell "TERM=dumb zsh -f -i"
zpty -w shell 'unset zle_bracketed_paste; autoload -U compinit; compinit -u -D; eval "$(cat completion.zsh)"'
zpty -w shell 'clozelab() { print -r -- "GOT: $* END" }; print READY'
while [[ $out != *READY*READY* ]] && zpty -r shell more; do out+=$more; done
zpty -w -n shell $'clozelab tra\t--obj\tdif\t--resu\t\n'
while [[ $out != *"resume END"* ]] && zpty -r shell more; do out+=$more; done
print -r -- "$out"
"""


@pytest.fixture
def script(capsys):
    def printed(shell):
        assert main(["completion", shell]) == 0
        with open(f"completion.{shell}", "w") as file:
            file.write(capsys.readouterr().out)

    return printed


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("clozelab tra", "train"),
        ("clozelab train --ext", "--extend"),
        ("clozelab train --objective dif", "diffusion"),
        ("clozelab train --noise", "--noise-density"),  # an option of some objectives
        ("clozelab compare --objectives causal span diff", "diffusion"),
        ("clozelab train --optimizer ''", "muon adamw"),
        ("clozelab train --corpus corp", "corpus.jsonl"),
        ("clozelab generate corp", "corpus.jsonl"),
        ("clozelab completion z", "zsh"),
    ],
)
def test_bash_completes_commands_flags_names_and_files(words, completed, script):
    script("bash")
    done = subprocess.run(["bash", "-c", f"{BASH}complete_words {words}"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == completed
    assert done.stderr == ""


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_zsh_completes_commands_flags_and_names(script):
    script("zsh")
    done = subprocess.run(["zsh", "-f", "-c", ZSH], capture_output=True, text=True, timeout=60)
    assert "GOT: train --objective diffusion --resume END" in done.stdout


def test_completion_without_its_library_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert capsys.readouterr().err == 'clozelab: shtab is not installed: pip install "clozelab[completion]"\n'
