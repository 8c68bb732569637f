import test from 'ava';
import fc from 'fast-check';
import { ERROR_CODES } from '../../../src/api/error-codes.js';
import { describeActions } from '../../../src/composition.js';
import type { ActionDescription } from '../../../src/core/action-description.js';
import { prepareAction } from '../../../src/core/prepare-action.js';
import { HTTP_STATUSES, httpStatusOf } from '../../../src/gateway/http-status.js';
import { openApiDocument } from '../../../src/gateway/openapi/document.js';
import { fieldsOf } from '../../../src/lib/fields-of.js';
import { defineAction } from '../../../src/plugin.js';
import { readConfiguration } from '../../../src/settings/read-configuration.js';
import { objectSchemaOf, schemaOf, shape, shapeAndValue } from '../../core/any-schema.js';
import { DESCRIPTION } from '../../support/action-description.js';
import { documentProblems, inDocument, validatorOf } from './document-problems.js';

const NO_TOKENS = { ofCallers: false, ofMetrics: false };

const builtIn = describeActions(readConfiguration({ env: {}, directory: '/nonexistent' }));

/** The document of a service without tokens and metrics. */
function documentOf(actions: readonly ActionDescription[], tokens = NO_TOKENS, hasMetrics = false) {
  return JSON.parse(JSON.stringify(openApiDocument({ actions, tokens, hasMetrics })));
}

test('the document of the actions of the service is valid, with and without tokens and metrics', async (t) => {
  const actions = (await builtIn).describe();
  for (const ofCallers of [false, true])
    for (const ofMetrics of [false, true])
      for (const hasMetrics of [false, true]) {
        const document = openApiDocument({ actions, tokens: { ofCallers, ofMetrics }, hasMetrics });
        t.deepEqual(await documentProblems(document), [], `${ofCallers} ${ofMetrics} ${hasMetrics}`);
      }
});

test('a document that is not valid is found out', async (t) => {
  const { paths, components, ...rest } = documentOf([DESCRIPTION]);
  const { schemas } = components;
  for (const broken of [
    { ...rest, components, paths: { ...paths, 'no slash': {} } },
    { ...rest, components, paths: { '/x': { get: { responses: { 200: {} } } } } },
    { ...rest, paths, components: { ...components, responses: {} } },
    { ...rest, paths, components: { ...components, schemas: { ...schemas, look_result: { type: 'text' } } } },
    {
      ...rest,
      paths,
      components: { ...components, schemas: { ...schemas, look_result: { minLength: -1 } } },
    },
    { ...rest, paths, components: { ...components, schemas: { ...schemas, look_result: { maximal: 1 } } } },
    {
      ...rest,
      paths,
      components: { ...components, schemas: { ...schemas, look_result: { pattern: '[\\w-.]' } } },
    },
  ])
    t.not((await documentProblems(broken)).length, 0, JSON.stringify(broken).slice(-200));
});

test('the document is valid whatever schemas the actions declare', async (t) => {
  const shapes = fc.array(fc.tuple(shapeAndValue, shape), { minLength: 20, maxLength: 20 });
  const property = fc.asyncProperty(shapes, async (declared) => {
    const actions = declared.map(([[parameters], result], index) => {
      const action = defineAction({
        name: `wild_${index}`,
        summary: 'Any.',
        target: 'optional',
        effect: 'change',
        parameters: objectSchemaOf(parameters),
        result: schemaOf(result),
        handle: async () => {
          throw new Error('it is only described');
        },
      });
      return prepareAction(action, () => undefined, { parametersName: 'action_parameters' }).description;
    });
    t.deepEqual(await documentProblems(documentOf(actions)), []);
  });
  await fc.assert(property, { numRuns: 10 });
});

test('each error code is described at its status, in the envelope and as a problem', (t) => {
  const { responses } = documentOf([DESCRIPTION]).components;
  for (const [code, { summary }] of Object.entries(ERROR_CODES)) {
    const { description, content } = responses[`Error${HTTP_STATUSES[code as keyof typeof ERROR_CODES]}`];
    t.true(description.includes(`- \`${code}\`: ${summary}`), code);
    t.deepEqual(Object.keys(content), ['application/json', 'application/problem+json']);
    for (const { schema } of Object.values<{ schema: unknown }>(content))
      t.true(JSON.stringify(schema).includes(`"${code}"`), code);
  }
  t.deepEqual(Object.keys(responses['Error401'].headers), ['x-request-id', 'www-authenticate']);
});

test("a plugin's own code may come with the status that its name gives it, and with no other", (t) => {
  const document = documentOf([DESCRIPTION]);
  const ajv = validatorOf(document);
  for (const code of ['disk_not_found', 'invalid_mode', 'disk_full'])
    for (const [name, response] of Object.entries<{ content: Record<string, { schema: unknown }> }>(
      document.components.responses,
    )) {
      const schema = inDocument(response.content['application/json']?.schema);
      const reply = { status: 'error', response_body: { errors: ['no'], code } };
      // Any code may come with 500.
      const expected = name === `Error${httpStatusOf(code)}` || name === 'Error500';
      t.is(ajv.validate(schema, reply), expected, `${name} ${code}`);
    }
});

test('a call has the body that the gateway accepts for its action', (t) => {
  const needing = { type: 'object', properties: { a: { type: 'string' } }, required: ['a'] };
  for (const [target, parameters, required] of [
    ['cluster', {}, ['etcd_token']],
    ['cluster', needing, ['etcd_token', 'action_parameters']],
    ['optional', {}, undefined],
    ['none', needing, ['action_parameters']],
  ] as const) {
    const { paths } = documentOf([{ ...DESCRIPTION, target, parameters }]);
    const { schema } = paths['/v1/actions/look'].post.requestBody.content['application/json'];
    t.deepEqual(schema.required, required);
    t.deepEqual(
      Object.keys(schema.properties),
      target === 'none' ? ['action_parameters'] : ['etcd_token', 'action_parameters'],
    );
    t.false(schema.additionalProperties);
    t.deepEqual([schema.properties.etcd_token?.type].flat().includes('null'), target === 'optional');
  }
});

test('operations have the names of their actions, their effects as tags, and headers that callers may send', (t) => {
  const change: ActionDescription = { ...DESCRIPTION, name: 'mend', effect: 'change', redelivery: 'refuse' };
  const { paths } = documentOf([DESCRIPTION, change]);
  const [look, mend] = ['look', 'mend'].map((name) => paths[`/v1/actions/${name}`].post);
  t.like(look, { operationId: 'look', tags: ['read'], summary: 'Looks.' });
  t.like(mend, { operationId: 'mend', tags: ['change'] });
  t.regex(look.description, /^Changes nothing\. One run may take 1 s\. It runs again/);
  t.regex(mend.description, /^Changes the cluster\. One run may take 1 s\. It is not run again/);
  t.deepEqual(
    look.parameters.map(({ $ref }: { $ref: string }) => $ref.split('/').at(-1)),
    ['timeout-ms', 'x-request-id', 'traceparent', 'tracestate'],
  );
  const ids = Object.values(paths).flatMap((path) =>
    Object.values(fieldsOf(path)).map((operation) => fieldsOf(operation).operationId),
  );
  t.is(new Set(ids).size, ids.length);
});

test('tokens are asked for where they are configured, and never for the health', (t) => {
  const open = documentOf([DESCRIPTION], NO_TOKENS, true);
  t.is(open.security, undefined);
  t.is(open.components.securitySchemes, undefined);
  t.is(open.paths['/v1/actions/look'].post.responses[401], undefined);
  const closed = documentOf([DESCRIPTION], { ofCallers: true, ofMetrics: true }, true);
  t.deepEqual(closed.security, [{ bearer: [] }]);
  t.like(closed.components.securitySchemes, { bearer: { type: 'http', scheme: 'bearer' } });
  t.deepEqual(closed.paths['/metrics'].get.security, [{ metrics: [] }]);
  for (const path of ['/livez', '/readyz']) t.deepEqual(closed.paths[path].get.security, []);
  t.deepEqual(closed.paths['/v1/actions/look'].post.responses[401], {
    $ref: '#/components/responses/Error401',
  });
  const ofMetrics = documentOf([DESCRIPTION], { ofCallers: false, ofMetrics: true }, true);
  t.is(ofMetrics.security, undefined);
  t.true('401' in ofMetrics.paths['/metrics'].get.responses);
  t.false('/metrics' in documentOf([DESCRIPTION]).paths);
});
