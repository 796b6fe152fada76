"""What is said of another library's error."""

import pytest

from fs_plugins.errors import first_line


@pytest.mark.parametrize(
    "message, line",
    [
        ("it failed", "it failed"),
        ("\n it failed \nbecause", "it failed"),
        ("one of: \n(1) a file,\n\n(2) a class", "one of: (1) a file, (2) a "
         "class"),
        ("Missing key(s):\n\tw", "Missing key(s): w"),
        ("it failed:", "it failed:"),
        ("", "ValueError"),
        ("x" * 300, "x" * 300),
        ("x" * 301, "x" * 296 + " ..."),
        ("of:\n" + "x\n" * 999, "of:" + " x" * 146 + " ..."),
    ],
)  # fmt: skip
def test_one_line_of_an_error(message, line):
    assert first_line(ValueError(message)) == line
    assert len(line) <= 300
