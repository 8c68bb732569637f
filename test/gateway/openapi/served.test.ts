import test from 'ava';
import { httpTokens } from '../../access/http-tokens-of.js';
import { DESCRIPTIONS, openGateway } from '../open-gateway.js';

const TOKEN = '0123456789abcdef';

test('the document names what the gateway serves, and is made once', async (t) => {
  let described = 0;
  const describe = () => {
    described++;
    return DESCRIPTIONS;
  };
  const { url } = await openGateway(t, undefined, { describe });
  const first = await fetch(`${url}/openapi.json`);
  t.is(first.status, 200);
  t.is(first.headers.get('content-type'), 'application/json; charset=utf-8');
  t.is(first.headers.get('cache-control'), 'no-cache');
  const text = await first.text();
  t.deepEqual(Object.keys(JSON.parse(text).paths), [
    '/v1/actions/look',
    '/v1/actions/change',
    '/v1/actions',
    '/openapi.json',
    '/livez',
    '/readyz',
  ]);
  t.is(await (await fetch(`${url}/openapi.json`)).text(), text);
  t.is(described, 1);
  const head = await fetch(`${url}/openapi.json`, { method: 'HEAD' });
  t.is(head.headers.get('content-length'), String(Buffer.byteLength(text)));
  t.is((await fetch(`${url}/openapi.json`, { method: 'PUT' })).headers.get('allow'), 'GET, HEAD');
});

test('a caller that has the document does not get it again', async (t) => {
  const { url } = await openGateway(t);
  const etag = (await fetch(`${url}/openapi.json`)).headers.get('etag') ?? '';
  t.regex(etag, /^"[\w-]{43}"$/);
  for (const [known, status] of [
    [etag, 304],
    [`W/${etag}`, 304],
    [`"other", ${etag}`, 304],
    ['*', 304],
    ['"other"', 200],
    [etag.replaceAll('"', ''), 200],
    ['', 200],
  ] as const) {
    const response = await fetch(`${url}/openapi.json`, { headers: { 'if-none-match': known } });
    t.is(response.status, status, known);
    t.is(response.headers.get('etag'), etag);
    t.is((await response.text()) === '', status === 304);
  }
  const other = await openGateway(t, undefined, { describe: () => DESCRIPTIONS.slice(1) });
  t.not((await fetch(`${other.url}/openapi.json`)).headers.get('etag'), etag);
});

test('whoever may not see the catalogue may not see the document', async (t) => {
  const { authenticate } = httpTokens({ token: TOKEN });
  const { url } = await openGateway(t, undefined, { authenticate });
  t.is((await fetch(`${url}/openapi.json`)).status, 401);
  t.is((await fetch(`${url}/openapi.json`, { headers: { 'if-none-match': '*' } })).status, 401);
  const headers = { authorization: `Bearer ${TOKEN}` };
  const response = await fetch(`${url}/openapi.json`, { headers });
  t.like(await response.json(), { security: [{ bearer: [] }] });
});
