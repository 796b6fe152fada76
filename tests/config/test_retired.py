"""Keys of earlier versions: one sentence that says what to write."""

import pytest

from fs_plugins.config.load import load_config
from fs_plugins.config.retired import RETIRED
from fs_plugins.errors import UserError

TLS = [
    f"fedsa.transport.{name}"
    for name in ("certificate", "key", "ca", "token_file")
]


@pytest.mark.parametrize("key", TLS)
def test_an_old_file_says_what_has_become_of_it(lab, fedsa, key):
    assert key in RETIRED
    name = key.rpartition(".")[2]
    file = lab.file(fedsa__transport={name: "a.pem"})
    for words in ([], [key, "a.pem"]):
        found = fedsa("run", "--cfg", lab.file() if words else file, *words)
        assert found.returncode == 2 and found.stderr.count("\n") == 1
        assert f"{key}: runs on several machines go over" in found.stderr
        assert "leave the key out, and see 'fedsa fed" in found.stderr
    assert not (lab.folder / "exp").exists()


@pytest.mark.parametrize("key", RETIRED)
def test_each_is_one_sentence(lab, key):
    with pytest.raises(UserError) as error:
        load_config(lab.file(), [key, "1"])
    sentence = str(error.value)
    assert sentence.startswith(f"{key}: ") and "\n" not in sentence
    assert "{" not in sentence


@pytest.mark.parametrize(
    "key, meant",
    [("fedsa.transport.wat", "wait"), ("fedsa.transport.unsave", "unsafe")],
)
def test_other_keys_of_the_section_are_as_wrong_as_ever(lab, key, meant):
    with pytest.raises(UserError, match=f"no such key.*{meant}"):
        load_config(lab.file(), [key, "1"])
