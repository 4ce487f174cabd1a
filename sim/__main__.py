"""``bandwise``, also as ``python -m sim``."""

import sys  # and nothing that takes time: Ctrl-C may come first


def main() -> None:
    """Run ``bandwise``; Ctrl-C is one line even while it is being imported."""
    try:
        from sim.cli.app import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("bandwise: interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
