import { Validator } from '@seriousme/openapi-schema-validator';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { fieldsOf } from '../../../src/lib/fields-of.js';

/** It compiles the schema of OpenAPI once. */
const validator = new Validator();

/** What is wrong with an OpenAPI document: its structure, its references, and every JSON Schema in it. */
export async function documentProblems(document: object): Promise<unknown[]> {
  // As it is sent.
  const sent: Record<string, unknown> = JSON.parse(JSON.stringify(document));
  const { valid, errors } = await validator.validate(structuredClone(sent));
  // The structure says nothing about the schemas: their dialect is a document's own affair.
  return [...(valid ? [] : [errors]), ...schemaProblems(sent)];
}

/** A validator that knows the schemas of the document, and refuses keywords and combinations that JSON Schema does not have. */
export function validatorOf(document: object): Ajv2020 {
  const ajv = new Ajv2020({
    strict: true,
    // Null is allowed by a list of types, and maps need not name the fields that they require.
    strictTypes: false,
    strictRequired: false,
    strictTuples: false,
    validateFormats: false,
    allErrors: true,
  });
  const { schemas } = fieldsOf(fieldsOf(document).components);
  // Holds the others, which are checked where they are referred to.
  ajv.addKeyword('components');
  // Extensions, as tools know them by their prefix: how the command line shows a result.
  ajv.addVocabulary(['x-column', 'x-display']);
  ajv.addSchema({ $id: 'document', components: { schemas } }, undefined, false, false);
  return ajv;
}

/** A schema of a document whose references are to those of `validatorOf`. */
export function inDocument(schema: unknown): object {
  return JSON.parse(JSON.stringify(schema).replaceAll('"#/components/', '"document#/components/'));
}

function schemaProblems(document: Record<string, unknown>): unknown[] {
  const ajv = validatorOf(document);
  return schemasIn(document).flatMap((schema) => {
    try {
      ajv.compile(inDocument(schema));
      return [];
    } catch (error) {
      return [`${String(error)}: ${JSON.stringify(schema).slice(0, 200)}`];
    }
  });
}

/** All schemas of a document, of components and elsewhere. */
export function schemasIn(document: Record<string, unknown>): unknown[] {
  const { schemas } = fieldsOf(document.components);
  return [...Object.values(fieldsOf(schemas)), ...inlineSchemas(document)];
}

function inlineSchemas(value: unknown): unknown[] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, each]) => {
    // What a schema contains is checked with it.
    if (key === 'schemas') return [];
    return key === 'schema' ? [each] : inlineSchemas(each);
  });
}
