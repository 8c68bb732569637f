import type { Scenario } from './scenario.js';
import { broker } from './scenarios/broker.js';
import { kills } from './scenarios/kills.js';

export const SCENARIOS: readonly Scenario[] = [kills, broker];
