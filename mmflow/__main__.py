"""`python -m mmflow` is the command `mmflow`."""

from mmflow.cli import main

if __name__ == "__main__":
    main()
