import test from 'ava';
import { checkHttpTokens } from '../../src/commands/check-http-tokens.js';

const NOW = Date.UTC(2026, 0, 15);
const DAY_MS = 24 * 60 * 60_000;

test('tokens that have expired, or will within 14 days, are a warning', (t) => {
  const tokens = [
    { name: 'always', expires: undefined },
    { name: 'now', expires: NOW },
    { name: 'soon', expires: NOW + 1 },
    { name: 'later', expires: NOW + 14 * DAY_MS },
    { name: 'far', expires: NOW + 14 * DAY_MS + 1 },
  ];
  t.deepEqual(checkHttpTokens(tokens, NOW), {
    result: 'warning',
    lines: [
      'HTTP_TOKENS_FILE has 5 tokens',
      'expired: now (2026-01-15T00:00:00.000Z)',
      'expires within 14 days: soon (2026-01-15T00:00:00.001Z), later (2026-01-29T00:00:00.000Z)',
      '-> give these callers new tokens, or remove the entries',
    ],
  });
});

test('tokens that do not expire soon are fine', (t) => {
  const tokens = [
    { name: 'always', expires: undefined },
    { name: 'far', expires: NOW + 15 * DAY_MS },
  ];
  t.deepEqual(checkHttpTokens(tokens, NOW), { result: 'ok', lines: ['HTTP_TOKENS_FILE has 2 tokens'] });
});
