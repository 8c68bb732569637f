import type { Policy } from '../access/policy.js';
import { ANONYMOUS, type Caller, MANAGER, type Voucher } from '../api/caller.js';
import { Cluster, CLUSTER_TOKEN } from '../api/cluster.js';
import { isUnitName } from '../api/grammar.js';
import { clustersFileOf, describeActions } from '../composition.js';
import type { AccessDecision, AccessQuestion } from '../core/access-policy.js';
import type { PreparedAction } from '../core/prepare-action.js';
import { closestMatch } from '../lib/closest-match.js';
import { reasonOf } from '../lib/errors.js';
import { printable } from '../lib/printable.js';
import { ConfigurationError } from '../settings/configuration-error.js';
import type { ConfigurationSource } from '../settings/given-settings.js';
import { readConfiguration } from '../settings/read-configuration.js';
import type { Configuration } from '../settings/settings.js';
import { print as printOut } from './output.js';
import { UsageError } from './usage-error.js';

export interface PolicyCheckArguments {
  caller: string;
  /** Who has verified the name; the broker by default. */
  verifiedBy?: Voucher;
  action: string;
  /** A name in CLUSTERS_FILE, or an etcd token. */
  cluster?: string;
  /** The cluster when none is named, for an action that takes one. */
  standardCluster?: string;
  unit?: string[];
  json?: boolean;
}

/** Without a policy. */
const UNRESTRICTED: AccessDecision = { allowed: true, rule: 'no policy', units: undefined };

/**
 * Prints what the policy decides about a request, and why.
 * @returns the exit code: 0 when it is allowed, 1 when it is denied
 * @throws UsageError, ConfigurationError
 */
export async function policyCheck(
  given: PolicyCheckArguments,
  source: ConfigurationSource,
  print: (text: string) => void = printOut,
): Promise<number> {
  const configuration = readConfiguration(source);
  const { clusters, policyFile } = configuration;
  const action = await actionOf(given, configuration);
  const question: AccessQuestion = {
    caller: callerOf(given),
    action: action.description,
    cluster: clusterOf(given, action, clusters),
    units: unitsOf(given, action),
    unitMarks: action.unitMarks,
  };
  const policy = policyFile === undefined ? undefined : await policyIn(policyFile);
  const decision = policy?.decide(question) ?? UNRESTRICTED;
  const matched = policy?.rulesFor(question) ?? [];
  const hints = policy === undefined || decision.allowed ? [] : hintsFor(given, question, policy);
  print(
    given.json
      ? `${JSON.stringify(asJson(decision, matched), null, 2)}\n`
      : textOf(decision, matched) + hints.map((each) => `-> ${printable(each)}\n`).join(''),
  );
  return decision.allowed ? 0 : 1;
}

async function policyIn(file: string): Promise<Policy> {
  const [{ Policy }, { readPolicy }, { readTextFile }] = await Promise.all([
    import('../access/policy.js'),
    import('../access/read-policy.js'),
    import('../lib/text-file.js'),
  ]);
  try {
    return new Policy(readPolicy(readTextFile(file)));
  } catch (cause) {
    throw new ConfigurationError([`POLICY_FILE cannot be used: ${reasonOf(cause)}`]);
  }
}

async function actionOf(
  { action: name }: PolicyCheckArguments,
  { plugins, environment, watchdogSeconds }: Configuration,
): Promise<PreparedAction> {
  const catalogue = await describeActions({ plugins, environment, watchdogSeconds });
  const action = catalogue.find(name);
  if (action !== undefined) return action;
  const names = catalogue.describe().map((each) => each.name);
  const close = closestMatch(name, names);
  throw new UsageError(
    `unknown action '${name}'; ${close === undefined ? `the actions are ${names.join(', ')}` : `did you mean ${close}?`}`,
  );
}

function callerOf({ caller: name, verifiedBy }: PolicyCheckArguments): Caller {
  if (verifiedBy === undefined && name === ANONYMOUS.name) return ANONYMOUS;
  if (verifiedBy === MANAGER.verifiedBy || (verifiedBy === undefined && name === MANAGER.name))
    return MANAGER;
  return { name, verifiedBy: verifiedBy ?? 'broker' };
}

function clusterOf(
  { cluster, standardCluster }: PolicyCheckArguments,
  { description: { name, target } }: PreparedAction,
  clusters: Configuration['clusters'],
): Cluster | undefined {
  const given = cluster ?? (target === 'none' ? undefined : standardCluster);
  if (given === undefined) {
    if (target === 'cluster') throw new UsageError(`${name} runs against a cluster: give --cluster`);
    return undefined;
  }
  if (target === 'none') throw new UsageError(`${name} uses no cluster: leave --cluster out`);
  if (!CLUSTER_TOKEN.test(given))
    throw new UsageError('--cluster must be a name in CLUSTERS_FILE, or an etcd token');
  const { tokens, names } = clustersFileOf(clusters);
  const token = tokens.get(given) ?? given;
  return new Cluster(token, undefined, names.get(token));
}

function unitsOf(
  { unit: units = [] }: PolicyCheckArguments,
  { description, unitMarks }: PreparedAction,
): string[] {
  if (units.length > 0 && unitMarks === 'none')
    throw new UsageError(`${description.name} knows no units: leave --unit out`);
  const wrong = units.find((each) => !isUnitName(each));
  if (wrong !== undefined) throw new UsageError(`--unit ${wrong} is not the name of a unit: NAME.TYPE`);
  return [...new Set(units)].toSorted();
}

/** What else to ask, when another request of the same kind is allowed. */
function hintsFor(
  { verifiedBy, unit = [] }: PolicyCheckArguments,
  question: AccessQuestion,
  policy: Policy,
): string[] {
  const { caller, unitMarks } = question;
  const ofUnits = unit.length === 0 && unitMarks !== 'none' ? policy.rulesOfUnits(question) : [];
  const others =
    verifiedBy === undefined && caller.verifiedBy === 'broker'
      ? OTHER_VOUCHERS.filter(
          (each) => policy.decide({ ...question, caller: { ...caller, verifiedBy: each } }).allowed,
        )
      : [];
  return [
    ...(ofUnits.length === 0
      ? []
      : [
          `for some units it is allowed, by ${ofUnits.join(', ')}: name those of the request with --unit NAME`,
        ]),
    ...others.map(
      (each) =>
        `the broker has verified this caller; one that a ${each} has verified is allowed: --verified-by ${each}`,
    ),
  ];
}

/** Who else gives callers names of their own. */
const OTHER_VOUCHERS: readonly Voucher[] = ['token', 'service'];

function asJson(decision: AccessDecision, matched: readonly string[]): object {
  return decision.allowed
    ? { decision: 'allowed', rule: decision.rule, matched, units: decision.units ?? null }
    : { decision: 'denied', needed: decision.needed, matched };
}

function textOf(decision: AccessDecision, matched: readonly string[]): string {
  const also = matched.length === 0 ? '' : `rules    ${matched.join(', ')}\n`;
  if (!decision.allowed) return printable(`denied   ${decision.needed}`) + `\n${also}`;
  if (decision === UNRESTRICTED) return 'allowed  POLICY_FILE is not set: every caller may do everything\n';
  return `allowed  by ${decision.rule}\n${also}units    ${decision.units?.join(', ') ?? 'all'}\n`;
}
