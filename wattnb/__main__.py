"""`python -m wattnb` is the `wattnb` command. Ctrl-C while the packages are imported ends it without a traceback."""
import signal, sys

def main() -> int:
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler: signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .cli import main
    signal.signal(signal.SIGINT, before)
    return main()

if __name__ == '__main__': sys.exit(main())
