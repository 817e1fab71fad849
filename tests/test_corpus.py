"The corpus from a real server to checked documents: redirects, missing pages, HTML in disguise, cut and slow files, broken PDFs."
import io, json, os, re, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pypdf, pytest

os.environ['WATTNB_ALLOW_LOCAL'] = '1' # the servers of these tests are on this machine
from hypothesis import given, settings, strategies as st

from wattnb.index.documents import (Document, Paragraph, Section, Sentence, check_text, from_docling, join_lines,
                                    load_document, parse_pdf, split_sentences)
from wattnb.index.corpus import Paper, build_corpus, fetch_papers, read_bibliography
from wattnb.core.workspace import UserError, WorkError, Workspace, write_csv, write_json

data = Path(__file__).resolve().parent.parent / 'data'
PDF = (data / 'pdfs/halvorsen2029.pdf').read_bytes()


@pytest.fixture
def server():
    calls, over = {}, threading.Event()
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
                    case 'slow': over.wait(300); self.reply(200, PDF) # until the test is over
                    case 'busy': self.reply(200, PDF) if n > 1 else self.reply(429, retry_after='0.1')
                    case 'flaky': self.reply(200, PDF) if n > 2 else self.reply(500)
                    case 'tagged':
                        if self.headers.get('if-none-match') == '"v1"': calls['304'] = calls.get('304', 0) + 1; self.reply(304)
                        else: self.reply(200, PDF, etag='"v1"')
                    case _: self.reply(404, b'no')
            except (BrokenPipeError, ConnectionResetError): pass
    s = ThreadingHTTPServer(('127.0.0.1', 0), Handler); s.daemon_threads = True
    threading.Thread(target=s.serve_forever, args=(.05,), daemon=True).start()
    yield f'http://127.0.0.1:{s.server_address[1]}', calls
    over.set(); s.shutdown()


def workspace(tmp_path, rows):
    ws = Workspace(tmp_path); ws.data.mkdir(); ws.artifacts.mkdir()
    write_csv(ws.metadata, ['id', 'type', 'title', 'year', 'citation', 'url'], [dict(id=i, title=i, url=u) for i, u in rows.items()])
    return ws


def test_every_download_ends_with_a_file_or_a_reason(tmp_path, server):
    url, calls = server
    ws = workspace(tmp_path, {n: f'{url}/{n}.pdf' for n in ('good', 'moved', 'html', 'cut', 'slow', 'busy', 'flaky', 'missing')} | {'nourl': '', 'odd': 'file:///etc/passwd'})
    papers = list(read_bibliography(ws.metadata).values())
    got = {r.id: r for r in [*fetch_papers(ws, [p for p in papers if p.id != 'slow'], retries=2), *fetch_papers(ws, [p for p in papers if p.id == 'slow'], timeout=.3, retries=0)]}
    for n in ('good', 'moved', 'busy', 'flaky'): assert got[n].path.read_bytes() == PDF, got[n]
    for n, why in dict(html='HTML page', cut='truncated', slow='no answer within', missing='HTTP 404', nourl='no URL', odd='not a web address').items():
        assert got[n].path is None and why in got[n].reason and len(got[n].reason.splitlines()) == 1
    assert sorted(p.stem for p in ws.pdfs.iterdir()) == ['busy', 'flaky', 'good', 'moved']
    before = dict(calls)
    assert fetch_papers(ws, [Paper('good', url=f'{url}/good.pdf')])[0].path and calls == before, 'a cached paper is not requested again'


def test_cached_papers_are_requested_again_only_on_request_and_by_etag(tmp_path, server):
    url, calls = server
    ws = workspace(tmp_path, {'tagged': f'{url}/tagged.pdf', 'html': f'{url}/html.pdf'})
    papers = list(read_bibliography(ws.metadata).values())
    assert fetch_papers(ws, papers)[0].path and calls['/tagged.pdf'] == 1
    (ws.pdfs / 'html.pdf').write_bytes(PDF)
    again = fetch_papers(ws, papers, refresh=True)
    assert calls['304'] == 1 and calls['/tagged.pdf'] == 2 and again[0].path.read_bytes() == PDF
    assert again[1].path.read_bytes() == PDF and 'HTML' in again[1].reason, 'what is cached is kept when the address no longer gives it'


def test_bad_rows_of_the_bibliography_are_lines_of_the_report(tmp_path):
    ws = workspace(tmp_path, {})
    ws.metadata.write_text('id,title,url\ngood,Good,\ngood,Again,\nGOOD,Capitals,\na/b,Slash,\n,None,\nnourl,No URL,\n')
    ws.pdfs.mkdir(); (ws.pdfs / 'good.pdf').write_bytes(PDF)
    r = build_corpus(ws)
    why = [(f['id'], f['reason']) for f in r.failed]
    assert list(r.ok) == ['good'] and r.gates['good']['pages'] == 2
    assert [i for i, _ in why] == ['good', 'GOOD', 'a/b', '', 'nourl']
    for (_, reason), part in zip(why, ('line 3|:3', 'capitals only', 'file name', 'empty id', 'no URL')): assert any(x in reason for x in part.split('|')), reason


def made_pdf(path, pages):
    reportlab = pytest.importorskip('reportlab.pdfgen.canvas')
    c = reportlab.Canvas(str(path))
    for lines in pages:
        for k, l in enumerate(lines): c.drawString(72, 780 - 15 * k, l)
        c.showPage()
    c.save()


def test_page_of_garbage_names_the_page(tmp_path):
    good = ['The model used 12 kWh of electricity in training, as the meter of the rack showed.'] * 30
    made_pdf(tmp_path / 'g.pdf', [good, good, ['#$%& *+<=> @[]^ {|}~ #$%&*+<=>@[]^{|}~ $$$$ ####'] * 9, *[good] * 9])
    with pytest.raises(WorkError, match='page 3 is garbage'): parse_pdf(tmp_path / 'g.pdf')
    made_pdf(tmp_path / 'toc.pdf', [[f'{k}. Energy of training {"." * 60} {k}' for k in range(40)], good])
    assert parse_pdf(tmp_path / 'toc.pdf').pages == 2, 'leaders of a table of contents are no garbage'


def test_two_thousand_pages_keep_their_numbers(tmp_path):
    made_pdf(tmp_path / 'long.pdf', [[f'On page {i} the meter showed {i * 7} kWh, which is a number of its own and stays here.'] * 3 for i in range(1, 2001)])
    d = parse_pdf(tmp_path / 'long.pdf')
    assert d.pages == 2000 and all(f'On page {i} the meter showed {i * 7} kWh' in d.sections[i - 1].paragraphs[0].text for i in (1, 777, 2000))


def test_docling_documents_take_the_same_shape():
    core = pytest.importorskip('docling_core.types.doc')
    d, box = core.DoclingDocument(name='x'), core.BoundingBox(l=0, t=0, r=1, b=1)
    at = lambda p: core.ProvenanceItem(page_no=p, bbox=box, charspan=(0, 1))
    d.add_heading('2 Results', prov=at(1))
    d.add_text(core.DocItemLabel.PAGE_HEADER, 'A running head', prov=at(1))
    d.add_text(core.DocItemLabel.TEXT, 'Training took 12 kWh. It was measured.', prov=at(1))
    caption = d.add_text(core.DocItemLabel.CAPTION, 'Table 1: Energy', prov=at(2))
    cell = lambda t, r, c, head=False: core.TableCell(text=t, start_row_offset_idx=r, end_row_offset_idx=r + 1, start_col_offset_idx=c, end_col_offset_idx=c + 1, column_header=head)
    d.add_table(core.TableData(num_rows=2, num_cols=2, table_cells=[cell('Model', 0, 0, True), cell('kWh', 0, 1, True), cell('BERT', 1, 0), cell('12', 1, 1)]), caption=caption, prov=at(2))
    sections = from_docling(d, 3)
    assert [len(s.paragraphs) for s in sections] == [2, 2, 0]
    assert [p.metadata['kind'] for s in sections for p in s.paragraphs] == ['heading', 'text', 'caption', 'table']
    row = sections[1].paragraphs[1]
    assert row.text == 'Table 1: Energy BERT: kWh: 12' and row.metadata['section'] == '2 Results' and [s.text for s in sections[0].paragraphs[1].sentences] == ['Training took 12 kWh.', 'It was measured.']


def test_docling_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'docling', None)
    with pytest.raises(UserError, match=r"wattnb\[docling\]"): build_corpus(workspace(tmp_path, {'a': ''}), parser='docling')
    with pytest.raises(UserError, match='unknown parser'): parse_pdf(data / 'pdfs/halvorsen2029.pdf', parser='dockling')


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


def test_accents_are_of_one_spelling_or_two_characters(tmp_path):
    ws = workspace(tmp_path, {'m\u00fcller2030': '', 'jose\u0301_2031': ''}); ws.pdfs.mkdir()
    (ws.pdfs / 'mu\u0308ller2030.pdf').write_bytes(PDF) # as some systems name files
    (ws.pdfs / 'jos\u00e9_2031.pdf').write_bytes((data / 'pdfs/okonjo2030.pdf').read_bytes())
    r = build_corpus(ws, fetch=False)
    assert not r.failed and [*r.ok] == ['m\u00fcller2030', 'jos\u00e9_2031']
    assert build_corpus(ws, fetch=False).parsed == 0


@pytest.mark.parametrize('text,why', [('id,url\n,x\n', ':2, column id: empty'), ('id\na\na\n', 'twice'), ('id\na/b\n', 'file name'), ('name\nx\n', 'no column id')])
def test_bad_bibliography_is_one_line(tmp_path, text, why):
    (tmp_path / 'm.csv').write_text(text)
    with pytest.raises(UserError, match=why): read_bibliography(tmp_path / 'm.csv')


def test_bibliography_of_wattbot_reads(tmp_path):
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


@settings(max_examples=150)
@given(st.text(max_size=300))
def test_sentences_lose_nothing(text):
    assert ' '.join(' '.join(split_sentences(text)).split()) == ' '.join(text.split())


@settings(max_examples=150)
@given(st.lists(words, max_size=6))
def test_joining_lines_keeps_every_letter(lines):
    assert ''.join(join_lines(lines).split()) == ''.join(''.join(lines).split())


@settings(max_examples=60)
@given(st.lists(st.tuples(st.text(max_size=30), st.none() | st.lists(st.text(max_size=20), max_size=3)), max_size=4))
def test_document_round_trip(ps):
    d = Document('d', 't', 'x', {'k': 1}, [Section('Page 1', [Paragraph(t, {'page': 1}, None if s is None else [Sentence(x) for x in s]) for t, s in ps], {'page': 1})])
    assert Document.from_json(json.loads(json.dumps(d.to_json()))) == d


kinds = st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2) | st.just({})
sentence = st.fixed_dictionaries({}, optional=dict(text=kinds, metadata=kinds)) | kinds
paragraph = st.fixed_dictionaries({}, optional=dict(text=st.text(max_size=20) | kinds, metadata=kinds, sentences=st.lists(sentence, max_size=2) | kinds)) | kinds
section = st.fixed_dictionaries({}, optional=dict(title=kinds, metadata=kinds, paragraphs=st.lists(paragraph, max_size=2) | kinds)) | kinds


@settings(max_examples=400)
@given(st.fixed_dictionaries({}, optional=dict(document_id=kinds, title=kinds, text=kinds, metadata=kinds, sections=st.lists(section, max_size=2) | kinds)))
def test_any_json_is_a_document_or_one_line(o):
    try: d = Document.from_json(o, 'x.json')
    except UserError as e: assert str(e).startswith('x.json: ') and '\n' not in str(e)
    else: assert Document.from_json(json.loads(json.dumps(d.to_json()))) == d


@settings(max_examples=200)
@given(st.lists(st.text(max_size=200), max_size=4))
def test_gate_never_crashes(pages):
    try: check_text(pages)
    except WorkError as e: assert '\n' not in str(e)


# --- whatever one paper brings, it is one line and the others go on ----------------------------------------------------------

@pytest.fixture
def odd_server():
    "Answers that never end, unpack to far more than they are, ask for odd waits, or lead elsewhere. (address, paths that were requested)."
    import gzip
    asked = []
    bomb = gzip.compress(b'%PDF-1.4\n' + b'0' * (64 << 20) + b'%%EOF')
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *a): pass
        def head(self, status, **headers):
            self.send_response(status)
            for k, v in headers.items(): self.send_header(k.replace('_', '-'), v)
            self.end_headers()
        def do_GET(self):
            asked.append(f'{self.client_address[0]} {self.headers["host"]} {self.path}')
            what = self.path.strip('/').split('.pdf')[0]
            try:
                if what == 'good': self.head(200, content_length=len(PDF)); self.wfile.write(PDF)
                elif what == 'packed': z = gzip.compress(PDF); self.head(200, content_encoding='gzip', content_length=len(z)); self.wfile.write(z)
                elif what == 'wait': self.head(429, retry_after='1.2.3', content_length=0)
                elif what == 'waits': self.head(503, retry_after='-5, Infinity', content_length=0)
                elif what == 'drip':
                    self.head(200)
                    while True: self.wfile.write(b'%'); self.wfile.flush(); time.sleep(.1)
                elif what == 'drip-head':
                    while True: self.wfile.write(b'H'); self.wfile.flush(); time.sleep(.1)
                elif what == 'endless':
                    self.head(200)
                    while True: self.wfile.write(b'%PDF-' * 20_000)
                elif what == 'bomb': self.head(200, content_encoding='gzip', content_length=len(bomb)); self.wfile.write(bomb)
                elif what == 'bombs': z = gzip.compress(bomb); self.head(200, content_encoding='gzip, gzip', content_length=len(z)); self.wfile.write(z)
                elif what == 'torn': self.head(200, content_encoding='gzip', content_length=9); self.wfile.write(b'123456789')
                elif what == 'round': self.head(302, location='/round.pdf', content_length=0)
                elif what == 'inside': self.head(302, location=f'http://127.0.0.2:{self.server.server_address[1]}/secret.pdf', content_length=0)
                elif what == 'file': self.head(302, location='file:///etc/passwd', content_length=0)
                elif what == 'nowhere': self.head(302, location='http://', content_length=0)
                elif what == 'tag': self.head(200, etag='x' * 5000, content_length=len(PDF)); self.wfile.write(PDF)
                else: self.head(404, content_length=0)
            except (BrokenPipeError, ConnectionResetError): pass
    s = ThreadingHTTPServer(('0.0.0.0', 0), Handler); s.daemon_threads = True
    threading.Thread(target=s.serve_forever, args=(.05,), daemon=True).start()
    yield f'http://127.0.0.1:{s.server_address[1]}', asked
    s.shutdown(); s.server_close()


def test_downloads_are_bounded_in_time_and_size(tmp_path, odd_server, monkeypatch):
    "Endless answers, drops of a byte, packed bombs, odd Retry-After headers and redirects without end: each is one line, the good paper is there."
    import wattnb.index.corpus
    monkeypatch.setattr(wattnb.index.corpus, 'MAX_PDF', 16 << 20)
    url, _ = odd_server
    names = 'wait waits drip drip-head endless bomb bombs torn round file nowhere good packed tag'.split()
    ws = workspace(tmp_path, {n: f'{url}/{n}.pdf' for n in names})
    papers = list(read_bibliography(ws.metadata).values())
    drips = [p for p in papers if p.id.startswith('drip')]
    got = {r.id: r for r in [*fetch_papers(ws, [p for p in papers if p not in drips], workers=20, retries=1), *fetch_papers(ws, drips, timeout=20, retries=1, seconds=2)]}
    for n in ('good', 'packed', 'tag'): assert got[n].path.read_bytes() == PDF, got[n]
    why = {'wait': 'HTTP 429', 'waits': 'HTTP 503', 'drip': 'after 2 s', 'drip-head': 'after 2 s', 'endless': 'larger than 16 MB', 'bomb': 'larger than 16 MB', 'bombs': 'packed as', 'round': 'redirects', 'file': 'not a web address'}
    for n, part in why.items(): assert got[n].path is None and part in got[n].reason and len(got[n].reason.splitlines()) == 1, got[n]
    for n in ('torn', 'nowhere'): assert got[n].path is None and got[n].reason


@pytest.mark.parametrize('host', ['127.0.0.1', '127.1', '2130706433', '0x7f000001', 'localhost', '[::1]', '[::ffff:127.0.0.1]', '0.0.0.0', '10.0.0.1', '192.168.1.1', '169.254.169.254', '[fe80::1]', '[64:ff9b::7f00:1]'])
def test_only_public_addresses_are_requested(tmp_path, odd_server, host, monkeypatch):
    "However loopback, private and link-local addresses are written, no request reaches them; --allow-local opens them."
    monkeypatch.delenv('WATTNB_ALLOW_LOCAL')
    for k in ('http_proxy', 'https_proxy', 'all_proxy', 'HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY'): monkeypatch.delenv(k, raising=False)
    url, asked = odd_server
    port = url.rpartition(':')[2]
    ws = workspace(tmp_path, {'a': f'http://{host}:{port}/good.pdf'})
    r = build_corpus(ws) # its only paper fails
    assert not asked and '--allow-local' in r.failed[0]['reason'] and len(r.failed[0]['reason'].splitlines()) == 1, r.failed
    if host in ('127.0.0.1', 'localhost'): assert list(build_corpus(ws, allow_local=True).ok) == ['a'] and asked


def test_a_redirect_into_a_private_network_is_not_followed(tmp_path, odd_server, monkeypatch):
    "Each redirect is checked again: 127.0.0.1 plays a public server here, 127.0.0.2 one of a private network."
    import wattnb.index.corpus
    monkeypatch.delenv('WATTNB_ALLOW_LOCAL')
    monkeypatch.setattr(wattnb.index.corpus, '_is_public', lambda a: a == '127.0.0.1')
    url, asked = odd_server
    r = fetch_papers(workspace(tmp_path, {}), [Paper('a', url=f'{url}/inside.pdf'), Paper('b', url=f'{url}/good.pdf')])
    assert '127.0.0.2' in r[0].reason and '--allow-local' in r[0].reason and r[1].path and not any('secret' in a for a in asked)


def test_a_pdf_that_takes_for_ever_is_one_line(tmp_path):
    "A PDF of some 100 kB whose pages show millions of pieces of text: its reading ends, the others are read."
    import zlib
    def heavy(path, stream):
        w = pypdf.PdfWriter()
        o = pypdf.generic.StreamObject()
        o._data = zlib.compress(stream, 9)
        o.update({pypdf.generic.NameObject('/Filter'): pypdf.generic.NameObject('/FlateDecode')})
        name, font = pypdf.generic.NameObject, pypdf.generic.DictionaryObject
        of_all, resources = w._add_object(o), font({name('/Font'): font({name('/F1'): font({name('/Type'): name('/Font'), name('/Subtype'): name('/Type1'), name('/BaseFont'): name('/Helvetica')})})})
        for _ in range(300): w.add_blank_page(200, 200).update({name('/Contents'): of_all, name('/Resources'): resources})
        w.write(path)
    ws = workspace(tmp_path, {'heavy': '', 'good': '', 'other': ''}); ws.pdfs.mkdir()
    heavy(ws.pdfs / 'heavy.pdf', b'BT /F1 12 Tf (abc) Tj ET\n' * 500_000)
    for n in ('good', 'other'): (ws.pdfs / f'{n}.pdf').write_bytes(PDF)
    assert (ws.pdfs / 'heavy.pdf').stat().st_size < 300_000
    r = build_corpus(ws, seconds=10)
    assert sorted(r.ok) == ['good', 'other'] and 'longer than 10 s' in r.failed[0]['reason']


def test_many_papers_are_read_by_several_processes(tmp_path, monkeypatch):
    "Documents, report and its order are those of one process; a paper that ends its process costs no other one; no process is left afterwards."
    import psutil
    from wattnb.index import corpus
    bad = {'b': b'<html>', 'k': b'%PDF-1.4\n1 0 obj\n<<>>\nendobj\n%%EOF'}
    def build(folder, n):
        folder.mkdir(); ws = workspace(folder, {**dict.fromkeys('zbckya', ''), **{f'p{i}': '' for i in range(12)}}); ws.pdfs.mkdir()
        for id_ in [*'zbckya', *(f'p{i}' for i in range(12))]: (ws.pdfs / f'{id_}.pdf').write_bytes(bad.get(id_, PDF))
        monkeypatch.setattr(corpus, '_processes', lambda *args: n)
        r = build_corpus(ws)
        return list(r.ok), r.failed, r.parsed, r.gates, {k: p.read_text() for k, p in r.ok.items()}
    one, three = build(tmp_path / 'one', 1), build(tmp_path / 'three', 3)
    assert one == three and one[0][:4] == ['z', 'c', 'y', 'a'] and [f['id'] for f in one[1]] == ['b', 'k'] and one[2] == 16
    assert not [p for p in psutil.Process().children() if '_read_for' in ' '.join(p.cmdline())]


def test_reading_that_is_interrupted_leaves_no_process(tmp_path, monkeypatch):
    import psutil
    from wattnb.index import corpus
    ws = workspace(tmp_path, {f'p{i}': '' for i in range(30)}); ws.pdfs.mkdir()
    for i in range(30): (ws.pdfs / f'p{i}.pdf').write_bytes(PDF)
    monkeypatch.setattr(corpus, '_processes', lambda *args: 3)
    def interrupted(work, *_):
        yield work[0]
        raise KeyboardInterrupt
    monkeypatch.setattr(corpus, 'progress', interrupted)
    with pytest.raises(KeyboardInterrupt): build_corpus(ws, fetch=False)
    assert not [p for p in psutil.Process().children() if '_read_for' in ' '.join(p.cmdline())]


def test_the_number_of_processes_follows_the_work():
    from wattnb.index.corpus import MAX_READERS, _processes
    assert _processes('pdfium', 14, 90_000) == 1 == _processes('docling', 5000, 1 << 32) and 1 <= _processes('pdfium', 5000, 1 << 32) <= MAX_READERS


def test_odd_papers_are_lines_of_the_report(tmp_path):
    "An id of 300 letters, a PDF whose /Info holds what is no dictionary, a JSON whose metadata has other types: every one is that paper's line or is read."
    odd = {f'info{i}': re.sub(rb'/Info \d+ 0 R', b'/Info ' + what, PDF) for i, what in enumerate([b'(abc)', b'7', b'[1 2]', b'1 0 R', b'999 0 R'])}
    ws = workspace(tmp_path, {'good': '', **dict.fromkeys(odd, ''), 'x' * 300: 'http://127.0.0.1:9/x.pdf', 'é' * 100: ''})
    ws.pdfs.mkdir(); ws.corpus.mkdir()
    for n, raw in {'good': PDF, **odd}.items(): (ws.pdfs / f'{n}.pdf').write_bytes(raw)
    r = build_corpus(ws)
    assert {'good', *odd} == set(r.ok) and sum('150 bytes' in f['reason'] for f in r.failed) == 2


anything = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8) | st.sampled_from(['3', '\ud800', 'x\n[y, page 1]']), lambda c: st.lists(c, max_size=2) | st.dictionaries(st.text(max_size=4), c, max_size=2), max_leaves=4)
meta = st.dictionaries(st.sampled_from(['page', 'section', 'kind', 'caption', 'caption_source', 'attachment_type', 'gate', 'pdf_sha256', 'parser', 'header', 'cells']), anything, max_size=4)


@settings(max_examples=150)
@given(meta, meta, meta, anything, st.booleans())
def test_odd_metadata_costs_one_paper(doc_meta, section_meta, paragraph_meta, title, with_sentences):
    "Whatever is in the metadata of one JSON document, the index is built of the others."
    import tempfile
    from wattnb.index.store import build_index, open_index
    with tempfile.TemporaryDirectory() as tmp:
        ws = workspace(Path(tmp) / 'w' if (Path(tmp) / 'w').mkdir() is None else None, {})
        ws.corpus.mkdir()
        put = lambda id_, **kw: (ws.corpus / f'{id_}.json').write_text(json.dumps(dict(document_id=id_, title='T', text='t', metadata={}, sections=[]) | kw))
        put('good', sections=[dict(title='Page 1', metadata=dict(page=1), paragraphs=[dict(text='Turbines gave 40 kWh of energy.', metadata={}, sentences=None)])])
        put('odd', title=title, metadata=doc_meta, sections=[dict(title=title, metadata=section_meta, paragraphs=[dict(text='Energy of 12 kWh was measured \ud800 there.', metadata=paragraph_meta,
            sentences=[dict(text='Energy.', metadata=paragraph_meta)] if with_sentences else None)])])
        corpus = build_corpus(ws)
        corpus.table().to_text()
        report = build_index(ws, embedder='none', corpus=corpus)
        ix = open_index(ws, 'none')
        assert 'good' in ix.doc_ids and all(len(f['reason'].splitlines()) == 1 for f in report.failed) and all(isinstance(u.section, str) and isinstance(u.page, int) for u in ix.units)


# --- web pages, pauses, the manifest -----------------------------------------------------------------------------------------

REPORT = '<html><head><title>Report</title></head><body><nav>Home</nav><main><h1>Power</h1>' + '<p>The hall at Asvik drew 26 MW in every hour of the year that was metered.</p>' * 20 + '</main></body></html>'


@pytest.fixture
def library():
    "A library: landing pages that name a PDF, a report as a web page, a server that asks to wait. (address, [(path, time, program)])."
    asked = []
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *a): pass
        def do_GET(self):
            asked.append((self.path, time.monotonic(), self.headers['user-agent']))
            landing = lambda to: f'<html><head><meta name="citation_pdf_url" content="{to}"></head><body>Abstract</body></html>'.encode()
            status, body, headers = {'/abs/a.v2': (200, landing('/pdf/a.v2'), {}), '/abs/wall': (200, landing('/report'), {}), '/abs/file': (200, landing('file:///etc/passwd'), {}),
                '/abs/again': (200, landing('/abs/a.v2'), {}), '/pdf/a.v2': (200, PDF, {}), '/pdf/b': (200, PDF, {}), '/report': (200, REPORT.encode(), {}), '/later': (429, b'', {'retry-after': '7200'}),
                '/later2': (200, PDF, {})}.get(self.path, (404, b'', {}))
            self.send_response(status)
            for k, v in {**headers, 'content-length': str(len(body))}.items(): self.send_header(k, v)
            self.end_headers(); self.wfile.write(body)
    s = ThreadingHTTPServer(('127.0.0.1', 0), Handler); s.daemon_threads = True
    threading.Thread(target=s.serve_forever, args=(.05,), daemon=True).start()
    yield f'http://127.0.0.1:{s.server_address[1]}', asked
    s.shutdown(); s.server_close()


def test_landing_pages_lead_to_their_pdf_and_reports_are_documents(tmp_path, library):
    url, asked = library
    ws = workspace(tmp_path, {'a': f'{url}/abs/a.v2', 'report': f'{url}/report', 'wall': f'{url}/abs/wall', 'file': f'{url}/abs/file', 'again': f'{url}/abs/again', 'gone': f'{url}/gone'})
    r = build_corpus(ws)
    assert sorted(r.ok) == ['a', 'report'] and (ws.pdfs / 'a.pdf').read_bytes() == PDF and sorted(p.name for p in ws.pdfs.iterdir()) == ['a.pdf', 'report.html']
    assert {program for _, _, program in asked} == {p for _, _, p in asked if p.startswith('wattnb/')}
    why = {f['id']: f['reason'] for f in r.failed}
    for id_, part in dict(wall='is an HTML page', file='not a web address', again='is an HTML page', gone='HTTP 404').items():
        assert part in why[id_] and f'data/pdfs/{id_}.pdf' in why[id_] and len(why[id_].splitlines()) == 1, why[id_]
    doc = load_document(ws.corpus / 'report.json')
    assert doc.pages == 1 and 'Asvik drew 26 MW' in doc.paragraphs[1].text and 'Home' not in doc.text and doc.paragraphs[1].metadata['section'] == 'Power'
    assert build_corpus(ws, fetch=False).parsed == 0, 'a web page that was read is up to date'
    (ws.pdfs / 'report.html').write_text(REPORT.replace('26 MW', '27 MW'))
    assert build_corpus(ws, fetch=False).parsed == 1 and '27 MW' in load_document(ws.corpus / 'report.json').text


def test_a_host_is_asked_with_pauses_and_left_alone_when_it_asks_to(tmp_path, library, monkeypatch):
    import wattnb.index.corpus as corpus
    monkeypatch.setitem(corpus.PAUSES, '127.0.0.1', .3)
    url, asked = library
    got = fetch_papers(workspace(tmp_path, {}), [Paper('a', url=f'{url}/abs/a.v2'), Paper('b', url=f'{url}/pdf/b')])
    times = sorted(t for _, t, _ in asked)
    assert all(r.path for r in got) and len(times) == 3 and times[-1] - times[0] > .5, 'pages, redirects and papers share the pause of their host'
    got = fetch_papers(Workspace(tmp_path), [Paper('src', url='https://arxiv.org/e-print/2401.00001')], allow_local=True) # refused before it is asked for
    assert got[0].reason.startswith('arXiv does not let programs fetch /e-print/2401.00001'), got
    monkeypatch.setitem(corpus.PAUSES, '127.0.0.1', 31.)
    assert corpus._Pace().least([f'{url}/a', f'{url}/b']) == (62., '127.0.0.1')
    monkeypatch.setitem(corpus.PAUSES, '127.0.0.1', .3)
    asked.clear()
    got = fetch_papers(Workspace(tmp_path), [Paper('c', url=f'{url}/later'), Paper('d', url=f'{url}/later2')], workers=1)
    assert 'asks to wait 7200 s' in got[0].reason and 'wattnb index' in got[1].reason and len(asked) == 1, (got, asked)


def test_the_manifest_says_what_was_fetched_and_verify_what_differs(tmp_path, library, capsys):
    from wattnb.cli.command import main
    from wattnb.index.corpus import read_manifest, verify_papers
    url, asked = library
    ws = workspace(tmp_path, {'a': f'{url}/abs/a.v2', 'b': f'{url}/pdf/b', 'report': f'{url}/report', 'hand': ''})
    ws.pdfs.mkdir(); (ws.pdfs / 'hand.pdf').write_bytes(PDF)
    assert not build_corpus(ws).failed and verify_papers(ws) == []
    m = read_manifest(ws)
    assert m['a']['url'] == f'{url}/abs/a.v2' and m['a']['pdf_url'] == f'{url}/pdf/a.v2' and m['report']['file'] == 'pdfs/report.html' and m['hand']['fetched'] is None and m['a']['fetched'].startswith('20')
    n = len(asked)
    build_corpus(ws)
    assert len(asked) == n and read_manifest(ws) == m, 'each paper is fetched once'
    (ws.pdfs / 'b.pdf').write_bytes(PDF + b'\n'); (ws.pdfs / 'hand.pdf').unlink()
    write_csv(ws.metadata, ['id', 'url'], [dict(id='a', url=f'{url}/abs/a.v3'), dict(id='b', url=f'{url}/pdf/b'), dict(id='hand', url=''), dict(id='new', url=f'{url}/pdf/b')])
    assert main(['index', '--verify', '--root', str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [l.split(':')[0] for l in lines[1:]] == ['a', 'b', 'hand', 'new', 'report'] and 'has changed since 20' in lines[2] and 'pins' in lines[1] and 'data/pdfs/hand.pdf' in lines[3]
    assert main(['index', '--verify', '--json', '--root', str(tmp_path)]) == 1 and json.loads(capsys.readouterr().out)['ok'] is False
    ws.manifest.write_text('{"papers": {"a": 1}}')
    assert main(['index', '--verify', '--root', str(tmp_path)]) == 2 and 'is not a manifest' in capsys.readouterr().err


def test_an_interrupted_fetch_goes_on_with_what_is_missing(tmp_path, library):
    from wattnb.index.corpus import read_manifest
    url, asked = library
    ws = workspace(tmp_path, {'a': f'{url}/pdf/a.v2', 'b': f'{url}/pdf/b'})
    fetch_papers(ws, [Paper('a', url=f'{url}/pdf/a.v2')])
    assert list(read_manifest(ws)) == ['a'], 'a paper is in the manifest as soon as it is there'
    assert sorted(build_corpus(ws).ok) == ['a', 'b'] and [p for p, _, _ in asked] == ['/pdf/a.v2', '/pdf/b']


@settings(max_examples=150)
@given(st.lists(st.sampled_from(['<p>', '</p>', '<table>', '<tr>', '<td>', '</td>', '<th>', '</table>', '<main>', '<br>', '<!--', '-->', '<script>', '</script>', '<h2>References</h2>', '<article>', '</main>', '&nbsp;', 'Energy of 12 kWh. ', '\ud800', '\x00', '<p hidden>', '<meta name=citation_pdf_url content=x>']), max_size=25))
def test_odd_web_pages_never_crash_and_lose_no_plain_text(parts):
    from wattnb.index.documents import html_paragraphs, linked_pdf
    html = ''.join(parts)
    title, ps = html_paragraphs(html.encode('utf-8', 'replace'))
    assert all(p.text == ' '.join(p.text.split()) != '' and p.metadata['page'] == 1 for p in ps) and linked_pdf(html.encode('utf-8', 'replace'), 'http://a.example/b') in ('', 'http://a.example/x')
    if '<' not in html: assert ' '.join(p.text for p in ps).split() == html.replace('&nbsp;', ' ').replace('\x00', '\ufffd').split() or not html.isprintable()


def test_a_deep_web_page_is_read_in_linear_time(tmp_path):
    "Forty thousand elements inside one another, each with text; what is no page is one line."
    from wattnb.index.documents import html_paragraphs, look_at_page
    deep = b'<div>' * 20_000 + b'<b>words of a page ' * 20_000
    t0 = time.process_time()
    assert sum(len(p.text.split()) for p in html_paragraphs(deep)[1]) == 80_000 and time.process_time() - t0 < 30
    assert look_at_page(REPORT.encode(), 'http://a.example') == ('', 321)
    with pytest.raises(WorkError, match='not read within'): look_at_page(deep * 20, 'http://a.example', seconds=.5)
