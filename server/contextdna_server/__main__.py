"""``python -m contextdna_server``: the same as the command ``contextdna``."""

from contextdna_server.cli import main

if __name__ == "__main__":
    main(prog_name="contextdna")
