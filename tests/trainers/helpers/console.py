"""The command line, called in the process of a test."""

import sys

import pytest

from immref import __main__


def command(monkeypatch, *argv):
    """Run `immref ARGV`; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["immref", *map(str, argv)])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    return ended.value.code
