import { globMatcher } from '../api/grammar.js';
import type { AccessDecision, AccessPolicy, AccessQuestion } from '../core/access-policy.js';
import { callerMatcher } from './caller-pattern.js';
import { neededRule } from './needed-rule.js';
import type { PolicyFile, PolicyRule } from './policy-definition.js';

type Allowed = Extract<AccessDecision, { allowed: true }>;
type Question = Pick<AccessQuestion, 'caller' | 'action' | 'cluster'>;

interface Rule {
  readonly name: string;
  readonly isFor: (question: Question) => boolean;
  /** Undefined: it is for every unit. */
  readonly units: readonly string[] | undefined;
  readonly hasUnit: (unit: string) => boolean;
}

/** The rules for one caller, action and cluster. */
interface Grant {
  readonly rules: readonly Rule[];
  /** Those of them that are for every unit. */
  readonly whole: readonly Rule[];
  /** The decision when a rule allows it. The scope is that of all the rules together. */
  readonly allowedBy: ReadonlyMap<Rule, Allowed>;
}

/** For how many callers, actions and clusters the rules are remembered. */
const MAX_GRANTS = 5_000;

/** What a policy file says, prepared so that a decision is cheap. */
export class Policy implements AccessPolicy {
  readonly #rules: readonly Rule[];
  readonly #grants = new Map<string, Grant>();

  constructor({ rules }: PolicyFile) {
    this.#rules = rules.map(compiled);
  }

  get ruleCount(): number {
    return this.#rules.length;
  }

  decide(question: AccessQuestion): AccessDecision {
    const grant = this.#grantOf(question);
    const rule = ruleThatAllows(grant, question);
    return (rule && grant.allowedBy.get(rule)) ?? { allowed: false, needed: neededRule(question) };
  }

  /** The names of the rules that are for it, in the order of the file; with units, those that are for one of them. */
  rulesFor(question: AccessQuestion): string[] {
    return applicable(this.#grantOf(question), question).map(({ name }) => name);
  }

  /** The names of the rules that are for this caller, action and cluster, and for some units only. */
  rulesOfUnits(question: Question): string[] {
    return this.#grantOf(question).rules.flatMap(({ name, units }) => (units === undefined ? [] : [name]));
  }

  #grantOf(question: Question): Grant {
    const { caller, action, cluster } = question;
    // No part but the last may contain a line break: neither action nor key, and of vouchers there are four.
    const key = `${action.name}\n${cluster?.key ?? ''}\n${caller.verifiedBy ?? ''}\n${caller.name}`;
    const known = this.#grants.get(key);
    if (known !== undefined) return known;
    const grant = grantOf(this.#rules.filter((rule) => rule.isFor(question)));
    if (this.#grants.size >= MAX_GRANTS) this.#grants.clear();
    this.#grants.set(key, grant);
    return grant;
  }
}

function compiled({ name, callers, actions, effects, clusters, units }: PolicyRule, index: number): Rule {
  const isCaller = anyOf(callers.map(callerMatcher));
  const isAction = actions && anyOf(actions.map(globMatcher));
  const isCluster = clusters && anyOf(clusters.map(globMatcher));
  return {
    name: name ?? `rule ${index + 1}`,
    isFor: ({ caller, action, cluster }) =>
      isCaller(caller) &&
      (isAction === undefined ? effects?.includes(action.effect) === true : isAction(action.name)) &&
      (isCluster === undefined || (cluster?.name !== undefined && isCluster(cluster.name))),
    units,
    hasUnit: units === undefined ? () => true : anyOf(units.map(globMatcher)),
  };
}

function anyOf<T>(tests: readonly ((value: T) => boolean)[]): (value: T) => boolean {
  return (value) => tests.some((test) => test(value));
}

function grantOf(rules: readonly Rule[]): Grant {
  const whole = rules.filter(({ units }) => units === undefined);
  // Sorted, so that equal reads of callers with the same scope share runs.
  const units =
    whole.length > 0 ? undefined : [...new Set(rules.flatMap((rule) => rule.units ?? []))].toSorted();
  return {
    rules,
    whole,
    allowedBy: new Map(rules.map((rule) => [rule, Object.freeze({ allowed: true, rule: rule.name, units })])),
  };
}

/** The first rule that allows it; undefined: none does, or none for one of its units. */
function ruleThatAllows(grant: Grant, question: AccessQuestion): Rule | undefined {
  const { units } = question;
  const rules = applicable(grant, question);
  if (units.length === 0) return grant.whole[0] ?? rules[0];
  return units.every((unit) => rules.some((rule) => rule.hasUnit(unit))) ? rules[0] : undefined;
}

function applicable({ rules, whole }: Grant, { action, units, unitMarks }: AccessQuestion): readonly Rule[] {
  if (units.length > 0) return rules.filter((rule) => units.some((unit) => rule.hasUnit(unit)));
  // A read shows only the units of its scope. A change asks about what a pattern names; one that could name a unit, and names
  // none, may be about every unit.
  const isScoped = unitMarks === 'patterns' || (unitMarks === 'names' && action.effect === 'read');
  return isScoped ? rules : whole;
}
