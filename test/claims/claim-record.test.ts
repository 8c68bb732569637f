import test from 'ava';
import {
  decodeRecord,
  encodeRecord,
  replyOf,
  type StoredReply,
  storedReply,
} from '../../src/claims/claim-record.js';
import type { Reply } from '../../src/core/call.js';

const RECORD = { state: 'settled', worker: 'w', run: 'r', action: 'act', repeated: false } as const;

/** What a caller gets of a reply that was in the store. */
function fromStore(reply: Reply): Reply | undefined {
  const settled: StoredReply | undefined = decodeRecord(
    encodeRecord({ ...RECORD, settled: storedReply(reply) }),
  )?.settled;
  return settled && replyOf(settled);
}

test('a reply from the store is the reply as it was sent first', (t) => {
  for (const reply of [
    { status: 'completed', body: { text: 'é', numbers: [1.5, -0.25, 2n ** 70n], none: null } },
    { status: 'completed', body: null },
    { status: 'completed', body: 'x'.repeat(65_000) },
    { status: 'completed', body: {}, details: { warnings: ['one is missing'] } },
    { status: 'error', body: { errors: ['one', 'two'], code: 'unit_not_found', details: { unit: 'a' } } },
  ] as const satisfies Reply[])
    t.deepEqual(fromStore(reply as Reply), reply as Reply);
});

test('a result that JSON leaves out is null from the store too', (t) => {
  for (const body of [undefined, { toJSON: () => undefined }])
    t.deepEqual(fromStore({ status: 'completed', body }), { status: 'completed', body: null });
});

test('of a reply of more than 64 KB the store has what came of the change', (t) => {
  const text = 'x'.repeat(65_536);
  t.like(fromStore({ status: 'completed', body: text }), {
    status: 'error',
    body: { code: 'answer_too_large', details: { limit: 65_536 } },
  });
  const failed = fromStore({ status: 'error', body: { errors: [text], code: 'unit_failed' } });
  t.like(failed, { status: 'error', body: { code: 'unit_failed' } });
  t.regex(JSON.stringify(failed?.body), /The change has failed/);
});
