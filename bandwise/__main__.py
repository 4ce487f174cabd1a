"""The command line, as ``python -m bandwise``; also next to a ``sim.py`` of your own."""

from sim.__main__ import main

if __name__ == "__main__":
    main()
