import test from 'ava';
import fc from 'fast-check';
import { prefersProblem } from '../../src/gateway/problem.js';

const PROBLEM = 'application/problem+json';

for (const [accept, wanted] of [
  [undefined, false],
  ['', false],
  ['*/*', false],
  ['application/*', false],
  ['application/json', false],
  ['text/html', false],
  [PROBLEM, true],
  ['Application/Problem+JSON', true],
  [`${PROBLEM};q=0`, false],
  [`${PROBLEM};q=0.001`, true],
  // It accepts both equally well, and names this one.
  [`application/json, ${PROBLEM}`, true],
  [`${PROBLEM}, */*`, true],
  [`application/json, ${PROBLEM};q=0.9`, false],
  [`application/json;q=0.9,${PROBLEM}`, true],
  [`application/json ; q=0.9 , ${PROBLEM} ; q=0.8`, false],
  [`${PROBLEM};q=0.5, */*;q=0.1`, true],
  [`${PROBLEM};q=0.1, */*;q=0.5`, false],
  ['application/json;q=0.5, application/*', true],
  ['application/json;q=0, */*', true],
  [`${PROBLEM};q=0, */*`, false],
  // Nothing else than a number from 0 to 1, with three places at most, is a quality.
  [`${PROBLEM};q=2`, false],
  [`${PROBLEM};q=0.1234`, false],
  [`${PROBLEM};q=`, false],
  [`${PROBLEM};q=high, application/json;q=0.1`, false],
  // A comma or a semicolon in quotes separates nothing.
  [`application/json;profile="a, ${PROBLEM}"`, false],
  [`application/json;profile="a\\", ${PROBLEM}"`, false],
  [`${PROBLEM};profile="a;q=0"`, true],
  [`${PROBLEM};charset=utf-8`, true],
  [`text/*;q=0.3, ${PROBLEM};q=0.7, text/html;level=1, */*;q=0.5`, true],
  [`,,${PROBLEM},`, true],
] as const)
  test(`Accept: ${accept ?? 'not sent'} ${wanted ? 'asks for' : 'does not ask for'} problem details`, (t) => {
    t.is(prefersProblem(accept), wanted);
  });

test('a type that is named alone is the preferred one exactly when its quality is not 0', (t) => {
  const quality = fc.integer({ min: 0, max: 1_000 });
  fc.assert(
    fc.property(quality, quality, (problem, json) => {
      const accept = `application/json;q=${json / 1_000}, ${PROBLEM};q=${problem / 1_000}`;
      t.is(prefersProblem(accept), problem > 0 && problem >= json, accept);
    }),
  );
});

test('any header can be read', (t) => {
  const part = fc.oneof(fc.constantFrom(',', ';', '"', '\\', '/', 'q=', '0.5', '*/*', PROBLEM), fc.string());
  fc.assert(
    fc.property(fc.array(part), (parts) => {
      t.is(typeof prefersProblem(parts.join('')), 'boolean');
    }),
  );
});
