"""``python -m realrun``, which torchrun starts."""

from realrun.cli import main

main()
