import type { Schema } from './check-by-schema.js';

/** The most bytes of a policy file: what people write has a hundredth of it. */
export const MAX_POLICY_BYTES = 256 * 1024;
const MAX_RULES = 500;
const MAX_PATTERNS = 100;

/** One rule of a policy file. It allows; nothing denies but that no rule allows. */
export interface PolicyRule {
  readonly name?: string;
  readonly callers: readonly string[];
  /** Either these or `effects`. */
  readonly actions?: readonly string[];
  readonly effects?: readonly ('read' | 'change')[];
  readonly clusters?: readonly string[];
  readonly units?: readonly string[];
}

export interface PolicyFile {
  readonly rules: readonly PolicyRule[];
}

const patterns = (description: string, pattern: string, form: string): Schema => ({
  type: 'array',
  description,
  minItems: 1,
  maxItems: MAX_PATTERNS,
  items: { type: 'string', pattern, form },
});

/** What a policy file may contain. `schemas/policy.schema.json` is this. */
export const POLICY_SCHEMA: Schema = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  title: 'Policy of fleet-manager',
  type: 'object',
  description: 'Which callers may do what. What no rule allows is denied.',
  required: ['rules'],
  additionalProperties: false,
  properties: {
    $schema: { type: 'string', description: 'The place of this schema, for editors.' },
    rules: {
      type: 'array',
      description: 'The rules; their order does not matter. An empty list denies everything.',
      maxItems: MAX_RULES,
      items: {
        type: 'object',
        required: ['callers'],
        additionalProperties: false,
        oneOf: [{ required: ['actions'] }, { required: ['effects'] }],
        properties: {
          name: {
            type: 'string',
            description:
              'The name of the rule, for the audit and `policy check`; by default its place, such as `rule 3`.',
            pattern: '^(?!rule [0-9])[A-Za-z0-9][A-Za-z0-9 ._/-]{0,63}$',
            form: 'must be 1 to 64 letters, digits, spaces or . _ / -, and not such as `rule 3`',
          },
          callers: patterns(
            'Who may do it: names, with `*` for any text and `?` for one character, also after `broker:`, `token:`, `manager:` or `service:`, which say who has verified the name. `anonymous` and `manager` match only when they are written so.',
            '^(?:(?:broker|token|manager|service):[^\\u0000-\\u001f]{1,255}|[^:\\u0000-\\u001f]{1,255})$',
            'must be a name or a pattern of names, also after broker:, token:, manager: or service:; a name with a colon needs one of these before it',
          ),
          actions: patterns(
            'The actions: names, or patterns with `*` and `?`.',
            '^[a-z0-9_*?]{1,64}$',
            'must be the name of an action, or a pattern such as list_*',
          ),
          effects: {
            type: 'array',
            description: 'In place of `actions`: all actions with such an effect.',
            minItems: 1,
            maxItems: 2,
            items: { type: 'string', enum: ['read', 'change'] },
          },
          clusters: patterns(
            'Only on clusters with such a name in CLUSTERS_FILE: names, or patterns with `*` and `?`. Without it: on every cluster, and without one.',
            '^[A-Za-z0-9_*?-]{1,128}$',
            'must be the name of a cluster in CLUSTERS_FILE, or a pattern such as prod-*',
          ),
          units: patterns(
            'Only for such units: names, or patterns with `*` and `?`. Without it: for every unit, and for actions that know no units.',
            '^[0-9A-Za-z:\\-_.\\\\@*?]{1,256}$',
            'must be the name of a unit, or a pattern such as web@*.service',
          ),
        },
      },
    },
  },
};
