"The corpus from a real server to checked documents: redirects, missing pages, HTML in disguise, cut and slow files, broken PDFs."
import io, json, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pypdf, pytest
from hypothesis import given, settings, strategies as st

from wattnb.corpus import Document, Paper, Paragraph, Section, Sentence, build_corpus, fetch_papers, join_lines, load_document, parse_pdf, read_bibliography, split_sentences
from wattnb.workspace import UserError, WorkError, Workspace, write_csv, write_json

data = Path(__file__).resolve().parent.parent / 'data'
PDF = (data / 'pdfs/halvorsen2029.pdf').read_bytes()


@pytest.fixture
def server():
    calls = {}
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *a): pass
        def reply(self, status, raw=b'', **headers):
            self.send_response(status)
            for k, v in headers.items(): self.send_header(k.replace('_', '-'), v)
            self.send_header('content-length', str(len(raw))); self.end_headers(); self.wfile.write(raw)
        def do_GET(self):
            n = calls[self.path] = calls.get(self.path, 0) + 1
            try:
                match self.path.strip('/').split('.')[0]:
                    case 'good': self.reply(200, PDF)
                    case 'moved': self.reply(302, location='/moved-again.pdf')
                    case 'moved-again': self.reply(301, location='/good.pdf')
                    case 'html': self.reply(200, b'<!doctype html><html>Please sign in</html>', content_type='application/pdf')
                    case 'cut': self.reply(200, PDF[:len(PDF) // 2])
                    case 'slow': time.sleep(3); self.reply(200, PDF)
                    case 'busy': self.reply(200, PDF) if n > 1 else self.reply(429, retry_after='0.1')
                    case 'flaky': self.reply(200, PDF) if n > 2 else self.reply(500)
                    case _: self.reply(404, b'no')
            except (BrokenPipeError, ConnectionResetError): pass
    s = ThreadingHTTPServer(('127.0.0.1', 0), Handler); s.daemon_threads = True
    threading.Thread(target=s.serve_forever, args=(.05,), daemon=True).start()
    yield f'http://127.0.0.1:{s.server_address[1]}', calls
    s.shutdown()


def workspace(tmp_path, rows):
    ws = Workspace(tmp_path); ws.data.mkdir(); ws.artifacts.mkdir()
    write_csv(ws.metadata, ['id', 'type', 'title', 'year', 'citation', 'url'], [dict(id=i, title=i, url=u) for i, u in rows.items()])
    return ws


def test_every_download_ends_with_a_file_or_a_reason(tmp_path, server):
    url, calls = server
    ws = workspace(tmp_path, {n: f'{url}/{n}.pdf' for n in ('good', 'moved', 'html', 'cut', 'slow', 'busy', 'flaky', 'missing')} | {'nourl': '', 'odd': 'file:///etc/passwd'})
    got = {r.id: r for r in fetch_papers(ws, read_bibliography(ws.metadata).values(), timeout=1, retries=2)}
    for n in ('good', 'moved', 'busy', 'flaky'): assert got[n].path.read_bytes() == PDF, got[n]
    for n, why in dict(html='HTML page', cut='truncated', slow='no answer within', missing='HTTP 404', nourl='no URL', odd='not a web address').items():
        assert got[n].path is None and why in got[n].reason and len(got[n].reason.splitlines()) == 1
    assert sorted(p.stem for p in ws.pdfs.iterdir()) == ['busy', 'flaky', 'good', 'moved']
    before = dict(calls)
    assert fetch_papers(ws, [Paper('good', url=f'{url}/good.pdf')])[0].path and calls == before, 'a cached paper is not asked for again'


def test_bad_papers_are_reported_and_the_others_go_on(tmp_path, server):
    url, _ = server
    ws = workspace(tmp_path, {'good': f'{url}/good.pdf', 'html': f'{url}/html.pdf', 'kept': '', 'empty': '', 'scan': '', 'locked': '', 'broken': ''})
    ws.corpus.mkdir(); ws.pdfs.mkdir()
    write_json(ws.corpus / 'kept.json', Document('kept', 'Kept', 'x', {}, [Section('Page 1', [Paragraph('The user wrote this.', {}, None)])]).to_json())
    (ws.corpus / 'broken.json').write_text('{"document_id": "broken"}')
    (ws.pdfs / 'empty.pdf').write_bytes(b'')
    blank = pypdf.PdfWriter(); blank.add_blank_page(200, 200); blank.write(ws.pdfs / 'scan.pdf')
    locked = pypdf.PdfWriter(clone_from=io.BytesIO(PDF)); locked.encrypt('secret', algorithm='RC4-128'); locked.write(ws.pdfs / 'locked.pdf')
    r = build_corpus(ws)
    why = {f['id']: f['reason'] for f in r.failed}
    assert set(r.ok) == {'good', 'kept'}
    assert 'HTML' in why['html'] and 'OCR' in why['scan'] and 'encrypted' in why['locked'] and 'sections is missing' in why['broken'] and 'not a PDF' in why['empty']
    again = build_corpus(ws)
    assert again.parsed == 0 and set(again.ok) == {'good', 'kept'}


def test_changed_pdf_is_read_again_and_user_json_is_not_touched(tmp_path):
    ws = workspace(tmp_path, {'a': ''}); ws.pdfs.mkdir()
    (ws.pdfs / 'a.pdf').write_bytes(PDF)
    build_corpus(ws); first = load_document(ws.corpus / 'a.json').text
    (ws.pdfs / 'a.pdf').write_bytes((data / 'pdfs/okonjo2030.pdf').read_bytes())
    assert build_corpus(ws).parsed == 1 and load_document(ws.corpus / 'a.json').text != first


@pytest.mark.parametrize('text,why', [('id,url\n,x\n', ':2, column id: empty'), ('id\na\na\n', 'twice'), ('id\na/b\n', 'file name'), ('name\nx\n', 'no column id')])
def test_bad_bibliography_is_one_line(tmp_path, text, why):
    (tmp_path / 'm.csv').write_text(text)
    with pytest.raises(UserError, match=why): read_bibliography(tmp_path / 'm.csv')


def test_bibliography_of_the_old_tools_reads(tmp_path):
    (tmp_path / 'm.csv').write_bytes('id,type,title,year,citation,url\r\nx1,paper,Énergie,2020,É. Müller, http://a/b.pdf \r\n'.encode('cp1252'))
    p = read_bibliography(tmp_path / 'm.csv')['x1']
    assert p.title == 'Énergie' and p.url == 'http://a/b.pdf'


def test_gate_counts_pages_and_columns_read_down():
    d = parse_pdf(data / 'pdfs/halvorsen2029.pdf')
    assert d.pages == d.metadata['pages'] == 2
    text = ' '.join(p.text for p in d.paragraphs)
    assert 'Operators of language models publish little about the electricity that serving takes.' in text   # one column, joined lines
    assert 'equipment, show how much' in text and 'equip- ment' not in text                                   # hyphenation undone
    assert text.count('Ragna Halvorsen et al.') == 0                                                          # running head gone


@pytest.mark.parametrize('raw,why', [(b'', 'not a readable PDF'), (b'%PDF-1.4 nonsense', 'not a readable PDF|no pages'), (PDF[:3000], 'not a readable PDF|no text|no pages')])
def test_broken_pdf_is_one_reason(tmp_path, raw, why):
    (tmp_path / 'x.pdf').write_bytes(raw)
    with pytest.raises(WorkError, match=why): parse_pdf(tmp_path / 'x.pdf')


words = st.lists(st.text(st.characters(whitelist_categories=('Ll', 'Lu', 'Nd')), min_size=1, max_size=8), max_size=12).map(' '.join)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=300))
def test_sentences_lose_nothing(text):
    assert ' '.join(' '.join(split_sentences(text)).split()) == ' '.join(text.split())


@settings(max_examples=150, deadline=None)
@given(st.lists(words, max_size=6))
def test_joining_lines_keeps_every_letter(lines):
    assert ''.join(join_lines(lines).split()) == ''.join(''.join(lines).split())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=30), st.none() | st.lists(st.text(max_size=20), max_size=3)), max_size=4))
def test_document_round_trip(ps):
    d = Document('d', 't', 'x', {'k': 1}, [Section('Page 1', [Paragraph(t, {'page': 1}, None if s is None else [Sentence(x) for x in s]) for t, s in ps], {'page': 1})])
    assert Document.from_json(json.loads(json.dumps(d.to_json()))) == d
