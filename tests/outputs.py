"""Runs notebooks as nbdev_test does, and compares what they print with what they store: `python tests/outputs.py [--renew] NOTEBOOK ...`.

Exits 1 when a cell raises, or prints another text than the stored one. Text that differs from run to run is masked: times, hours of the day, rates, memory,
energy of the machine, dates, hashes, temporary folders (`MASKS`). Two tags change this: of a cell tagged `varies` no number is compared; of one
tagged `machine`, which shows the hardware that it ran on, only the `outline` is; with other meters the new one may have more. Pictures are compared by `tests/test_plots.py`. What shows the runs of this checkout (`OVER_RUNS`) is run and not compared. `--renew` stores the new outputs
of the cells that differ, and the pictures; `--renew --machine` also those of the cells tagged `machine`."""
import json, os, re, signal, subprocess, sys, tempfile, time
from pathlib import Path

if '--renew' not in sys.argv[1:]: os.environ['IN_TEST'] = '1' # as nbdev_test does: the overview then runs the baselines alone
from execnb.nbio import read_nb, write_nb
from execnb.shell import CaptureShell
from fastcore.xtras import working_directory
from nbdev.config import get_config
from nbdev.process import NBProcessor

root = Path(__file__).resolve().parent.parent
_NUMBER = r'[<~≈]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?'
MASKS = [(re.compile(p), to) for p, to in (
    (r'\x1b\[[0-9;]*m', ''),
    (r'(?<![\w/.])/(?:home|root|work|tmp|Users|var/folders|private)/[^\s\'",)\]]*', '<path>'),
    (r'\b20\d\d-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?', '<date>'),
    (r'\b\d\d:\d\d:\d\d\b', '<time>'), (r'\b(?=\d*[a-f])(?=[a-f]*\d)[0-9a-f]{8,64}\b', '<hash>'), (r'\b0x[0-9a-f]+', '<address>'), (r'127\.0\.0\.1:\d+', '<server>'),
    (rf'[ \t]*{_NUMBER} ?(?:ns|us|µs|ms|s|min|h|seconds?|minutes?|[kMG]i?B|W|mW|Wh|mWh|kWh|J|mJ|joules?|tokens?/s|[\w]+/s)\b', ' <amount>'), # with the blanks of its column: ' 4.3 s' is '12.9 s' on a busy machine
)]


OVER_RUNS = ('17_overview', 'run_experiment', 'report', 'explore', 'gallery')
TEMPLATES = OVER_RUNS[1:] # stored without outputs

def masked(text:str, tags=()) -> str:
    for pattern, to in MASKS: text = pattern.sub(to, text)
    if 'varies' in tags: text = re.sub(rf'[ \t]*{_NUMBER}', ' <number>', text)
    return re.sub(r'[ \t]+', ' ', re.sub(r'-{3,}|─{3,}', '---', text)).strip()


MACHINE = re.compile(r'driver|RAPL|TDP|gpu|GPU|[Tt]his machine|not measured|baseline was|in sum|one after another') # in notes on the machine
def about_machine(text:str) -> set: return {masked(l, ['varies']) for l in text.splitlines() if MACHINE.search(l)}

def outline(text:str) -> str:
    "Sorted lines: headings and row labels of tables, keys of dicts, notes and sentences that are not on the machine; numbers masked."
    found, before, table = [], [], False
    for line in text.splitlines():
        cells = line.strip('|').split('|') if line[:1] == '|' else re.split(' {2,}', line)
        if re.fullmatch('[-:| ]*--[-:| ]*', line): found, table = found + before, True # the line under the headings
        elif table and line[:1].strip(): found.append(cells[0])
        else:
            table, keys = False, re.findall(r"^\w+(?=: )|(?<=')[\w ]+(?=':)", line)
            note = re.match(r'\*|  \w', line) or line.endswith('.')
            found += keys or [line] * bool(note and not MACHINE.search(line))
        before = cells
    return '\n'.join(sorted({masked(x, ['varies']) for x in found}))


def texts(outputs) -> str:
    "The text of a cell's outputs: standard output and what is shown; progress bars and warnings on standard error are left out."
    found, joined = [], lambda v: ''.join(v) if isinstance(v, list) else str(v)
    for o in outputs or ():
        if o['output_type'] == 'stream' and o['name'] == 'stdout': found.append(joined(o['text']))
        data = o.get('data', {})
        for kind in ('text/markdown', 'text/html', 'text/plain'):
            if kind in data and not any(k.startswith('image/') or 'widget' in k for k in data): found.append(joined(data[kind])); break
    return '\n'.join(found)


def skipped(cell, flags) -> bool:
    if cell.cell_type != 'code' or 'nbdev_export(' in cell.source: return True
    directives = getattr(cell, 'directives_', None) or {}
    return directives.get('eval:', [''])[0].lower() == 'false' or bool(flags & directives.keys())


def execute(path:Path):
    "(the notebook with the outputs of this run, the traceback of the cell that raised or '')"
    from matplotlib.figure import Figure
    nb, shell = NBProcessor(path).nb, CaptureShell(path)
    shell.display_formatter.formatters['image/png'].type_printers.pop(Figure, None) # figures show themselves, see `small_png`
    flags, fault = set(get_config().tst_flags.split()), ''
    sys.path.insert(0, str(root))
    with working_directory(path.parent):
        try: shell.run_all(nb, exc_stop=True, preproc=lambda c: skipped(c, flags))
        except Exception: fault = shell.prettytb(fname=path)
    return nb, fault


def differences(old, new, flags=frozenset()) -> list:
    "Cells (index) whose text outputs are not the stored ones."
    def same(a, b):
        tags, (x, y) = a.metadata.get('tags', ()), (texts(c.get('outputs')) for c in (a, b))
        if 'machine' in tags: return outline(x) == outline(y) or about_machine(x) != about_machine(y) and set(outline(x).splitlines()) < set(outline(y).splitlines())
        return masked(x, tags) == masked(y, tags)
    return [i for i, (a, b) in enumerate(zip(old.cells, new.cells)) if a.cell_type == 'code' and not skipped(b, flags) and not same(a, b)]


def shown(old, new, i) -> str:
    import difflib
    tags = old.cells[i].metadata.get('tags', ())
    form = outline if 'machine' in tags else lambda text: masked(text, tags)
    a, b = (form(texts(nb.cells[i].get('outputs'))).splitlines() for nb in (old, new))
    return f'cell {i} ({old.cells[i].get("id")}):\n' + '\n'.join(l[:160] for l in list(difflib.unified_diff(a, b, 'stored', 'printed', lineterm='', n=0))[2:14])


def check(path:Path, options) -> bool:
    "Run one notebook, and compare or renew its outputs; whether it failed."
    renew, old = '--renew' in options, read_nb(path)
    new, fault = execute(path)
    if fault: print(f'{path.name}: {fault}'); return True
    if path.stem in (TEMPLATES if renew else OVER_RUNS): return False
    other = differences(old, new, set(get_config().tst_flags.split()))
    if renew:
        for i, (a, b) in enumerate(zip(old.cells, new.cells)):
            shows_machine = '--machine' in options and 'machine' in a.metadata.get('tags', ())
            if i in other or shows_machine or any(k.startswith('image/') for o in b.get('outputs') or () for k in o.get('data', {})): a.outputs = b.outputs
        write_nb(old, path)
    for i in other: print(f'{path.name} {shown(old, new, i)}')
    return bool(other) and not renew


def serve(seconds=1800):
    """For `run_all.py`: check the notebooks whose paths come on standard input, each in a fork of this process, so that IPython, matplotlib, pandas,
    scipy and the library are imported once and not a hundred times. Answers each with a line of JSON: exit status and output."""
    sys.path.insert(0, str(root))
    import matplotlib.pyplot, numpy, pandas, pytest, scipy.stats, wattnb.cli # noqa: F401
    for line in sys.stdin:
        with tempfile.TemporaryFile() as out:
            if not (pid := os.fork()):
                os.setsid()
                for fd, to in ((os.open(os.devnull, os.O_RDONLY), 0), (out.fileno(), 1), (out.fileno(), 2)): os.dup2(fd, to)
                sys.exit(check(Path(line.strip()), ())) # past the loop: what the notebook registered for its exit is done
            end, status = time.monotonic() + seconds, None
            while status is None:
                done, code = os.waitpid(pid, os.WNOHANG)
                if done: status = os.waitstatus_to_exitcode(code)
                elif time.monotonic() > end: os.killpg(pid, signal.SIGKILL); end = float('inf')
                else: time.sleep(.02)
            out.seek(0)
            print(json.dumps([status, out.read().decode('utf-8', 'replace')]), flush=True)


def main():
    options = [a for a in sys.argv[1:] if a in ('--renew', '--machine', '--serve')]
    if '--serve' in options: return serve()
    paths = [Path(a).resolve() for a in sys.argv[1:] if a not in options]
    if len(paths) > 1: sys.exit(max(subprocess.call([sys.executable, __file__, *options, p]) for p in paths)) # each in a process of its own
    sys.exit(any([check(p, options) for p in paths]))


if __name__ == '__main__': main()
