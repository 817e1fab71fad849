"""Runs functions that read foreign text over strings made to be slow, in a process whose CPU time is bounded.

`check` starts this file as a program. A pattern that takes quadratic time needs minutes for a string that a linear one reads
in a tenth of a second, so the bound of each call is generous and no wall clock is used."""
import json, resource, subprocess, sys, tempfile
from pathlib import Path

SIZE, SECONDS = 50_000, 1 # characters of a string; CPU seconds of one call
UNITS = [' ', '\n', 'a', 'A', '1', '.', ',', '-', '_', '"', '[', '{', '<', '%', '\u00a0', 'A.', 'V. ', 'A.A', 'Smith, J. ', '-1%', '1,', '1.', 'a-', 'e-1', 'et al.', 'doi', '(a', '-e-1', 'x-\n',
         'answer', 'answer_value: ', '{"a":', '<think>', 'kWh ', 'about ', 'Table 1 ', 'CO2 ', '[1, ', 'é', '\\']
AROUND = [('', ''), ('answer', 'x' * 3000), ('1', ' x'), ('1', 'x!'), ('{"answer_value": "1', 'x"}')]


def work(entries, seed):
    "Every function over every string; the file `at` holds what is being read when the process is ended."
    from hypothesis import given, seed as seeded, settings, strategies as st
    at = Path(sys.argv[3])
    def read(name, f, before, unit, after):
        at.write_text(json.dumps([name, before, unit, after[:20]]))
        used = resource.getrusage(resource.RUSAGE_SELF)
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + SECONDS, resource.RLIM_INFINITY))
        try: f(before + unit * (SIZE // len(unit)) + after)
        except Exception as e:
            if type(e).__name__ not in ('UserError', 'WorkError'): raise
    for name, f in entries.items():
        for unit in UNITS: read(name, f, '', unit, '')
        for before, after in AROUND[1:]:
            for unit in (' ', '-1%', '1', 'A'): read(name, f, before, unit, after)
        @seeded(seed)
        @given(st.lists(st.sampled_from(UNITS), max_size=2).map(''.join), st.lists(st.sampled_from(UNITS), min_size=1, max_size=3).map(''.join), st.lists(st.sampled_from(UNITS), max_size=1).map(''.join))
        @settings(max_examples=15, deadline=None, database=None)
        def wild(before, unit, after): read(name, f, before, unit, after)
        wild()


def check(
    entries:str, # Python that makes the dict `entries`: name → function of a text
    seed:int=0,
):
    with tempfile.TemporaryDirectory() as tmp:
        at = Path(tmp)/'at.json'
        p = subprocess.run([sys.executable, __file__, entries, str(seed), str(at)], capture_output=True, text=True, cwd=tmp)
        assert p.returncode == 0, f'{at.read_text() if at.exists() else ""}: exit {p.returncode} (-24 is the bound of CPU time)\n{p.stderr[-1500:]}'


if __name__ == '__main__':
    ns = {}
    exec(sys.argv[1], ns)
    work(ns['entries'], int(sys.argv[2]))
