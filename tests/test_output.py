"What the command writes and reads at its edges: encodings of stdout, full disks, closed pipes, and paths that are no files."
import json, os, re, subprocess, sys
from pathlib import Path

import pytest

from wattnb.cli.command import init_workspace
from wattnb.core.workspace import UserError, Workspace, atomic_write, file_sha256, folder_lock, read_bytes, read_csv, read_json
from wattnb.llm.registry import _read_tables

root = Path(__file__).resolve().parent.parent


@pytest.fixture(scope='module')
def ws(tmp_path_factory):
    folder = tmp_path_factory.mktemp('output')
    init_workspace(folder, demo=True)
    q = (folder/'data/demo_QA.csv').read_text('utf-8').splitlines()[0]
    (folder/'data/odd.csv').write_text(q + '\nq1' + ',Wie viel – “heute” ∑?' + ',' * (q.count(',') - 1) + '\n', 'utf-8')
    return folder


def wattnb(*words, cwd, stdout=subprocess.PIPE, **env):
    keep = {k: v for k, v in os.environ.items() if k not in ('PYTHONIOENCODING', 'PYTHONUTF8', 'LC_ALL', 'LANG', 'WATTNB_ROOT')}
    return subprocess.run([sys.executable, '-P', '-m', 'wattnb.cli', *words], cwd=cwd, env=keep | dict(PYTHONPATH=str(root), WATTNB_PROGRESS='0') | env, stdout=stdout, stderr=subprocess.PIPE, timeout=120)


@pytest.mark.parametrize('env', [dict(PYTHONIOENCODING='ascii'), dict(PYTHONIOENCODING='latin-1'), dict(PYTHONIOENCODING='cp1252'), dict(LC_ALL='C', PYTHONUTF8='0', PYTHONCOERCECLOCALE='0')], ids=str)
@pytest.mark.parametrize('words', ['models', 'doctor', 'results', 'check-questions data/odd.csv', 'models --json'])
def test_any_encoding_of_stdout_will_do(ws, words, env):
    p = wattnb(*words.split(), cwd=ws, **env)
    assert p.returncode == 0 and b'defect' not in p.stderr and b'Error' not in p.stderr, p.stderr
    if '--json' in words: # nothing is lost in a document for programs
        assert json.loads(p.stdout.decode(env.get('PYTHONIOENCODING', 'ascii'))) == json.loads(wattnb(*words.split(), cwd=ws, PYTHONIOENCODING='utf-8').stdout)


def test_a_shortage_of_memory_is_no_defect(ws, monkeypatch, capsys):
    from wattnb.cli import command
    def short(args): raise MemoryError
    monkeypatch.setitem(command.VERBS, 'doctor', (short, *command.VERBS['doctor'][1:]))
    assert command.main(['doctor']) == 1 and capsys.readouterr().err == 'wattnb: not enough memory, by a limit of this shell (ulimit -v) or of the machine\n'


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='Linux only')
@pytest.mark.parametrize('words', ['models', 'results --json', 'doctor'])
def test_a_full_disk_and_a_closed_pipe_at_stdout(ws, words):
    with open('/dev/full', 'wb') as full: p = wattnb(*words.split(), cwd=ws, stdout=full)
    assert p.returncode == 1 and p.stderr.decode().splitlines()[-1] == 'wattnb: cannot write to stdout: No space left on device'
    r, w = os.pipe(); os.close(r)
    p = wattnb(*words.split(), cwd=ws, stdout=w); os.close(w)
    assert p.returncode == 0 and b'Error' not in p.stderr and b'defect' not in p.stderr


@pytest.mark.parametrize('kind', ['pipe', 'device'])
def test_pipes_and_endless_devices_are_refused_where_a_file_is_read(tmp_path, kind):
    p = tmp_path/'x'
    if kind == 'pipe': os.mkfifo(p)
    else: p.symlink_to('/dev/zero')
    for read in (read_bytes, read_json, read_csv, _read_tables):
        with pytest.raises(UserError, match='x: it is a pipe or a device'): read(p)
    try: file_sha256(p)
    except OSError as e: assert 'device' in str(e)


def test_a_run_folder_of_pipes_is_one_line(tmp_path):
    from wattnb.experiment.journal import read_journal
    from wattnb.experiment.stored import verify
    os.mkfifo(tmp_path/'journal.jsonl'); os.mkfifo(tmp_path/'results.json'); os.mkfifo(tmp_path/'summary.json')
    with pytest.raises(UserError, match='cannot read .*journal.jsonl'): read_journal(tmp_path/'journal.jsonl')
    with pytest.raises(UserError, match='cannot read .*l: '): verify(tmp_path)
    (tmp_path/'journal.jsonl').unlink()
    with pytest.raises(UserError, match='no readable journal'): verify(tmp_path)
    os.mkfifo(tmp_path/'.lock.json')
    with pytest.raises(UserError, match='lock.json is a link or a pipe'), folder_lock(tmp_path, 'test'): pass
    (tmp_path/'journal.jsonl').symlink_to('/dev/zero')
    with pytest.raises(UserError, match='journal.jsonl: it is a device'): read_journal(tmp_path/'journal.jsonl')


def test_a_link_to_itself_costs_no_other_run(tmp_path, caplog):
    from wattnb.scoring.run_folders import find_runs
    runs = tmp_path/'artifacts/experiments/e/q'
    for name in ('bad', 'good'): (runs/name).mkdir(parents=True)
    (runs/'good/summary.json').write_text('{}')
    (runs/'loop').symlink_to('loop'); (runs/'bad/journal.jsonl').symlink_to('journal.jsonl')
    assert [r.id for r in find_runs(tmp_path)] == ['e/q/good']


def test_a_signal_while_text_is_decoded_says_who_stopped(monkeypatch, capsys):
    "Python words an exception in a codec anew; a codec that is stopped by the signal does the same here."
    import codecs
    from wattnb.cli import command
    def stopped(raw, errors='strict'): raise command.Terminated('stopped by SIGTERM')
    codecs.register(find := lambda n: codecs.CodecInfo(str.encode, stopped, name=n) if n == 'stopped_codec' else None)
    monkeypatch.setitem(command.VERBS, 'decode', (lambda a: codecs.decode(b'x', 'stopped_codec'), 'x', 'x', ()))
    try: assert command.main(['decode']) == 143
    finally: codecs.unregister(find)
    assert capsys.readouterr().err == 'wattnb: stopped by SIGTERM\n'


def test_a_closed_terminal_ends_a_verb_as_sigterm_does(monkeypatch, capsys):
    import signal
    from wattnb.cli import command
    def send(a): os.kill(os.getpid(), signal.SIGHUP); return command.Result('went on', None)
    monkeypatch.setitem(command.VERBS, 'send', (send, 'x', 'x', ()))
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        assert command.main(['send']) == 129 and capsys.readouterr().err == 'wattnb: stopped by SIGHUP\n'
        signal.signal(signal.SIGHUP, signal.SIG_IGN) # as `nohup` starts it
        assert command.main(['send']) == 0 and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally: signal.signal(signal.SIGHUP, before)


def test_ctrl_c_while_the_packages_are_imported_shows_no_traceback():
    code = """import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == 'wattnb.cli': os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
from wattnb.__main__ import main
main()"""
    p = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert (p.returncode, p.stdout, p.stderr) == (-2, '', '')


def test_sigterm_to_the_meter_alone_ends_the_command_that_it_measures(ws, capfd):
    from wattnb.cli import main
    code = 'import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(600)'
    assert main(['meter', '--root', str(ws), '--json', '--', sys.executable, '-c', code]) == 1
    assert json.loads(capfd.readouterr().out)['returncode'] == -15


def test_what_a_killed_process_left_is_swept_when_the_papers_are_read(ws):
    from wattnb.index.corpus import build_corpus
    old, new = ws/'data/pdfs/.a.pdf.ab12_xyz.tmp', ws/'data/.metadata.csv.ab12_xyz.tmp'
    for p in (old, new): p.write_text('x')
    os.utime(old, (1, 1))
    build_corpus(Workspace.find(ws), fetch=False)
    assert not old.exists() and new.exists(), 'another process may be writing the newer one'
    plots = ws/'artifacts/plots/.scores.svg.ab12_xyz.tmp'
    plots.parent.mkdir(parents=True); plots.write_text('x'); os.utime(plots, (1, 1))
    atomic_write(plots.with_name('scores.csv'), 'a')
    assert [p.name for p in plots.parent.iterdir()] == ['scores.csv'], 'in every folder that is written to'


def test_tables_of_other_programs(tmp_path):
    p = tmp_path/'q.csv'
    p.write_text('ID,Question\n1,How?\n'); assert read_csv(p, ['id', 'question']).rows == [dict(id='1', question='How?')]
    for sep, name in ((';', 'semicolons'), ('\t', 'tabs')):
        p.write_text(f'id{sep}question\n1{sep}How?\n')
        with pytest.raises(UserError, match=f'separated by {name}'): read_csv(p, ['id', 'question'])


def on_terminal(words, columns, **env):
    "What a terminal of that many columns gets."
    fcntl, pty, struct, termios = (pytest.importorskip(m) for m in ('fcntl', 'pty', 'struct', 'termios'))
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack('HHHH', 40, columns, 0, 0))
    p = subprocess.Popen([sys.executable, '-P', '-m', 'wattnb.cli', *words], stdout=its, stdin=its, stderr=subprocess.DEVNULL, cwd=words[-1], env={**os.environ, 'TERM': 'xterm', 'COLUMNS': str(columns), **env})
    os.close(its)
    out = b''
    try:
        while part := os.read(ours, 65536): out += part
    except OSError: pass # the process has ended
    os.close(ours)
    assert p.wait() == 0
    return out.decode().replace('\r', '')


@pytest.mark.parametrize('words', ['models', 'doctor', 'retrieval --preset words'])
def test_tables_fit_the_terminal(ws, words):
    "At 80 columns no line is broken; a pipe and --wide get all columns, and no colour goes into a pipe or to a terminal that wants none."
    if 'retrieval' in words: # needs an index
        from wattnb.index.corpus import build_corpus
        from wattnb.index.store import build_index
        build_index(Workspace.find(ws), embedder='none', corpus=build_corpus(Workspace.find(ws), fetch=False))
    words = [*words.split(), '--root', str(ws)] # the workspace is also the working folder
    shown = on_terminal(words, 80)
    plain = re.sub('\x1b\\[\\d+m', '', shown)
    paths = re.compile('written to|models in the cache|versions|engines') # lines that are no table
    assert max(len(l) for l in plain.split('\n') if not paths.match(l)) <= 80 and '\x1b[1m' in shown
    piped = wattnb(*words, cwd=ws).stdout.decode()
    assert '\x1b' not in piped and '(--wide)' not in piped
    assert on_terminal([*words[:-2], '--wide', *words[-2:]], 80, NO_COLOR='1') == piped


def test_a_run_with_its_streams_closed(ws):
    "As a job of a scheduler starts it: the kernel, whose streams are those of the command, would die."
    assert wattnb('index', '--embedder', 'none', cwd=ws).returncode == 0
    words = [sys.executable, '-P', '-m', 'wattnb.cli', 'run', '--model', 'extractive', '--preset', 'words', '--limit', '1', '--name', 'closed']
    p = subprocess.run(['sh', '-c', 'exec "$@" >&- 2>&- <&-', 'sh', *words], cwd=ws, env=os.environ | dict(PYTHONPATH=str(root)), timeout=120)
    assert p.returncode == 0 and (ws/'artifacts/experiments/demo_QA/closed/results.json').exists()


def test_a_question_in_another_encoding_than_that_of_the_locale(ws):
    p = wattnb('search', 'énergie', '--preset', 'words', cwd=ws, LC_ALL='C', PYTHONUTF8='0', PYTHONCOERCECLOCALE='0')
    assert p.returncode == 0, p.stderr
