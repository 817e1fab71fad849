"""A run, and the build of an index, under a fault at every single system call that touches its folder: killed before, in the middle of
and after it, or refused (no space, input/output error, read-only), for once or from then on. The next command has to end in the files of
an undisturbed run, or in the index of an undisturbed build.

    python benchmarks/faults.py              # every call of a fresh, a resumed and a finishing run, and of builds: some minutes
    python benchmarks/faults.py --sample 60  # a seeded sample of them

Needs Linux and a C compiler: a library put before the system's counts the calls. Prints, for each kind of run and fault, how many points
were tried and what was wrong after the next command; exit status 1 if anything was."""
import argparse, collections, contextlib, json, os, random, shutil, subprocess, sys, tempfile, time
from pathlib import Path

SHIM = r'''
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
static char folder[PATH_MAX]; static int at, mode, sticky, calls; /* mode: 0 count, 1 kill before, 2 kill in the middle, 3 kill after, else errno */
void faults_arm(const char *where, int at_, int mode_, int sticky_) { strncpy(folder, where, PATH_MAX - 1); at = at_; mode = mode_; sticky = sticky_; calls = 0; }
int faults_calls(void) { return calls; }
static int inside(const char *path) { return folder[0] && path && !strncmp(path, folder, strlen(folder)); }
static int fd_inside(int fd) {
    char link[64], path[PATH_MAX]; ssize_t n;
    if (!folder[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if ((n = readlink(link, path, sizeof path - 1)) < 0) return 0;
    path[n] = 0; return inside(path);
}
static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }
/* 1: refuse, 2: this one call is the point of a kill, 0: let it pass */
static int fault(int ours) {
    if (!ours) return 0;
    int n = __sync_add_and_fetch(&calls, 1);
    if (!mode || n < at) return 0;
    if (mode > 3) { if (n > at && !sticky) return 0; errno = mode; return 1; }
    if (n > at) return 0;
    if (mode == 1) die();
    return 2;
}
#define REAL(type, name, ...) type (*real)(__VA_ARGS__) = dlsym(RTLD_NEXT, name)
#define AROUND(ours, call) do { int f = fault(ours); if (f == 1) return -1; int r = call; if (f == 2) die(); return r; } while (0)
ssize_t write(int fd, const void *b, size_t n) {
    REAL(ssize_t, "write", int, const void *, size_t); int f = fault(fd_inside(fd));
    if (f == 1) { if (n > 1 && mode == ENOSPC && calls == at) return real(fd, b, n / 2); return -1; } /* the last half that still had room */
    if (f == 2) { real(fd, b, mode == 2 ? n / 2 : n); die(); }
    return real(fd, b, n);
}
int fsync(int fd) { REAL(int, "fsync", int); AROUND(fd_inside(fd), real(fd)); }
int ftruncate64(int fd, off64_t n) { REAL(int, "ftruncate64", int, off64_t); AROUND(fd_inside(fd), real(fd, n)); }
int ftruncate(int fd, off_t n) { REAL(int, "ftruncate", int, off_t); AROUND(fd_inside(fd), real(fd, n)); }
int rename(const char *a, const char *b) { REAL(int, "rename", const char *, const char *); AROUND(inside(b), real(a, b)); }
int unlink(const char *p) { REAL(int, "unlink", const char *); AROUND(inside(p), real(p)); }
int mkdir(const char *p, mode_t m) { REAL(int, "mkdir", const char *, mode_t); AROUND(inside(p), real(p, m)); }
int chmod(const char *p, mode_t m) { REAL(int, "chmod", const char *, mode_t); AROUND(inside(p), real(p, m)); }
#define WRITES(flags) ((flags) & (O_CREAT | O_WRONLY | O_RDWR | O_TRUNC))
#define OPEN(name) int name(const char *p, int flags, ...) { va_list a; va_start(a, flags); mode_t m = va_arg(a, int); va_end(a); \
    REAL(int, #name, const char *, int, ...); AROUND(WRITES(flags) && inside(p), real(p, flags, m)); }
OPEN(open) OPEN(open64)
#define OPENAT(name) int name(int d, const char *p, int flags, ...) { va_list a; va_start(a, flags); mode_t m = va_arg(a, int); va_end(a); \
    REAL(int, #name, int, const char *, int, ...); AROUND(WRITES(flags) && inside(p), real(d, p, flags, m)); }
OPENAT(openat) OPENAT(openat64)
'''
KILLS = {'killed before': (1, 0), 'killed in the middle': (2, 0), 'killed after': (3, 0)}
QUESTIONS = 6


def faults():
    import errno
    return KILLS | {f'{e}{once}': (getattr(errno, e), not once) for e in ('ENOSPC', 'EIO', 'EROFS') for once in ('', ' once')}


class Simulated:
    "Answers by rule; refuses some questions, so that there are second attempts. Stops, as by Ctrl-C, before answer number `stop`."
    def __init__(self, stop=None):
        from wattnb.llm.registry import load_registry
        self.entry, self.info, self.stop, self.asked = load_registry().find('extractive'), dict(effective_dtype='none', quantization='none', device='cpu'), stop, 0
    def count_tokens(self, text): return len(text.split())
    def stream(self, requests):
        from wattnb.llm.protocol import Reply
        for r in requests:
            if self.asked == self.stop: raise KeyboardInterrupt
            self.asked += 1
            k = sum(map(ord, r.id))
            text = '' if k % 4 == 0 else json.dumps(dict(explanation='by rule', answer=f'{k}', answer_value=str(k), ref_id=['orrin2024']))
            yield Reply(r.id, text=text, prompt_tokens=10, completion_tokens=len(text), seconds=.001, batch_id=0, batch_size=1)
    def close(self): pass


def ask(ws, name, model=None):
    from wattnb.experiment.settings import RunSettings
    from wattnb.experiment.plan import plan_run
    from wattnb.experiment.execute import run_all
    plan = plan_run(RunSettings('extractive', env='f', mode='closed-book', name=name, max_retries=1), ws)
    said, model = plan.state, model or Simulated()
    run_all(plan, model)
    return plan, said, model.asked


def make_templates(ws):
    """Folders to begin from: none; an interrupted run with its files; one with all answers, whose end is not journalled; one with stale
    files, whose journal is complete."""
    folder = ask(ws, 'whole')[0].run_dir
    with contextlib.suppress(KeyboardInterrupt): ask(ws, 'run', Simulated(QUESTIONS // 2))
    run = folder.with_name('run')
    cut, out = Path(ws.root) / 'cut', {'fresh': None}
    shutil.move(run, cut)
    out['resumed'] = cut
    shutil.copytree(cut, run)
    ask(ws, 'run')
    lines = (run / 'journal.jsonl').read_bytes().splitlines(keepends=True)
    ends = [i for i, l in enumerate(lines) if b'"kind":"end"' in l]
    for name, until in (('answered', ends[-1]), ('complete, its files stale', ends[-1] + 1)):
        out[name] = Path(ws.root) / name.split(',')[0]
        shutil.copytree(cut, out[name])
        (out[name] / 'journal.jsonl').write_bytes(b''.join(lines[:until]))
    shutil.rmtree(run)
    return folder, run, out


def one_point(command, run, template, shim, at, mode, sticky):
    "The command with a fault at call number `at`. Returns (number of calls, how the child ended)."
    shutil.rmtree(run, ignore_errors=True)
    if template: shutil.copytree(template, run)
    r, w = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(r)
            for fd in (1, 2): os.dup2(os.open(os.devnull, os.O_WRONLY), fd)
            shim.faults_arm(str(run).encode(), at, mode, int(sticky))
            from wattnb.core.workspace import UserError, WorkError
            try: command(); how = 'ended'
            except (UserError, WorkError) as e: how = 'reported' if len(str(e).splitlines()) == 1 else 'reported in several lines'
            except BaseException as e: how = f'defect: {type(e).__name__}: {e}'[:300]
            os.write(w, json.dumps([shim.faults_calls(), how]).encode())
        finally: os._exit(0)
    os.close(w)
    with os.fdopen(r, 'rb') as f: said = f.read()
    os.waitpid(pid, 0)
    return json.loads(said) if said else (at, 'killed')


def what_is_wrong(ws, run, whole):
    "After the next command; '' if nothing is."
    from wattnb.experiment.stored import verify
    from wattnb.experiment.journal import read_journal
    from wattnb.core.workspace import stale_files
    before = [a['id'] for a in read_journal(run / 'journal.jsonl').of('attempt')] if (run / 'journal.jsonl').exists() else []
    try: plan, said, asked = ask(ws, 'run')
    except BaseException as e: return f'the next command fails: {type(e).__name__}: {e}'
    journal, summary = read_journal(run / 'journal.jsonl'), json.loads((run / 'summary.json').read_text())
    tried = [(a['id'], a['attempt']) for a in journal.of('attempt')]
    answers = lambda f: [(r['id'], r['pred_value'], r['pred_ref'], r['status'], r['retry_count']) for r in json.loads((f / 'results.json').read_text())]
    if (run / 'submission.csv').read_bytes() != (whole / 'submission.csv').read_bytes() or answers(run) != answers(whole): return f'other files ({said})'
    if summary['status'] != 'complete' or summary['overall_score'] != json.loads((whole / 'summary.json').read_text())['overall_score']: return f'another summary: {summary["status"]}'
    if stale_files(run) != []: return f'{stale_files(run)} do not follow from the journal'
    if len(tried) != len(set(tried)): return 'an answer that was kept was generated again'
    if [a['id'] for a in journal.of('attempt')][:len(before)] != before: return 'an answer was lost'
    if asked != len(tried) - len(before): return f'{asked} answers were generated, {len(tried) - len(before)} were missing'
    if left := [p.name for p in run.iterdir() if p.name.endswith('.tmp') and asked]: return f'{left} stay'
    if bad := [c['check'] for c in verify(run) if c['result'] != 'passed' and c['check'] != 'journal whole']: return f'verify: {bad}'
    if (again := ask(ws, 'run')[1]) != 'complete': return f'the state after it is {again}'
    return ''


DOCUMENTS = {'orrin2024': 'The turbine drew 12 kW of power in the first year.', 'vale2025': 'Training took 340 GPU hours on eight cards.'}

def write_documents(ws, texts):
    for id_, text in texts.items():
        paragraph = dict(text=text, metadata=dict(page=1), sentences=[dict(text=text)])
        (ws.corpus / f'{id_}.json').write_text(json.dumps(dict(document_id=id_, title=id_, text=text, metadata={}, sections=[dict(title='Results', paragraphs=[paragraph])])))


def build(ws):
    from wattnb.index.store import build_index
    return build_index(ws, embedder='none')


def index_templates(ws):
    "(folder of the index, folders to begin from): none; the index of another text of one document, and of one document more."
    ws.corpus.mkdir(parents=True)
    out, folder = {'new index': None}, ws.data / 'embeddings'
    for name, texts in {'changed index': {'vale2025': 'It took 10 hours.'}, 'smaller index': {'gone2020': 'It was withdrawn.'}}.items():
        write_documents(ws, DOCUMENTS | texts)
        build(ws)
        out[name] = Path(ws.root) / name.replace(' ', '-')
        shutil.move(folder, out[name])
        (ws.corpus / 'gone2020.json').unlink(missing_ok=True)
    write_documents(ws, DOCUMENTS)
    return folder, out


def what_is_wrong_with_the_index(ws, folder):
    "After the next build; '' if nothing is."
    from wattnb.index.store import open_index
    from wattnb.core.workspace import UserError, WorkError
    try: open_index(ws).lexical('turbine power')
    except (UserError, WorkError): pass # it is refused, or absent
    except BaseException as e: return f'a search before the next build fails: {type(e).__name__}: {e}'
    try: build(ws); ix = open_index(ws)
    except BaseException as e: return f'the next build fails: {type(e).__name__}: {e}'
    texts = {p.doc_id: p.text for p in ix.passages}
    if {k: v for k, v in texts.items()} != DOCUMENTS: return f'another index: {texts}'
    if left := [p.name for p in folder.rglob('*') if p.name.endswith('.tmp')]: return f'{left} stay'
    if not build(ws).up_to_date: return 'the build after it does something'
    return ''


def work(sample, seed):
    import ctypes
    from wattnb.core.workspace import Workspace
    shim, t0 = ctypes.CDLL(os.environ['LD_PRELOAD']), time.monotonic()
    wrong, counts, ends = [], collections.Counter(), collections.Counter()
    with tempfile.TemporaryDirectory() as d:
        (Path(d) / 'data').mkdir(); (Path(d) / 'artifacts').mkdir()
        rows = ''.join(f'q{i:03d},Which number has question {i}?,,{i},W,"[\'orrin2024\']",,,\n' for i in range(QUESTIONS))
        (Path(d) / 'data/demo_QA.csv').write_text('id,question,answer,answer_value,answer_unit,ref_id,ref_url,supporting_materials,explanation\n' + rows)
        ws = Workspace.find(d)
        whole, run, templates = make_templates(ws)
        folder, indexes = index_templates(ws)
        # kind → (command, folder that is touched, folder to begin from, what is wrong afterwards)
        kinds = {f'{k} run': (lambda: ask(ws, 'run'), run, t, lambda: what_is_wrong(ws, run, whole)) for k, t in templates.items()}
        kinds |= {k: (lambda: build(ws), folder, t, lambda: what_is_wrong_with_the_index(ws, folder)) for k, t in indexes.items()}
        points = [(k, f, at) for k, (command, where, t, _) in kinds.items() for f in faults() for at in range(1, one_point(command, where, t, shim, 0, 0, 0)[0] + 3)]
        print(f'{len(points)} points: {", ".join(f"{n} of a {k}" for k, n in collections.Counter(k for k, *_ in points).items())}', flush=True)
        if sample: points = random.Random(seed).sample(points, min(sample, len(points)))
        for kind, fault, at in points:
            command, where, template, check = kinds[kind]
            _, how = one_point(command, where, template, shim, at, *faults()[fault])
            why = how if how.startswith('defect') or 'lines' in how else check()
            counts[kind, fault] += 1; ends[how] += 1
            if why: wrong.append((kind, fault, at, why)); print(f'WRONG: {kind}, {fault} at call {at}, which {how}: {why}', flush=True)
    for (kind, fault), n in sorted(counts.items()): print(f'{kind:26} {fault:22} {n:5} points, {sum((k, f) == (kind, fault) for k, f, *_ in wrong)} wrong')
    print(f'{sum(counts.values())} points in {time.monotonic() - t0:.0f} s ({", ".join(f"{n} {how}" for how, n in ends.most_common(4))}): {len(wrong)} wrong')
    return 1 if wrong else 0


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--sample', type=int, default=0, help='so many points, drawn by chance; default all'); p.add_argument('--seed', type=int, default=0)
    a = p.parse_args()
    if os.environ.get('WATTNB_FAULTS'): return work(a.sample, a.seed)
    compiler = shutil.which('cc') or shutil.which('gcc')
    if not sys.platform.startswith('linux') or not compiler: sys.exit('needs Linux and a C compiler')
    with tempfile.TemporaryDirectory() as d:
        Path(d, 'shim.c').write_text(SHIM)
        subprocess.run([compiler, '-shared', '-fPIC', '-o', f'{d}/shim.so', f'{d}/shim.c', '-ldl'], check=True)
        return subprocess.run([sys.executable, __file__, *sys.argv[1:]], env={**os.environ, 'LD_PRELOAD': f'{d}/shim.so', 'WATTNB_FAULTS': '1', 'WATTNB_PROGRESS': '0'}).returncode


if __name__ == '__main__': sys.exit(main())
