"""Where the command `onerack` starts: ready for Ctrl-C before anything is imported that takes time.

The idea: importing the commands takes longer than people need to change their mind, and until `main` runs nobody
would catch a Ctrl-C. The rule: nothing is imported at the top of this file.
"""


def main() -> None:
    """Entry point of the command `onerack` and of `python -m onerack.cli`. Ends the process."""
    try:
        from onerack.cli.main import main as run

        run()
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
