"""``python -m boltseal``."""

from boltseal.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
