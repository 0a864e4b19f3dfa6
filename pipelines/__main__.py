"""`python -m pipelines`: the `vitruvian` command where the code is a folder that was sent, not installed."""

from pipelines.cli import main

if __name__ == "__main__":
    main()
