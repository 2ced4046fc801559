"""The console's door: the command line lives in `immref_trainers` and needs the extra `train`."""

import sys
from importlib import import_module


def main() -> None:
    """Run the `immref` command; without its libraries, say how to get them."""
    try:
        cli = import_module("immref_trainers.cli")
    except ImportError as error:
        sys.exit(f"immref: {error}")
    sys.exit(cli.main(sys.argv[1:]))


if __name__ == "__main__":
    main()
