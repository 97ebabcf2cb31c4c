"""`python -m dreamlayer_core` is `dreamlayer`."""

from .cli import main

if __name__ == "__main__":
    main()
