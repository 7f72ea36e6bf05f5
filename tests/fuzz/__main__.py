"""`python -m tests.fuzz`, see `tests.fuzz.campaign`."""

from tests.fuzz.campaign import main

if __name__ == "__main__":  # the workers import this file too
    main()
