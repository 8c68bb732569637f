import specs from '@asyncapi/specs';
import { Ajv } from 'ajv';
import addFormats from 'ajv-formats';
import { fieldsOf } from '../../../src/lib/fields-of.js';

const ajv = new Ajv({ strict: false, allErrors: true });
addFormats.default(ajv);
/** AsyncAPI's own JSON Schema of a document, with its bindings. */
const isDocument = ajv.compile(specs.schemasWithoutId['3.0.0']);

/** What is wrong with an AsyncAPI document: its structure, its references, and every JSON Schema in it. */
export function documentProblems(document: object): unknown[] {
  // As it is printed.
  const printed: Record<string, unknown> = JSON.parse(JSON.stringify(document));
  isDocument(printed);
  return [
    ...(isDocument.errors ?? []),
    ...referencesIn(printed).filter((each) => resolved(printed, each) === undefined),
    ...schemaProblems(printed),
  ];
}

/** Whether a value is as this schema of the document says; the problems as text. */
export function mismatch(document: object, schema: unknown, value: unknown): string {
  const validator = validatorOf(document);
  return validator.validate(inDocument(schema), value) ? '' : validator.errorsText();
}

/** The part of the document that a reference names. */
export function resolved(document: object, reference: string): unknown {
  return reference
    .slice('#/'.length)
    .split('/')
    .reduce<unknown>((part, name) => fieldsOf(part)[name], document);
}

/** Like the validator of a document's user, but it refuses what draft 07 does not have. */
function validatorOf(document: object): Ajv {
  const validator = new Ajv({
    strict: true,
    strictTypes: false,
    strictTuples: false,
    validateFormats: false,
    allErrors: true,
  });
  // Holds the others, which are checked where they are referred to.
  validator.addKeyword('components');
  // Extensions, as tools know them by their prefix: how the command line shows a result.
  validator.addVocabulary(['x-column', 'x-display']);
  const { schemas } = fieldsOf(fieldsOf(document).components);
  return validator.addSchema({ $id: 'document', components: { schemas } }, undefined, false, false);
}

function inDocument(schema: unknown): object {
  return JSON.parse(JSON.stringify(schema).replaceAll('"#/components/', '"document#/components/'));
}

function schemaProblems(document: Record<string, unknown>): string[] {
  const validator = validatorOf(document);
  return schemasIn(document).flatMap((schema) => {
    try {
      validator.compile(inDocument(schema));
      return [];
    } catch (error) {
      return [`${String(error)}: ${JSON.stringify(schema).slice(0, 200)}`];
    }
  });
}

function schemasIn({ components }: Record<string, unknown>): unknown[] {
  const { schemas, messages, messageTraits } = fieldsOf(components);
  const ofMessages = [...Object.values(fieldsOf(messages)), ...Object.values(fieldsOf(messageTraits))];
  return [
    ...Object.values(fieldsOf(schemas)),
    ...ofMessages.flatMap((message) => {
      const { payload, headers, 'x-amqp-properties': properties } = fieldsOf(message);
      return [payload, headers, properties].filter((each) => each !== undefined);
    }),
  ];
}

function referencesIn(value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, each]) =>
    key === '$ref' && typeof each === 'string' ? [each] : referencesIn(each),
  );
}
