import type { ActionDescription } from '../core/action-description.js';
import { docComment, typeOfSchema } from './schema-type.js';

/** The members of an interface that has the types of these actions by name, as `KnownActions` of `fleet-manager/client`. */
export function actionMembers(actions: readonly ActionDescription[], margin = ''): string {
  const inner = `${margin}  `;
  return actions
    .map(
      ({ name, summary, parameters, result }) =>
        `${docComment(summary, margin)}${margin}${name}: {\n` +
        `${inner}parameters: ${typeOfSchema(parameters, inner)};\n` +
        `${docComment(result.description, inner)}${inner}result: ${typeOfSchema(result, inner)};\n` +
        `${margin}};\n`,
    )
    .join('');
}

/** A declaration file that adds these actions to those whose types the client knows. */
export function clientTypes(actions: readonly ActionDescription[]): string {
  return `// Written by \`fleet-manager actions --types\`. It gives \`client.call\` the types of these actions.

export {};

declare module 'fleet-manager/client' {
  interface KnownActions {
${actionMembers(actions, '    ')}  }
}
`;
}
