import test, { type ExecutionContext } from 'ava';
import { connect, MechanismNotOffered } from '../../src/rpc/patched-amqplib.js';
import { listenForLogins } from '../support/amqp-handshake.js';

async function refusal(t: ExecutionContext, answers: Parameters<typeof listenForLogins>[1]) {
  const { port } = await listenForLogins(t, answers);
  return t.throwsAsync(connect(`amqp://guest:guest@127.0.0.1:${port}/x`));
}

test('a broker that does not offer the mechanism of a login is an error that says which ones it offers', async (t) => {
  for (const [mechanisms, said] of [
    ['EXTERNAL', 'EXTERNAL'],
    ['AMQPLAIN  RABBIT-CR-DEMO', 'AMQPLAIN, RABBIT-CR-DEMO'],
    ['', 'none'],
  ] as const) {
    const error = await refusal(t, { mechanisms });
    t.true(error instanceof MechanismNotOffered);
    t.is(error?.message, `the broker offers ${said}`);
  }
});

test("a virtual host that is refused is an error with the broker's own reason, and any other has its own", async (t) => {
  const mechanisms = 'EXTERNAL PLAIN';
  const text = 'NOT_ALLOWED - vhost x not found';
  t.is((await refusal(t, { mechanisms, refusal: text }))?.message, text);
  const login = await refusal(t, { mechanisms, loginRefusal: 'ACCESS_REFUSED - no' });
  t.regex(login?.message ?? '', /^Handshake terminated by server: .*ACCESS_REFUSED - no/);
  const other = await refusal(t, { mechanisms });
  t.false(other instanceof MechanismNotOffered);
  t.regex(other?.message ?? '', /closed/i);
});
