import type { Planned, SentTo } from './ledger.js';

const OPS = { name: 'ops', verifiedBy: 'broker' } as const;
const WEB = { name: 'web-team', verifiedBy: 'broker' } as const;
const NOBODY = { name: 'anonymous', verifiedBy: undefined } as const;
const CI = { name: 'ci', verifiedBy: 'token' } as const;
const DEPLOY = { name: 'deploy', verifiedBy: 'token' } as const;

/** The names of the callers of the load who have a user on the broker. */
export const USERS = ['ops', 'web-team', 'legacy'] as const;
/** The names of those with a token for the gateway. */
export const TOKENS = ['ci', 'deploy'] as const;

/** `web-team` may work on other units under the new policy, and the callers with tokens change places. */
export const POLICIES = {
  old: `
rules:
  - { name: operators, callers: ["broker:ops"], effects: [read, change] }
  - { name: web, callers: ["broker:web-team"], effects: [read, change], clusters: [prod], units: ["web@*.service"] }
  - { name: pipeline, callers: ["token:ci"], actions: [look, peek, rotate, set_units, no_such_action] }
  - { name: deploy, callers: ["token:deploy"], effects: [read] }
  - { name: as before, callers: [anonymous], effects: [read] }
`,
  new: `
rules:
  - { name: operators, callers: ["broker:ops"], effects: [read, change] }
  - { name: web, callers: ["broker:web-team"], effects: [read, change], clusters: [prod], units: ["api@*.service"] }
  - { name: pipeline, callers: ["token:ci"], actions: [look, peek] }
  - { name: deploy, callers: ["token:deploy"], effects: [read, change] }
  - { name: as before, callers: [anonymous], actions: [list_machines] }
`,
} as const;

/** No policy: its second rule cannot be read. */
export const BROKEN_POLICY = `${POLICIES.new}  - { callers: ["*"], effects: [everything] }\n`;

const TIMED_OUT_MS = 400;

export interface LoadOptions {
  /** The cluster by its name, by its token, and one that discovery does not know. */
  named: SentTo;
  byToken: SentTo;
  unknown: SentTo;
  /** A secret parameter. */
  secret: string;
  /** A number of this part of the load; each part restarts units of its own. */
  part: number;
}

/** One part of the load: each kind of request at least once. */
export function partOfLoad({ named, byToken, unknown, secret, part }: LoadOptions): Planned[] {
  const web = `web@${part}.service`;
  let units = 0;
  /** A unit that no other request names: few may wait for the same one. */
  const another = (kind: 'web' | 'api') => `${kind}@${part}-${units++}.service`;
  const secrets = { password: secret, pepper: secret };
  const both = (...outcomes: string[]) => ({ old: outcomes, new: outcomes });
  const under = (before: string, after: string) => ({ old: [before], new: [after] });
  const amqp = { caller: OPS, door: 'amqp', encoding: 'json', wantsReply: true, reach: 'admitted' } as const;
  const erlang = { ...amqp, encoding: 'erlang' } as const;
  const webTeam = { ...amqp, caller: WEB } as const;
  const nobody = { ...amqp, caller: NOBODY } as const;
  const ci = { ...amqp, caller: CI, door: 'http' } as const;
  const deploy = { ...ci, caller: DEPLOY } as const;
  const look = { action: 'look', effect: 'read' } as const;
  const peek = { action: 'peek', effect: 'read' } as const;
  const rotate = { action: 'rotate', effect: 'change', parameters: secrets } as const;
  const machines = { action: 'list_machines', effect: 'read', cluster: named } as const;
  const list = { action: 'list_units', effect: 'read', cluster: named } as const;
  const set = (...of: string[]) =>
    ({
      action: 'set_units',
      effect: 'change',
      cluster: named,
      units: of,
      parameters: { units: of },
    }) as const;
  const aboutUnit = (action: string, effect: 'read' | 'change', unit: string) => ({
    action,
    effect,
    cluster: named,
    units: [unit],
    parameters: { unit_name: unit },
  });
  const refused = { reach: 'checked' } as const;
  const unserved = { action: 'no_such_action', effect: undefined, ...refused } as const;
  const invalid = { ...amqp, action: undefined, effect: undefined, reach: 'invalid' } as const;
  return [
    { ...amqp, ...look, outcomes: both('completed') },
    { ...erlang, ...look, outcomes: both('completed') },
    ...Array.from({ length: 4 }, () => ({ ...amqp, ...peek, outcomes: both('completed') })),
    { ...erlang, ...peek, outcomes: both('completed') },
    { ...ci, ...peek, outcomes: both('completed') },
    { ...amqp, ...machines, cluster: byToken, outcomes: both('completed') },
    { ...erlang, ...list, outcomes: both('completed') },
    { ...amqp, ...machines, cluster: unknown, outcomes: both('cluster_not_found') },
    { ...amqp, ...aboutUnit('unit_logs', 'read', `db@${part}.service`), outcomes: both('completed') },
    { ...erlang, ...aboutUnit('unit_logs', 'read', 'none.service'), outcomes: both('unit_not_found') },
    { ...amqp, ...aboutUnit('restart_unit', 'change', `db@${part}.service`), outcomes: both('completed') },
    { ...amqp, ...rotate, outcomes: both('completed') },
    { ...erlang, ...rotate, outcomes: both('completed') },
    { ...amqp, ...rotate, wantsReply: false, outcomes: both('completed') },
    { ...amqp, ...set(another('api'), another('web')), cluster: byToken, outcomes: both('completed') },
    { ...amqp, ...set(another('web')), action: 'fail', outcomes: both('unit_failed') },
    { ...erlang, action: 'break', effect: 'change', outcomes: both('internal') },
    { ...amqp, ...look, action: 'slow', timeout: TIMED_OUT_MS, outcomes: both('timeout') },
    {
      ...amqp,
      action: 'slow_change',
      effect: 'change',
      timeout: TIMED_OUT_MS,
      // On a slow machine its time is up before it has begun.
      outcomes: both('outcome_unknown', 'timeout'),
    },

    // Refused by a check, also where the policy would deny it.
    { ...amqp, ...unserved, outcomes: both('unknown_action') },
    { ...nobody, ...unserved, encoding: 'erlang', outcomes: both('unknown_action') },
    { ...amqp, ...unserved, action: 7, outcomes: both('invalid_request') },
    { ...amqp, ...look, ...refused, wantsReply: false, outcomes: both('invalid_request') },
    { ...amqp, ...look, ...refused, timeout: 'soon', outcomes: both('invalid_request') },
    { ...amqp, ...look, ...refused, parameters: { password: secret }, outcomes: both('invalid_parameters') },
    { ...erlang, ...set('no unit'), ...refused, units: [], outcomes: both('invalid_parameters') },
    { ...ci, ...rotate, ...refused, parameters: { pepper: [secret] }, outcomes: both('invalid_parameters') },

    // Only some units, and no action that knows none.
    { ...webTeam, ...list, outcomes: both('completed') },
    { ...webTeam, ...look, outcomes: both('forbidden') },
    { ...webTeam, ...rotate, outcomes: both('forbidden') },
    { ...webTeam, ...set(another('web')), outcomes: under('completed', 'forbidden') },
    { ...webTeam, ...set(another('api')), encoding: 'erlang', outcomes: under('forbidden', 'completed') },
    { ...webTeam, ...set(another('api'), another('web')), outcomes: both('forbidden') },
    { ...webTeam, ...set(another('web')), cluster: unknown, outcomes: both('forbidden') },
    { ...webTeam, ...aboutUnit('unit_logs', 'read', web), outcomes: under('completed', 'forbidden') },
    { ...webTeam, ...aboutUnit('restart_unit', 'change', web), outcomes: under('completed', 'forbidden') },

    // Nobody has verified who sends these.
    { ...nobody, ...look, outcomes: under('completed', 'forbidden') },
    { ...nobody, ...machines, encoding: 'erlang', outcomes: both('completed') },
    {
      ...nobody,
      ...set(another('web')),
      headers: { 'x-caller': 'ops', 'x-caller-verified-by': 'broker', 'x-door': 'http' },
      outcomes: both('forbidden'),
    },

    { ...ci, ...look, outcomes: both('completed') },
    { ...ci, ...rotate, outcomes: under('completed', 'forbidden') },
    { ...ci, ...set(another('web')), outcomes: under('completed', 'forbidden') },
    { ...ci, ...aboutUnit('restart_unit', 'change', web), outcomes: both('forbidden') },
    { ...deploy, ...look, outcomes: both('completed') },
    { ...deploy, ...rotate, outcomes: under('forbidden', 'completed') },
    { ...deploy, ...list, outcomes: both('completed') },

    // Answered by the gateway alone.
    { ...ci, ...look, caller: NOBODY, reach: 'gateway', outcomes: both('forbidden') },
    { ...ci, ...look, body: '{', reach: 'gateway', outcomes: both('invalid_request') },

    // No requests.
    { ...invalid, body: `not a request`, outcomes: both('invalid_request') },
    { ...invalid, body: JSON.stringify({ request_body: 1 }), outcomes: both('invalid_request') },
    {
      ...invalid,
      body: JSON.stringify({
        status: 'completed',
        request_body: { action: 'rotate', etcd_token: byToken.sent, action_parameters: secrets },
      }),
      outcomes: both('invalid_request'),
    },
  ];
}
