import { readFile } from 'node:fs/promises';
import test from 'ava';
import { validate, ValidationSeverity } from 'dockerfile-utils';
import { inRepository } from '../support/repository.js';

test('a linter has nothing to say about the Dockerfile', async (t) => {
  const { WARNING: severity } = ValidationSeverity;
  const problems = validate(await readFile(inRepository('Dockerfile'), 'utf8'), {
    deprecatedMaintainer: severity,
    directiveCasing: severity,
    emptyContinuationLine: severity,
    instructionCasing: severity,
    instructionCmdMultiple: severity,
    instructionEntrypointMultiple: severity,
    instructionHealthcheckMultiple: severity,
    instructionJSONInSingleQuotes: severity,
    instructionWorkdirRelative: severity,
  });
  t.deepEqual(
    problems.map(({ range, message }) => [range.start.line + 1, message]),
    [],
  );
});
